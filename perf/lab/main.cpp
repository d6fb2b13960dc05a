// longspan-lab: runs a command once per rank on an emulated network. See docs/lab.md.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <fstream>

#include "base/units.hpp"
#include "lab/launcher.hpp"
#include "lab/report.hpp"

namespace {

using namespace longspan;
using namespace longspan::lab;

constexpr int kBadInput = 1;
constexpr int kInvalidRun = 3;

struct Arguments {
  std::string topology;
  std::string json;
  std::string port = "auto";
  std::string prefix = "all";
  std::string grace = "30s";
  std::string timeout = "30min";
  std::vector<std::string> faults;
  std::vector<std::string> command;
  NetworkOptions network;
  std::uint64_t seed = 1;
  int ranks_per_host = 1;
  bool no_offload = false;
  bool no_realtime = false;
  bool quiet = false;
  bool allow_invalid = false;
};

void say(const std::string& line) { write_fully(STDERR_FILENO, "lab: " + line + "\n"); }

/// Gives every problem the same shape and exit code.
int fail(const Status& status) {
  say(std::string("error: ") + std::string(status.message()));
  return kBadInput;
}

Status bad_option(std::string_view option, std::string_view found, std::string_view expected) {
  return Status(StatusCode::kInvalidArgument, fmt::format("{}: found \"{}\", expected {}", option, found, expected));
}

Result<Duration> time_option(std::string_view option, const std::string& text) {
  const auto time = parse_time(text);
  if (!time.ok()) return time.status().with_context(option);
  return std::chrono::duration_cast<Duration>(*time);
}

Result<LaunchOptions> launch_options(const Arguments& arguments) {
  LaunchOptions options;
  options.command = arguments.command;
  options.ranks_per_host = arguments.ranks_per_host;
  const auto prefix = parse_prefix_mode(arguments.prefix);
  if (!prefix) return bad_option("--prefix", arguments.prefix, "all, others or none");
  options.prefix = *prefix;
  LONGSPAN_ASSIGN(options.grace, time_option("--grace", arguments.grace));
  LONGSPAN_ASSIGN(options.timeout, time_option("--timeout", arguments.timeout));
  const std::unique_ptr<char, decltype(&std::free)> absolute(::realpath(arguments.topology.c_str(), nullptr),
                                                             &std::free);
  options.topology_path = absolute ? absolute.get() : arguments.topology;
  return options;
}

Result<WanOptions> wan_options(const Arguments& arguments, const Topology& topology) {
  WanOptions options;
  const auto port = parse_port_kind(arguments.port);
  if (!port) return bad_option("--wan-port", arguments.port, "auto, tun or packet");
  options.port = *port;
  options.seed = arguments.seed;
  options.offload = !arguments.no_offload;
  options.realtime = !arguments.no_realtime;
  for (const std::string& fault : arguments.faults) {
    LONGSPAN_ASSIGN(const auto changes, parse_fault(fault, topology));
    options.changes.insert(options.changes.end(), changes.begin(), changes.end());
  }
  return options;
}

Status write_report(const Arguments& arguments, const Topology& topology, const Report& report) {
  if (!arguments.quiet || !reasons_invalid(report).empty()) {
    for (const std::string& line : report_lines(topology, report)) say(line);
  }
  if (arguments.json.empty()) return {};
  std::ofstream file(arguments.json);
  file << report_json(topology, report);
  file.close();
  return file ? Status() : system_error("write " + arguments.json, errno);
}

Result<int> run(const Arguments& arguments) {
  LONGSPAN_ASSIGN(const Topology topology, load_topology(arguments.topology));
  LONGSPAN_ASSIGN(LaunchOptions launch, launch_options(arguments));
  LONGSPAN_ASSIGN(WanOptions wan_settings, wan_options(arguments, topology));
  block_signals();
  LONGSPAN_ASSIGN(const Privileges privileges, acquire_network_privileges());
  LONGSPAN_ASSIGN(const Network network, Network::build(topology, arguments.network));
  for (const std::string& omission : network.omissions()) say("note: " + omission);
  LONGSPAN_ASSIGN(const auto wan, Wan::create(network, std::move(wan_settings)));
  LONGSPAN_TRY(wan->start());
  LONGSPAN_ASSIGN(ProcessTree tree, ProcessTree::create());

  const TimePoint started = Clock::now();
  const MachineTime before = MachineTime::now();
  Launcher launcher(network, tree, std::move(launch));
  LONGSPAN_TRY(launcher.start());
  wan->start_changes(Clock::now());
  Report report;
  report.exit_code = launcher.wait();
  report.wall = Clock::now() - started;
  const MachineTime after = MachineTime::now();
  if (after.all > before.all) {
    report.stolen_share =
        static_cast<double>(after.stolen - before.stolen) / static_cast<double>(after.all - before.all);
  }
  report.user_namespace = privileges.user_namespace;
  report.wan = wan->stop();
  for (std::size_t r = 0; r < topology.regions.size(); ++r) {
    LONGSPAN_ASSIGN(auto traffic, network.traffic(static_cast<int>(r)));
    report.regions.push_back(traffic);
  }
  for (std::size_t i = 0; i < report.wan.uplinks.size(); ++i) {
    const int region = network.delayed_uplinks()[i / 2].region;
    report.regions[static_cast<std::size_t>(region)].dropped_packets += report.wan.uplinks[i].dropped_packets;
  }
  tree.kill_all();
  LONGSPAN_TRY(write_report(arguments, topology, report));
  if (report.exit_code != 0) return report.exit_code;
  return arguments.allow_invalid || reasons_invalid(report).empty() ? 0 : kInvalidRun;
}

void add_options(CLI::App& command, Arguments& arguments) {
  command.add_option("--topology", arguments.topology, "Topology file (docs/topology.md)")->required();
  command.add_option("--ranks-per-host", arguments.ranks_per_host, "Ranks on each host")->check(CLI::Range(1, 1024));
  command
      .add_option("--fault", arguments.faults,
                  "\"at=2s wan=eu:us down=5s\"; instead of down: rate=100Mbit/s, loss=0.01, delay=50ms with for=TIME; "
                  "both for both directions; may be given several times")
      ->expected(1)
      ->take_all();
  command.add_option("--mtu", arguments.network.mtu, "Bytes of an IP packet")->check(CLI::Range(1280, 65000));
  command.add_option("--wan-port", arguments.port, "How packets reach the emulated WAN: auto, tun or packet");
  command.add_option("--prefix", arguments.prefix,
                     "Lines that start with \"[rank] \": all, others (than rank 0's), none");
  command.add_option("--grace", arguments.grace, "Time the other ranks have when one has failed");
  command.add_option("--timeout", arguments.timeout, "Time for the whole run");
  command.add_option("--json", arguments.json, "Also writes the counters to this file");
  command.add_option("--seed", arguments.seed, "Seed of random loss");
  command.add_flag("--no-offload", arguments.no_offload, "Take every packet from the kernel by itself: slower");
  command.add_flag("--no-realtime", arguments.no_realtime, "Do not ask for real-time scheduling");
  command.add_flag("--allow-invalid", arguments.allow_invalid,
                   "Exit code 0 though the run is invalid: for what tests behaviour and not speed");
  command.add_flag("--quiet", arguments.quiet, "No report at the end, unless the run is invalid");
}

}  // namespace

int main(int argc, char* argv[]) {
  // What follows "--" belongs to the command, whatever it looks like.
  char** const separator =
      std::find_if(argv, argv + argc, [](const char* word) { return std::string_view(word) == "--"; });
  Arguments arguments;
  if (separator != argv + argc) arguments.command.assign(separator + 1, argv + argc);

  CLI::App app(
      "Runs a command once per rank on an emulated network: one network namespace per host of a topology, "
      "every link with its rate, delay, buffer and loss.",
      "longspan-lab");
  app.require_subcommand(1);
  CLI::App* const run_command = app.add_subcommand("run", "longspan-lab run --topology T.toml [options] -- CMD...");
  add_options(*run_command, arguments);
  try {
    app.parse(static_cast<int>(separator - argv), argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kBadInput;
  }
  if (arguments.command.empty()) {
    return fail(Status(StatusCode::kInvalidArgument, "no command: end the line with `-- CMD...`"));
  }
  const auto code = run(arguments);
  return code.ok() ? *code : fail(code.status());
}
