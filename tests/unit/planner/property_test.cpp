#include <fmt/format.h>
#include <rapidcheck.h>

#include <map>
#include <string>
#include <utility>

#include "clusters.hpp"
#include "longspan/spi/registry.hpp"
#include "planner/planner.hpp"
#include "support/catch.hpp"

using namespace longspan;
using namespace longspan::testing;

namespace {

/// 1 to 4 regions of 1 to 3 hosts with 1 to 3 ranks; every value drawn, some not stated.
Cluster random_cluster() {
  ClusterBuilder builder;
  const int regions = *rc::gen::inRange(1, 5);
  for (int r = 0; r < regions; ++r) {
    const double nic = *rc::gen::element(0.0, 0.5, 1.0, 5.0, 40.0) * kGbit;
    builder.region(*rc::gen::inRange(1, 4), nic, *rc::gen::inRange(1, 4));
  }
  for (int a = 0; a < regions; ++a) {
    for (int b = 0; b < regions; ++b) {
      if (a != b)
        builder.wan(a, b, *rc::gen::element(0.05, 0.2, 1.0, 10.0) * kGbit, *rc::gen::element(0.0, 0.001, 0.02, 0.15));
    }
  }
  Topology& topology = builder.topology();
  for (Group& rack : topology.racks) {
    if (*rc::gen::inRange(0, 3) == 0) {
      rack.uplink = Bandwidth{*rc::gen::element(1.0, 10.0) * kGbit / 8};
      rack.uplink_latency = Latency{50e-6};
    }
  }
  for (WanLink& link : topology.wan) {
    if (*rc::gen::inRange(0, 3) == 0) link.buffer_bytes = *rc::gen::element<std::uint64_t>(100'000, 8'000'000);
    if (*rc::gen::inRange(0, 4) == 0) link.loss = 0.001;
  }
  return builder.cluster();
}

CollectiveShape random_shape(int ranks) {
  CollectiveShape shape;
  shape.kind = static_cast<Collective>(*rc::gen::inRange(0, kCollectiveCount));
  if (has_root(shape.kind)) shape.root = *rc::gen::inRange(0, ranks);
  return shape;
}

std::size_t random_bytes() {
  // A bucket's own size: the decision is made for the bucket, the bound for the bytes.
  return planner::size_bucket(*rc::gen::element<std::size_t>(0, 8, 4096, 1 << 20, 3 << 20, 64 << 20));
}

void require(bool holds, const std::string& otherwise) {
  if (!holds) RC_FAIL(otherwise);
}

}  // namespace

TEST_CASE("No candidate is predicted to beat the bound") {
  const bool holds = rc::check([] {
    const Cluster cluster = random_cluster();
    const CollectiveShape shape = random_shape(cluster.size());
    const std::size_t bytes = random_bytes();
    planner::Planner planner(cluster, spi::all_algorithms(), {});
    const auto explained = planner.explain(shape, bytes);
    require(explained.ok(), explained.status().to_string());
    const double least = explained->bound.seconds * (1 - 1e-9);
    const auto context = [&](const std::string& name, double seconds) {
      return name + " for " + std::string(name_of(shape.kind)) + " of " + std::to_string(bytes) + ": " +
             std::to_string(seconds) + " s, bound " + std::to_string(least) + " by " + explained->bound.cut;
    };
    require(explained->decision.predicted_seconds >= least,
            context(explained->decision.full_name(), explained->decision.predicted_seconds));
    for (const Rejected& other : explained->rejected) {
      if (other.predicted_seconds >= 0)
        require(other.predicted_seconds >= least, context(other.name, other.predicted_seconds));
    }
  });
  CHECK(holds);
}

TEST_CASE("The stages that are priced move what the schedules move, over every link") {
  const bool holds = rc::check([] {
    const Cluster cluster = random_cluster();
    const CollectiveShape shape = random_shape(cluster.size());
    planner::Planner planner(cluster, spi::all_algorithms(), {});
    const auto decision = planner.decide(shape, random_bytes());
    require(decision.ok(), decision.status().to_string());
    std::map<std::pair<int, int>, double> sums;
    for (int rank = 0; rank < cluster.size(); ++rank) {
      const auto plan = planner.plan(*decision, rank);
      require(plan.ok(), plan.status().to_string());
      for (std::size_t c = 0; c < plan->channels.size(); ++c) {
        const ScheduleChannel& channel = plan->schedule.channels[c];
        const ChannelPlan& use = plan->channels[c];
        const int from = cluster.region_of(rank);
        const int to = cluster.region_of(channel.peer);
        if (from == to) continue;
        sums[{from, to}] += use.rate_bytes_per_second;
        require(channel.sends == 0 || use.rate_bytes_per_second > 0,
                decision->full_name() + ": an unpaced flow across regions");
        require(static_cast<double>(use.window_bytes) >= use.rate_bytes_per_second * use.rtt_seconds,
                "window below rate x RTT");
        require(use.lanes >= 1, "no lanes");
      }
    }
    for (const auto& [ends, sum] : sums) {
      const WanLink* link = cluster.topology.wan_link(ends.first, ends.second);
      // Rates are given in proportion to the priced shares: were a schedule to send more than its stages say, the sum
      // would exceed the link.
      require(sum <= link->bandwidth.bytes_per_second,
              fmt::format("{} of {}: flows exceed their link, {} of {} B/s", decision->full_name(), name_of(shape.kind),
                          sum, link->bandwidth.bytes_per_second));
    }
  });
  CHECK(holds);
}
