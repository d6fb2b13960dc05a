#include "planner/planner.hpp"

#include <cmath>
#include <map>

#include "clusters.hpp"
#include "longspan/spi/registry.hpp"
#include "planner/text.hpp"
#include "support/catch.hpp"

using namespace longspan;
using namespace longspan::testing;
using planner::Planner;

namespace {

CollectiveShape shape_of(Collective kind, int root = 0) {
  CollectiveShape shape;
  shape.kind = kind;
  shape.root = root;
  return shape;
}

constexpr CollectiveShape kAllReduce{};

Planner make(Cluster cluster, std::string forced = "") {
  return Planner(std::move(cluster), spi::all_algorithms(), {std::move(forced), {}});
}

Decision decide(Planner& planner, const CollectiveShape& shape, std::size_t bytes) {
  auto decision = planner.decide(shape, bytes);
  INFO(decision.status().to_string());
  REQUIRE(decision.ok());
  return *decision;
}

std::size_t mib(double n) { return static_cast<std::size_t>(n * kMi); }

}  // namespace

TEST_CASE("A bucket is at most a quarter larger than the size, and stands for itself") {
  CHECK(planner::size_bucket(0) == 0);
  CHECK(planner::size_bucket(5) == 5);
  CHECK(planner::size_bucket(1024) == 1024);
  CHECK(planner::size_bucket(1025) == 1280);
  CHECK(planner::size_bucket(2047) == 2048);
  for (std::size_t bytes = 1; bytes < 100'000; bytes += 7) {
    const std::size_t bucket = planner::size_bucket(bytes);
    REQUIRE(bucket >= bytes);
    REQUIRE(bucket * 4 <= bytes * 5 + 16);
    REQUIRE(planner::size_bucket(bucket) == bucket);
  }
  CHECK(planner::size_bucket(SIZE_MAX) == SIZE_MAX);
}

TEST_CASE("Two regions, 64 MiB: one exchange across, and over 90 % of the bound is expected") {
  Planner planner = make(regions_of({2, 2}, 5 * kGbit, kGbit, 0.02));
  const Decision decision = decide(planner, kAllReduce, mib(64));
  CHECK(decision.full_name() == "hierarchical:one-shot");
  CHECK(decision.chunks >= 8);
  CHECK(decision.window >= 4);
  CHECK(decision.window <= decision.chunks);
  const double bound = planner.bound(kAllReduce, 64 * kMi).seconds;
  CHECK(decision.predicted_seconds >= bound);
  CHECK(bound / decision.predicted_seconds > 0.9);
}

TEST_CASE("4 KiB across two regions costs little more than one delay") {
  Planner planner = make(regions_of({2, 2}, 5 * kGbit, kGbit, 0.02));
  const Decision decision = decide(planner, kAllReduce, 4096);
  CHECK(decision.predicted_seconds < 1.5 * 0.02);
  CHECK(decision.chunks == 1);
}

TEST_CASE("Between one exchange and reduce-scatter + allgather, the crossover is L B R / (R - 2)") {
  for (int regions = 3; regions <= 5; ++regions) {
    const double latency = 0.02;
    const double rate = 125e6;
    Planner planner =
        make(regions_of(std::vector<int>(static_cast<std::size_t>(regions), 1), 1000 * kGbit, kGbit, latency));
    const double crossover = latency * rate * regions / (regions - 2);
    CAPTURE(regions, crossover);
    // Where one delay is saved, and where bytes are.
    const auto small = planner.explain(kAllReduce, static_cast<std::size_t>(crossover * 0.7));
    const auto large = planner.explain(kAllReduce, static_cast<std::size_t>(crossover * 1.4));
    REQUIRE(small.ok());
    REQUIRE(large.ok());
    CHECK(small->phases.size() < large->phases.size());
    CHECK(small->decision.full_name() != large->decision.full_name());
  }
}

TEST_CASE("Equal planners decide alike, whoever asks and whatever was asked before") {
  const Cluster cluster = regions_of({3, 2, 1}, 5 * kGbit, kGbit, 0.03, 2);
  Planner one = make(cluster);
  Planner other = make(cluster);
  for (std::size_t bytes = 1; bytes < mib(512); bytes *= 3) CHECK(decide(one, kAllReduce, bytes).digest != 0);
  for (const Collective kind : {Collective::kAllReduce, Collective::kAllGather, Collective::kBroadcast}) {
    for (const std::size_t bytes : {mib(64), std::size_t{1000}, mib(1)}) {
      const Decision a = decide(one, shape_of(kind, 3), bytes);
      const Decision b = decide(other, shape_of(kind, 3), bytes);
      CHECK(a.digest == b.digest);
      CHECK(a.full_name() == b.full_name());
      CHECK(a.chunks == b.chunks);
      CHECK(a.predicted_seconds == b.predicted_seconds);
    }
  }
}

