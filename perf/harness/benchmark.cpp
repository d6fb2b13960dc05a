#include "harness/benchmark.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <vector>

#include "harness/buffer.hpp"
#include "harness/clock_sync.hpp"
#include "harness/report.hpp"
#include "harness/settings.hpp"
#include "harness/spawn.hpp"

namespace longspan::perf {
namespace {

// ns, for the slowest rank to hear of the next start. Spun, not slept, where it is all there is to wait: a core that
// idles for a moment comes back with cold caches, and 1 KiB in a host is then three times as slow as in a training
// step.
constexpr std::int64_t kStartMargin = 300'000;

class Session {
 public:
  /// `world` joins all ranks; `group` is what is measured.
  Session(const Benchmark& benchmark, const Settings& settings, Communicator& world, Communicator& group,
          AlignedClock clock)
      : benchmark_(benchmark),
        settings_(settings),
        world_(world),
        comm_(group),
        clock_(clock),
        a_(group, settings.heap),
        b_(group, settings.heap) {}

  Status run(Report& report);

 private:
  Status measure(Case run, Row& row);
  /// `groups`: the same, of each group by itself; left empty where there is one.
  Result<Timing> time(const Case& run, const void* in, void* out, std::vector<Timing>& groups);
  Result<std::int64_t> iterate(const Case& run, const void* in, void* out, std::int64_t start);
  Result<std::uint64_t> check(const Case& run, void* in, void* out);
  Status place(const Case& run, void*& in, void*& out);

