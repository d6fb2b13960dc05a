#include "harness/settings.hpp"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <sstream>

namespace longspan::perf {
namespace {

std::uint64_t size_argument(const std::string& text) {
  std::size_t used = 0;
  const double number = std::stod(text, &used);
  double unit = 1;
  if (used < text.size()) {
    switch (text[used]) {
      case 'k': case 'K': unit = 1024.0; break;
      case 'm': case 'M': unit = 1024.0 * 1024; break;
      case 'g': case 'G': unit = 1024.0 * 1024 * 1024; break;
      default: throw CLI::ValidationError("'" + text + "': expected bytes with K, M or G (powers of 1024)");
    }
    if (used + 1 < text.size()) {
      throw CLI::ValidationError("'" + text + "': expected bytes with K, M or G (powers of 1024)");
    }
  }
  if (!(number >= 0) || number * unit > 1e15) throw CLI::ValidationError("'" + text + "': not a sensible size");
  return static_cast<std::uint64_t>(number * unit);
}

void add_size(CLI::App& app, const std::string& names, std::uint64_t& to, const std::string& help) {
  app.add_option_function<std::string>(names, [&to](const std::string& text) { to = size_argument(text); }, help);
}

/// nccl-tests' flags that cannot mean anything here are refused unless they ask for what is so anyway.
void add_refused(CLI::App& app, const std::string& names, int accepted, const std::string& reason) {
  app.add_option_function<int>(
      names, [accepted, names, reason](int value) {
        if (value != accepted) throw CLI::ValidationError(names, reason);
      }, "only " + std::to_string(accepted) + ": " + reason);
}

template <class Enum, std::size_t N, class Parse>
std::vector<Enum> one_or_all(const std::string& text, const Parse& parse, const char* what) {
  if (text == "all") {
    std::vector<Enum> all;
    for (std::size_t i = 0; i < N; ++i) all.push_back(static_cast<Enum>(i));
    return all;
  }
  const auto one = parse(text);
  if (!one) throw CLI::ValidationError("'" + text + "' is not a " + what);
  return {*one};
}

void add_options(CLI::App& app, Settings& s) {
  add_size(app, "-b,--minbytes", s.min_bytes, "least size to start with (32M)");
  add_size(app, "-e,--maxbytes", s.max_bytes, "largest size (32M)");
  add_size(app, "-i,--stepbytes", s.step_bytes, "added between sizes (1M)");
  app.add_option("-f,--stepfactor", s.step_factor, "multiplied between sizes (off)");
  app.add_option("-n,--iters", s.iterations, "timed iterations (20)")->check(CLI::Range(1, 1000000));
  app.add_option("-w,--warmup_iters", s.warmup, "untimed iterations before (5)")->check(CLI::Range(0, 1000000));
  app.add_option("-m,--agg_iters", s.aggregate, "operations per timed iteration (1)")->check(CLI::Range(1, 100000));
  app.add_option("-N,--run_cycles", s.cycles, "repeat the list of sizes (1)")->check(CLI::Range(1, 100000));
  app.add_option("-c,--check", s.checks, "check results, 0: no (1)")->check(CLI::Range(0, 1000));
  app.add_option_function<std::string>("-o,--op", [&s](const std::string& text) {
    s.ops = one_or_all<ReduceOp, kReduceOpCount>(text, parse_reduce_op, "reduction: sum prod min max avg mulsum all");
  }, "sum, prod, min, max, avg, mulsum or all (sum)");
  app.add_option_function<std::string>("-d,--datatype", [&s](const std::string& text) {
    s.types = one_or_all<DataType, kDataTypeCount>(text, parse_data_type,
        "type: int8 uint8 int32 uint32 int64 uint64 half bfloat16 float double f8e4m3 f8e5m2 all");
  }, "element type or all (float)");
  app.add_option_function<std::string>("-r,--root", [&s](const std::string& text) {
    s.root = text == "all" ? -1 : std::stoi(text);
  }, "root rank or all (0)");
  app.add_option("-T,--timeout", s.timeout_seconds, "seconds until an operation fails (the library's default)");
  app.add_option_function<int>(
      "-R,--local_register", [&s](int value) { s.register_buffers = value != 0; }, "1: register the buffers (0)");
  app.add_option_function<std::string>(
         "--memory", [&s](const std::string& text) { s.heap = text == "heap"; },
         "alloc: buffers that peers on the host read in place; heap: ordinary ones (alloc)")
      ->check(CLI::IsMember({"alloc", "heap"}));
  app.add_option("-J,--output_file", s.json, "write JSON here (rank 0)");
  app.add_flag("--tiers", s.tiers, "bytes that rank 0 sent over each tier");
  app.add_flag("--links", s.links, "what went over each WAN link, all ranks together");
  app.add_option("--topology", s.topology, "topology file (LONGSPAN_TOPOLOGY)");
  app.add_option("--algorithm", s.algorithm, "force an algorithm (LONGSPAN_ALGORITHM)");
  app.add_option("--groups", s.groups, "this many communicators at the same time, rank r in number r mod N (1)")
      ->check(CLI::Range(1, 1024));
  app.add_option("--gap", s.gap_seconds, "seconds in which nothing is done before each timed iteration (0)")
      ->check(CLI::Range(0.0, 3600.0));
  app.add_option("--ranks", s.ranks, "start this many processes on this host")->check(CLI::Range(1, 1024));
  add_refused(app, "-z,--blocking", 1, "every iteration starts at an agreed instant, so calls always block");
  add_refused(app, "-g,--ngpus", 1, "one rank per process; start more processes");
  add_refused(app, "-t,--nthreads", 1, "one rank per process; start more processes");
  add_refused(app, "-a,--average", 3, "the last rank's end is what counts (nccl-tests' max)");
  add_refused(app, "-p,--parallel_init", 0, "ranks are processes and always start in parallel");
  add_refused(app, "-C,--report_cputime", 0, "CPU time is what /usr/bin/time -v reports of the whole process");
  add_refused(app, "-S,--report_timestamps", 0, "not offered; JSON has what was measured");
  add_refused(app, "-G,--cudagraph", 0, "there is no accelerator transport in this build");
}

}  // namespace

std::vector<std::uint64_t> Settings::sizes() const {
  std::vector<std::uint64_t> all;
  for (std::uint64_t bytes = min_bytes; bytes <= max_bytes;) {
    all.push_back(bytes);
    if (bytes == max_bytes) break;
    const std::uint64_t next = step_factor > 1 ? (bytes == 0 ? 1 : bytes * step_factor) : bytes + step_bytes;
    if (next <= bytes) break;
    bytes = next;
  }
  return all;
}

ParsedSettings parse_settings(const std::string& program, int argc, char** argv) {
  ParsedSettings parsed;
  CLI::App app(program + ": times a collective and checks every element of its result", program);
  bool max_given = false;
  add_options(app, parsed.settings);
  try {
    app.parse(argc, argv);
    max_given = app.get_option("-e")->count() > 0;
  } catch (const CLI::ParseError& error) {
    std::ostringstream out;
    parsed.exit_code = app.exit(error, out, out) == 0 ? 0 : 2;
    parsed.text = out.str();
    return parsed;
  } catch (const std::exception& error) {
    parsed.exit_code = 2;
    parsed.text = program + ": " + error.what() + "\n";
    return parsed;
  }
  Settings& s = parsed.settings;
  if (!max_given && s.max_bytes < s.min_bytes) s.max_bytes = s.min_bytes;
  if (s.max_bytes < s.min_bytes) {
    parsed.exit_code = 2;
    parsed.text = fmt::format("{}: -e {} is less than -b {}\n", program, s.max_bytes, s.min_bytes);
  }
  return parsed;
}

}  // namespace longspan::perf