TEST_CASE("The digest tells plans apart that differ in topology, options, size or shape") {
  const Cluster cluster = regions_of({2, 2}, 5 * kGbit, kGbit, 0.02);
  Planner planner = make(cluster);
  const std::uint64_t digest = decide(planner, kAllReduce, mib(1)).digest;
  CHECK(decide(planner, kAllReduce, mib(1) - 64).digest == digest);  // same bucket
  CHECK(decide(planner, kAllReduce, mib(2)).digest != digest);
  CHECK(decide(planner, shape_of(Collective::kAllGather), mib(1)).digest != digest);
  Planner slower = make(regions_of({2, 2}, 5 * kGbit, kGbit, 0.021));
  CHECK(decide(slower, kAllReduce, mib(1)).digest != digest);
  Planner forced = make(cluster, "direct");
  CHECK(decide(forced, kAllReduce, mib(1)).digest != digest);
}

TEST_CASE("A forced algorithm is used, or refused with what is offered") {
  const Cluster cluster = regions_of({2, 2}, 5 * kGbit, kGbit, 0.02);
  Planner direct = make(cluster, "direct:one-shot");
  CHECK(decide(direct, kAllReduce, mib(64)).full_name() == "direct:one-shot");
  const auto refused = direct.decide(shape_of(Collective::kAllGather), 1024);
  REQUIRE_FALSE(refused.ok());
  CHECK(refused.status().code() == StatusCode::kUnsupported);
  CHECK(refused.status().message().find("direct:one-shot") != std::string_view::npos);
  CHECK(refused.status().message().find("offered: direct") != std::string_view::npos);
  CHECK(direct.decide(shape_of(Collective::kBarrier), 0).ok());  // moves no data

  Planner one_only = make(cluster, "allreduce=direct,allgather=hierarchical");
  CHECK(decide(one_only, kAllReduce, mib(64)).algorithm == "direct");
  CHECK(decide(one_only, shape_of(Collective::kAllGather), mib(64)).algorithm == "hierarchical");
  Planner wrong = make(cluster, "alreduce=direct");
  CHECK(wrong.decide(kAllReduce, 1).status().code() == StatusCode::kInvalidArgument);
}

TEST_CASE("Rates of all flows of a link stay under its capacity, and their sum comes close to it") {
  const std::vector<std::vector<int>> sides{{2, 2}, {4, 3}, {3, 1}, {1, 1}, {2, 1, 3}};
  for (const auto& hosts : sides) {
    for (const int ranks : {1, 2}) {
      const Cluster cluster = regions_of(hosts, 5 * kGbit, kGbit, 0.02, ranks);
      Planner planner = make(cluster);
      const Decision decision = decide(planner, kAllReduce, mib(64));
      std::map<std::pair<int, int>, double> sums;
      for (int rank = 0; rank < cluster.size(); ++rank) {
        const auto plan = planner.plan(decision, rank);
        REQUIRE(plan.ok());
        REQUIRE(plan->channels.size() == plan->schedule.channels.size());
        for (std::size_t c = 0; c < plan->channels.size(); ++c) {
          const ScheduleChannel& channel = plan->schedule.channels[c];
          const ChannelPlan& use = plan->channels[c];
          if (channel.tier != Tier::kWan) {
            CHECK(use.rate_bytes_per_second == 0);
            continue;
          }
          sums[{cluster.region_of(rank), cluster.region_of(channel.peer)}] += use.rate_bytes_per_second;
          CHECK(near(use.rtt_seconds, 0.04));
          CHECK(static_cast<double>(use.window_bytes) >= use.rate_bytes_per_second * use.rtt_seconds);
          CHECK(use.lanes == 1);
        }
      }
      for (const auto& [link, sum] : sums) {
        CHECK(sum <= 125e6);
        CHECK(sum >= 0.95 * 125e6);
      }
    }
  }
}

