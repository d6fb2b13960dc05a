// Whether small collectives wait behind large ones: how long a barrier and a small allreduce take while nothing else
// runs, then while a large allreduce runs on another communicator of the same ranks. To be run by a launcher, such as
// the lab.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <vector>

#include "harness/clock_sync.hpp"
#include "harness/report.hpp"
#include "longspan/communicator.hpp"

namespace {

using namespace longspan;
using namespace longspan::perf;

struct Arguments {
  std::size_t small_bytes = 4096;
  std::size_t large_mebibytes = 1024;
  int iterations = 30;
  double pause_seconds = 0.02;
  std::string json;
};

enum class Small { kBarrier, kAllReduce };

/// Times small collectives on `control`, each from an instant agreed on to the last rank's end.
class Series {
 public:
  Series(Communicator& control, const AlignedClock& clock, const Arguments& arguments)
      : control_(control),
        clock_(clock),
        arguments_(arguments),
        in_(arguments.small_bytes / 4, 1.0F),
        out_(in_.size()) {}

  /// Ends early once `beside` is done on any rank.
  Result<Timing> time(Small what, Work* beside) {
    std::vector<double> microseconds;
    std::vector<std::int64_t> said(2 * static_cast<std::size_t>(control_.size()));
    std::int64_t start = 0;
    for (int i = -2; i < arguments_.iterations; ++i) {
      if (i > -2) {
        clock_.sleep_until(start);
        LONGSPAN_TRY(what == Small::kBarrier ? control_.barrier()
                                             : control_.all_reduce(in_.data(), out_.data(), in_.size(),
                                                                   DataType::kFloat32, ReduceOp::kSum));
      }
      const std::int64_t mine[2] = {clock_.now_ns(), beside != nullptr && beside->test() ? 1 : 0};
      LONGSPAN_TRY(control_.all_gather(mine, said.data(), 2, DataType::kInt64));
      std::int64_t last = 0;
      bool over = false;
      for (std::size_t r = 0; r < said.size(); r += 2) {
        last = std::max(last, said[r]);
        over = over || said[r + 1] != 0;
      }
      if (over) break;
      if (i >= 0) microseconds.push_back(static_cast<double>(last - start) / 1e3);
      start = last + clock_.longest_rtt_ns() + static_cast<std::int64_t>((0.0003 + arguments_.pause_seconds) * 1e9);
    }
    if (microseconds.empty()) {
      return Status(StatusCode::kInvalidArgument, "the large allreduce was over before anything was timed");
    }
    return summarise(std::move(microseconds));
  }

 private:
  Communicator& control_;
  const AlignedClock& clock_;
  const Arguments& arguments_;
  std::vector<float> in_, out_;
};

nlohmann::ordered_json json_of(const Timing& timing) {
  return {{"median_us", timing.median},
          {"p90_us", timing.p90},
          {"p99_us", timing.p99},
          {"iterations", timing.samples.size()}};
}

Status run(const Arguments& arguments) {
  LONGSPAN_ASSIGN(Communicator world, Communicator::create());
  LONGSPAN_ASSIGN(const AlignedClock clock, AlignedClock::synchronise(world));
  LONGSPAN_ASSIGN(Communicator bulk, world.split(0, world.rank()));
  std::vector<float> data((arguments.large_mebibytes << 20) / sizeof(float), 1.0F);
  Series series(world, clock, arguments);
  // A first one of the same size: its connections are made, its plan is known.
  LONGSPAN_TRY(bulk.all_reduce(data.data(), data.data(), std::min<std::size_t>(data.size(), 1 << 22),
                               DataType::kFloat32, ReduceOp::kSum));
  nlohmann::ordered_json json = {{"program", "control_latency"},
                                 {"large_bytes", data.size() * sizeof(float)},
                                 {"small_bytes", arguments.small_bytes}};
  const bool prints = world.rank() == 0;
  if (prints) {
    fmt::print("# {:<10} {:>12} {:>12} {:>12} {:>12} {:>8}\n", "", "idle (us)", "beside (us)", "beside p90",
               "beside p99", "ratio");
  }
  for (const Small what : {Small::kBarrier, Small::kAllReduce}) {
    LONGSPAN_ASSIGN(const Timing idle, series.time(what, nullptr));
    Work large = bulk.all_reduce_async(data.data(), data.data(), data.size(), DataType::kFloat32, ReduceOp::kMax);
    LONGSPAN_ASSIGN(const Timing beside, series.time(what, &large));
    LONGSPAN_TRY(large.wait());
    if (!prints) continue;
    const std::string name = what == Small::kBarrier ? "barrier" : "allreduce";
    fmt::print("  {:<10} {:>12.1f} {:>12.1f} {:>12.1f} {:>12.1f} {:>8.2f}\n", name, idle.median, beside.median,
               beside.p90, beside.p99, beside.median / idle.median);
    json[name] = {{"idle", json_of(idle)}, {"beside", json_of(beside)}, {"ratio", beside.median / idle.median}};
  }
  if (!prints || arguments.json.empty()) return {};
  std::ofstream file(arguments.json);
  file << json.dump(2) << '\n';
  return file ? Status() : Status(StatusCode::kInvalidArgument, "cannot write " + arguments.json);
}

}  // namespace

int main(int argc, char** argv) {
  Arguments arguments;
  CLI::App app("times small collectives alone and beside a large allreduce", "control_latency");
  app.add_option("--small", arguments.small_bytes, "bytes of the small allreduce (4096)")
      ->check(CLI::Range(4, 1 << 20));
  app.add_option("--large", arguments.large_mebibytes, "MiB of the large allreduce (1024)")
      ->check(CLI::Range(1, 1 << 16));
  app.add_option("-n", arguments.iterations, "most timed iterations of each (30)")->check(CLI::Range(1, 100000));
  app.add_option("--pause", arguments.pause_seconds, "seconds between two (0.02)")->check(CLI::Range(0.0, 10.0));
  app.add_option("-J", arguments.json, "write JSON here (rank 0)");
  CLI11_PARSE(app, argc, argv);
  if (const Status status = run(arguments); !status.ok()) {
    fmt::print(stderr, "control_latency: {}\n", status.to_string());
    return 1;
  }
  return 0;
}
