// Planning time against the promise of docs/planning.md: choice + own schedule, nothing cached, in under 1 ms for 8
// ranks, 5 ms for 64, 100 ms for 1,024. Counters: promise_ms, and times_faster (above 1: kept).
#include <benchmark/benchmark.h>

#include <string>

#include "longspan/spi/registry.hpp"
#include "planner/planner.hpp"

namespace {

using namespace longspan;

/// `ranks` over 2 regions, 8 ranks per host (4 hosts at 8 ranks), 8 hosts per rack.
Cluster cluster_of(int ranks) {
  const int hosts = ranks <= 8 ? 4 : ranks / 8;
  Topology topology;
  for (int r = 0; r < 2; ++r) {
    topology.regions.push_back(Group{r == 0 ? "eu" : "us", -1, {}, {}});
    topology.sites.push_back(Group{"", r, {}, {}});
  }
  for (int h = 0; h < hosts; ++h) {
    const int region = h * 2 / hosts;
    const int rack = h / 8 + region * 1000;
    Host host;
    host.name = "host-" + std::to_string(h);
    host.region = host.site = region;
    host.nic = Bandwidth{100e9 / 8};
    if (topology.racks.empty() || topology.racks.back().name != "rack-" + std::to_string(rack)) {
      topology.racks.push_back(Group{"rack-" + std::to_string(rack), region, Bandwidth{400e9 / 8}, Latency{5e-6}});
    }
    host.rack = static_cast<int>(topology.racks.size()) - 1;
    topology.hosts.push_back(std::move(host));
  }
  for (int r = 0; r < 2; ++r) topology.wan.push_back(WanLink{r, 1 - r, Bandwidth{100e9 / 8}, Latency{0.02}, {}, 0});
  return place_in_order(std::move(topology), ranks / hosts);
}

double promise_ms(int ranks) { return ranks <= 8 ? 1 : ranks <= 64 ? 5 : 100; }

void plan_once(benchmark::State& state, Collective kind, std::size_t bytes) {
  const int ranks = static_cast<int>(state.range(0));
  const Cluster cluster = cluster_of(ranks);
  CollectiveShape shape;
  shape.kind = kind;
  std::string chosen;
  for (auto _ : state) {
    planner::Planner planner(cluster, spi::all_algorithms(), {});
    const auto plan = planner.plan_for(shape, bytes, ranks / 2);
    if (!plan.ok()) {
      state.SkipWithError(plan.status().to_string().c_str());
      return;
    }
    chosen = (*plan)->decision.full_name();
    benchmark::DoNotOptimize(plan);
  }
  state.SetLabel(chosen);
  state.counters["promise_ms"] = promise_ms(ranks);
  // Inverted because the rate of iterations is what the library divides by time.
  state.counters["times_faster"] =
      benchmark::Counter(promise_ms(ranks) * 1e-3, benchmark::Counter::kIsIterationInvariantRate);
}

void cached(benchmark::State& state) {
  const int ranks = static_cast<int>(state.range(0));
  planner::Planner planner(cluster_of(ranks), spi::all_algorithms(), {});
  for (auto _ : state) {
    auto plan = planner.plan_for({}, std::size_t{64} << 20, 0);
    benchmark::DoNotOptimize(plan);
  }
}

void bound_table(benchmark::State& state) {
  const Cluster cluster = cluster_of(static_cast<int>(state.range(0)));
  for (auto _ : state) {
    planner::BoundTable table(cluster);
    benchmark::DoNotOptimize(table.bound({}, 64 << 20));
  }
}

constexpr std::size_t kMi = std::size_t{1} << 20;

BENCHMARK_CAPTURE(plan_once, allreduce_64MiB, Collective::kAllReduce, 64 * kMi)
    ->Arg(8)
    ->Arg(64)
    ->Arg(1024)
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(plan_once, allreduce_4KiB, Collective::kAllReduce, 4096)
    ->Arg(8)
    ->Arg(64)
    ->Arg(1024)
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(plan_once, allgather_1MiB, Collective::kAllGather, kMi)
    ->Arg(8)
    ->Arg(64)
    ->Arg(1024)
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(plan_once, reduce_scatter_1MiB, Collective::kReduceScatter, kMi)
    ->Arg(8)
    ->Arg(64)
    ->Arg(1024)
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(plan_once, broadcast_64MiB, Collective::kBroadcast, 64 * kMi)
    ->Arg(8)
    ->Arg(64)
    ->Arg(1024)
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(plan_once, alltoall_64KiB, Collective::kAllToAll, 65536)
    ->Arg(8)
    ->Arg(64)
    ->Arg(1024)
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(plan_once, barrier, Collective::kBarrier, 0)
    ->Arg(8)
    ->Arg(64)
    ->Arg(1024)
    ->Unit(benchmark::kMillisecond);
BENCHMARK(cached)->Arg(8)->Arg(1024)->Unit(benchmark::kMicrosecond);
BENCHMARK(bound_table)->Arg(8)->Arg(64)->Arg(1024)->Unit(benchmark::kMillisecond);

}  // namespace

BENCHMARK_MAIN();