TEST_CASE("A slow NIC caps the rate of its flows") {
  ClusterBuilder builder;
  builder.region(1, kGbit / 10);
  builder.region(1, 10 * kGbit);
  builder.mesh(kGbit, 0.02);
  Planner planner = make(builder.cluster());
  const auto plan = planner.plan(decide(planner, kAllReduce, mib(64)), 0);
  REQUIRE(plan.ok());
  REQUIRE(plan->channels.size() == 1);
  CHECK(plan->channels[0].rate_bytes_per_second <= 12.5e6);
}

TEST_CASE("Random loss asks for more connections") {
  ClusterBuilder builder;
  builder.region(1, 10 * kGbit);
  builder.region(1, 10 * kGbit);
  builder.mesh(kGbit, 0.02);
  for (WanLink& link : builder.topology().wan) link.loss = 0.001;
  Planner planner = make(builder.cluster());
  const auto plan = planner.plan(decide(planner, kAllReduce, mib(64)), 0);
  REQUIRE(plan.ok());
  CHECK(plan->channels[0].lanes > 1);
  CHECK(plan->channels[0].loss == 0.001);
}

TEST_CASE("Regions without a link are named") {
  ClusterBuilder builder;
  for (int r = 0; r < 3; ++r) builder.region(1, kGbit);
  for (const int other : {0, 2}) {
    builder.wan(1, other, kGbit, 0.02);
    builder.wan(other, 1, kGbit, 0.02);
  }
  Planner planner = make(builder.cluster(), "direct");
  const auto decision = planner.decide(kAllReduce, mib(1));
  REQUIRE_FALSE(decision.ok());
  CHECK(decision.status().code() == StatusCode::kUnsupported);
  CHECK(decision.status().message().find("from region a to region c") != std::string_view::npos);
}

TEST_CASE("Hosts that are no gateways send nothing across while another plan exists") {
  ClusterBuilder builder;
  builder.region(3, 5 * kGbit);
  builder.region(3, 5 * kGbit);
  builder.mesh(kGbit, 0.02);
  for (Host& host : builder.topology().hosts) host.gateway = host.name == "a-1" || host.name == "b-2";
  const Cluster cluster = builder.cluster();
  Planner planner = make(cluster);
  for (const std::size_t bytes : {std::size_t{64}, mib(64)}) {
    const auto explained = planner.explain(kAllReduce, bytes);
    REQUIRE(explained.ok());
    for (const auto& flow : explained->flows) {
      CHECK(cluster.gateway(flow.from));
      CHECK(cluster.gateway(flow.to));
    }
  }
}

TEST_CASE("An explanation adds up") {
  Planner planner = make(regions_of({2, 2}, 5 * kGbit, kGbit, 0.02));
  const auto explained = planner.explain(kAllReduce, mib(64));
  REQUIRE(explained.ok());
  CHECK(explained->phases.size() == 3);
  REQUIRE_FALSE(explained->links.empty());
  CHECK(explained->links.front().link == "wan a->b");
  CHECK(near(explained->links.front().bytes, 64 * kMi));
  CHECK(near(explained->links.front().seconds, 64 * kMi / 125e6));
  CHECK(explained->rejected.size() >= 2);
  for (const Rejected& rejected : explained->rejected) {
    CHECK_FALSE(rejected.reason.empty());
    // As good as equal to the chosen one, or slower.
    if (rejected.predicted_seconds >= 0)
      CHECK(rejected.predicted_seconds >= 0.99 * explained->decision.predicted_seconds);
  }
  double across = 0;
  for (const auto& flow : explained->flows) across += flow.bytes;
  CHECK(near(across, 2 * 64 * kMi));
}

TEST_CASE("One plan object per size bucket") {
  Planner planner = make(regions_of({2, 2}, 5 * kGbit, kGbit, 0.02));
  const auto first = planner.plan_for(kAllReduce, mib(64), 1);
  const auto again = planner.plan_for(kAllReduce, mib(64) - 4096, 1);
  REQUIRE(first.ok());
  REQUIRE(again.ok());
  CHECK(first->get() == again->get());
  CHECK((*first)->schedule.rank == 1);
}

TEST_CASE("One rank alone, and ranks outside the cluster") {
  Planner planner = make(place_in_order(flat_topology({"x"}), 1));
  CHECK(planner.plan_for(kAllReduce, 1024, 0).ok());
  CHECK(planner.plan_for(kAllReduce, 1024, 1).status().code() == StatusCode::kInvalidArgument);
  CHECK(planner.decide(shape_of(Collective::kBroadcast, 1), 1).status().code() == StatusCode::kInvalidArgument);
}