  const Benchmark& benchmark_;
  const Settings& settings_;
  Communicator& world_;
  Communicator& comm_;
  AlignedClock clock_;
  Buffer a_, b_;
};

Status Session::place(const Case& run, void*& in, void*& out) {
  const std::size_t block = run.block_bytes();
  const std::size_t in_blocks = benchmark_.in_blocks(comm_.rank(), comm_.size(), run.root);
  const std::size_t out_blocks = benchmark_.out_blocks(comm_.rank(), comm_.size(), run.root);
  if (!run.in_place) {
    LONGSPAN_TRY(a_.reserve(in_blocks * block + 1));
    LONGSPAN_TRY(b_.reserve(out_blocks * block + 1));
    in = a_.data();
    out = b_.data();
    return {};
  }
  LONGSPAN_TRY(a_.reserve(std::max(in_blocks, out_blocks) * block + 1));
  const std::size_t inner = benchmark_.in_place_block(comm_.rank()) * block;
  in = out = a_.data();
  if (out_blocks > in_blocks) in = a_.data() + (in_blocks == 0 ? 0 : inner);
  if (in_blocks > out_blocks) out = a_.data() + (out_blocks == 0 ? 0 : inner);
  return {};
}

Result<std::int64_t> Session::iterate(const Case& run, const void* in, void* out, std::int64_t start) {
  clock_.sleep_until(start);
  for (int i = 0; i < settings_.aggregate; ++i) LONGSPAN_TRY(benchmark_.call(comm_, in, out, run));
  return clock_.now_ns();
}

/// The all-gather of the ends is also what keeps iterations apart: nobody starts before everybody has ended.
Result<Timing> Session::time(const Case& run, const void* in, void* out, std::vector<Timing>& groups) {
  std::vector<std::int64_t> ends(static_cast<std::size_t>(world_.size()));
  std::vector<double> microseconds;
  std::vector<std::vector<double>> of_group(settings_.groups > 1 ? static_cast<std::size_t>(settings_.groups) : 0);
  std::int64_t mine = clock_.now_ns();
  std::int64_t start = 0;
  const auto idle = static_cast<std::int64_t>(settings_.gap_seconds * 1e9);
  for (int i = -settings_.warmup - 1; i < settings_.iterations; ++i) {
    if (i >= -settings_.warmup) {
      LONGSPAN_ASSIGN(mine, iterate(run, in, out, start));
    }
    LONGSPAN_TRY(world_.all_gather(&mine, ends.data(), 1, DataType::kInt64));
    const std::int64_t last = *std::max_element(ends.begin(), ends.end());
    if (i >= 0) microseconds.push_back(static_cast<double>(last - start) / 1e3 / settings_.aggregate);
    for (std::size_t g = 0; i >= 0 && g < of_group.size(); ++g) {
      std::int64_t end = start;
      for (std::size_t r = g; r < ends.size(); r += of_group.size()) end = std::max(end, ends[r]);
      of_group[g].push_back(static_cast<double>(end - start) / 1e3 / settings_.aggregate);
    }
    start = last + clock_.longest_rtt_ns() + kStartMargin + (i + 1 >= 0 ? idle : 0);
  }
  for (std::vector<double>& each : of_group) groups.push_back(summarise(std::move(each)));
  return summarise(std::move(microseconds));
}

Result<std::uint64_t> Session::check(const Case& run, void* in, void* out) {
  std::uint64_t wrong = 0;
  for (int i = 0; i < settings_.checks; ++i) {
    if (!run.in_place) {
      const std::size_t bytes = benchmark_.out_blocks(comm_.rank(), comm_.size(), run.root) * run.block_bytes();
      std::fill_n(static_cast<std::byte*>(out), bytes, std::byte{0xa5});
    }
    benchmark_.fill(in, run, comm_.rank(), comm_.size());
    LONGSPAN_TRY(benchmark_.call(comm_, in, out, run));
    wrong += benchmark_.wrong(out, run, comm_.rank(), comm_.size());
  }
  std::uint64_t all = 0;
  LONGSPAN_TRY(world_.all_reduce(&wrong, &all, 1, DataType::kUint64, ReduceOp::kSum));
  return all;
}

Status Session::measure(Case run, Row& row) {
  for (const bool in_place : {false, true}) {
    if (in_place && !benchmark_.has_in_place()) break;
    run.in_place = in_place;
    void* in = nullptr;
    void* out = nullptr;
    LONGSPAN_TRY(place(run, in, out));
    if (settings_.register_buffers && settings_.heap) {  // alloc() has registered its own
      LONGSPAN_TRY(comm_.register_buffer(a_.data(), a_.size()));
    }
    benchmark_.fill(in, run, comm_.rank(), comm_.size());
    Side& side = in_place ? row.in_place : row.out_of_place;
    side.measured = true;
    std::vector<Timing> groups;
    LONGSPAN_ASSIGN(side.timing, time(run, in, out, groups));
    row.groups.resize(groups.size());
    for (std::size_t g = 0; g < groups.size(); ++g) {
      (in_place ? row.groups[g].in_place : row.groups[g].out_of_place) = groups[g];
    }
    if (settings_.checks > 0) {
      LONGSPAN_ASSIGN(const std::uint64_t wrong, check(run, in, out));
      side.wrong = wrong;
    }
    if (settings_.register_buffers && settings_.heap) {
      LONGSPAN_TRY(comm_.unregister_buffer(a_.data()));
    }
  }
  if (const auto shape = benchmark_.shape(run)) {
    LONGSPAN_ASSIGN(const PlanSummary plan, comm_.explain(*shape, run.block_bytes(), run.type));
    row.algorithm = plan.algorithm;
    // Groups share every link: no sooner than one of them could move the bytes of all.
    const auto together = static_cast<std::size_t>(settings_.groups) * run.block_bytes();
    LONGSPAN_ASSIGN(const PlanSummary all, comm_.explain(*shape, together, run.type));
    row.bound_us = all.bound_seconds < 0 ? -1 : all.bound_seconds * 1e6;
    row.bound_cut = all.bound_cut;
  }
  return {};
}

Status Session::run(Report& report) {
  report.begin(world_, clock_);
  const auto ranks = static_cast<std::size_t>(comm_.size());
  const std::vector<ReduceOp> ops = benchmark_.has_op() ? settings_.ops : std::vector<ReduceOp>{ReduceOp::kSum};
  std::vector<int> roots{settings_.root};
  if (!benchmark_.has_root()) roots = {0};
  if (benchmark_.has_root() && settings_.root < 0) {
    roots.clear();
    for (int r = 0; r < comm_.size(); ++r) roots.push_back(r);
  }
  for (int cycle = 0; cycle < settings_.cycles; ++cycle) {
    for (const std::uint64_t size : settings_.sizes()) {
      for (const DataType type : settings_.types) {
        for (const ReduceOp op : ops) {
          for (const int root : roots) {
            Case run;
            const std::size_t blocks = benchmark_.blocks(comm_.size());
            run.count = size / size_of(type) / blocks;
            run.type = type;
            run.op = op;
            run.root = root;
            Row row;
            row.count = run.count;
            row.bytes = run.count * size_of(type) * blocks;
            row.type = type;
            row.op = benchmark_.has_op() ? name_of(op) : "none";
            row.root = benchmark_.has_root() ? root : -1;
            row.bus_factor = benchmark_.bus_factor(static_cast<int>(ranks));
            LONGSPAN_TRY(measure(run, row));
            report.add(row);
          }
        }
      }
    }
  }
  LONGSPAN_TRY(report.gather_links(world_));
  report.end(world_);
  return {};
}

int run_rank(const Benchmark& benchmark, const Settings& settings) {
  Options options;
  if (!settings.topology.empty()) options.topology_file = settings.topology;
  if (!settings.algorithm.empty()) options.algorithm = settings.algorithm;
  if (settings.timeout_seconds > 0) options.timeout = std::chrono::seconds(settings.timeout_seconds);
  auto comm = Communicator::create(options);
  if (!comm.ok()) {
    fmt::print(stderr, "{}: {}\n", benchmark.program(), comm.status().to_string());
    return 1;
  }
  auto clock = AlignedClock::synchronise(*comm);
  if (!clock.ok()) {
    fmt::print(stderr, "{}: aligning the clocks: {}\n", benchmark.program(), clock.status().to_string());
    return 1;
  }
  Communicator group;
  if (settings.groups > 1) {
    auto made = comm->split(comm->rank() % settings.groups, comm->rank());
    if (!made.ok()) {
      fmt::print(stderr, "{}: --groups {}: {}\n", benchmark.program(), settings.groups, made.status().to_string());
      return 1;
    }
    group = std::move(*made);
  }
  Report report(benchmark.program(), settings, comm->rank() == 0);
  Session session(benchmark, settings, *comm, settings.groups > 1 ? group : *comm, *clock);
  if (const Status status = session.run(report); !status.ok()) {
    fmt::print(stderr, "{}: {}\n", benchmark.program(), status.to_string());
    return 1;
  }
  return report.exit_code();
}

}  // namespace

int run_benchmark(const Benchmark& benchmark, int argc, char** argv) {
  const ParsedSettings parsed = parse_settings(benchmark.program(), argc, argv);
  if (parsed.exit_code >= 0) {
    std::fputs(parsed.text.c_str(), parsed.exit_code == 0 ? stdout : stderr);
    return parsed.exit_code;
  }
  if (parsed.settings.ranks > 0) {
    return spawn_ranks(parsed.settings.ranks, [&] { return run_rank(benchmark, parsed.settings); });
  }
  return run_rank(benchmark, parsed.settings);
}

}  // namespace longspan::perf
