#include <set>

#include "property/clusters.hpp"
#include "support/catch.hpp"

namespace longspan::test {
namespace {

CollectiveShape shape_of(Collective kind, int root = 0) {
  CollectiveShape shape;
  shape.kind = kind;
  shape.root = root;
  return shape;
}

TEST_CASE("ring moves what its README says, the same on every rank") {
  const spi::Algorithm& ring = algorithm_named("ring");
  const int n = 7;
  const Cluster cluster = one_region(n, 3);
  for (const Schedule& schedule : build_all(ring, shape_of(Collective::kAllReduce), cluster, "")) {
    CHECK(traffic_of(schedule).sent == Approx(2.0 * (n - 1) / n));
    CHECK(traffic_of(schedule).messages_sent == 2 * (n - 1));
  }
  for (const Collective kind : {Collective::kAllGather, Collective::kReduceScatter}) {
    for (const Schedule& schedule : build_all(ring, shape_of(kind), cluster, "")) {
      CHECK(traffic_of(schedule).sent == n - 1);
    }
  }
  CHECK(rounds_of(ring.stages(shape_of(Collective::kAllReduce), cluster, "")) == 2 * (n - 1));
  CHECK(rounds_of(ring.stages(shape_of(Collective::kBroadcast, 2), cluster, "")) == n - 1);
}

TEST_CASE("a ring leaves each region once, wherever its ranks are") {
  Cluster cluster = cluster_of({{2, 2}, {2, 2}, {1}});
  cluster.host_of_rank = {0, 2, 1, 3, 4, 0, 3, 2, 1};
  int crossings = 0;
  for (const Schedule& schedule : build_all(algorithm_named("ring"), shape_of(Collective::kAllReduce), cluster, "")) {
    std::set<int> receivers;
    for (const Step& step : schedule.steps) {
      if (step.kind == StepKind::kSend) receivers.insert(step.peer);
    }
    REQUIRE(receivers.size() == 1);
    crossings += cluster.region_of(schedule.rank) != cluster.region_of(*receivers.begin()) ? 1 : 0;
  }
  CHECK(crossings == 3);
}

TEST_CASE("no step of a ring waits for the send before it") {
  const Cluster cluster = one_region(5, 1);
  for (const Schedule& schedule : build_all(algorithm_named("ring"), shape_of(Collective::kAllReduce), cluster, "")) {
    for (const Step& step : schedule.steps) {
      for (std::uint32_t d = 0; d < step.dependencies_count; ++d) {
        const Dependency& before = schedule.dependencies[step.dependencies_begin + d];
        const bool on_send = schedule.steps[before.step].kind == StepKind::kSend;
        // A recv may wait until what it overwrites has left; nothing else waits for a send.
        CHECK((!on_send || (step.kind == StepKind::kRecv && before.kind == DependencyKind::kReuse)));
      }
    }
  }
}

}  // namespace
}  // namespace longspan::test
