#include "property/clusters.hpp"
#include "support/catch.hpp"

namespace longspan::test {
namespace {

CollectiveShape shape_of(Collective kind) {
  CollectiveShape shape;
  shape.kind = kind;
  return shape;
}

TEST_CASE("recursive takes the steps and sends the bytes that its README says") {
  const spi::Algorithm& recursive = algorithm_named("recursive");
  const CollectiveShape allreduce = shape_of(Collective::kAllReduce);
  const Cluster eight = one_region(8, 2);
  CHECK(rounds_of(recursive.stages(allreduce, eight, "halving")) == 6);
  CHECK(rounds_of(recursive.stages(allreduce, eight, "doubling")) == 3);
  for (const Schedule& s : build_all(recursive, allreduce, eight, "halving")) {
    CHECK(traffic_of(s).sent == Approx(2.0 * 7 / 8));
  }
  for (const Schedule& s : build_all(recursive, allreduce, eight, "doubling")) CHECK(traffic_of(s).sent == 3);

  const Cluster eleven = one_region(11, 4);
  CHECK(rounds_of(recursive.stages(allreduce, eleven, "halving")) == 8);
  double most = 0;
  for (const Schedule& s : build_all(recursive, allreduce, eleven, "halving")) {
    most = std::max(most, traffic_of(s).sent);
  }
  CHECK(most == Approx(2.0 * 7 / 8 + 1));

  for (const int n : {2, 5, 8, 13}) {
    const Cluster cluster = one_region(n, 4);
    int steps = 0;
    while ((1 << steps) < n) ++steps;
    CHECK(rounds_of(recursive.stages(shape_of(Collective::kAllGather), cluster, "")) == steps);
    CHECK(rounds_of(recursive.stages(shape_of(Collective::kBarrier), cluster, "")) == steps);
    for (const Schedule& s : build_all(recursive, shape_of(Collective::kAllGather), cluster, "")) {
      CHECK(traffic_of(s).sent == n - 1);
    }
  }
}

TEST_CASE("recursive halving moves its largest parts between neighbours") {
  const Cluster cluster = cluster_of({{2, 2}, {2, 2}});
  const auto stages = algorithm_named("recursive").stages(shape_of(Collective::kAllReduce), cluster, "halving");
  for (const spi::StageFlow& flow : stages.front().flows) {
    CHECK(flow.share == 0.5);
    CHECK(cluster.tier_between(flow.from, flow.to) == Tier::kHost);
  }
}

TEST_CASE("recursive leaves alone what it cannot do") {
  const spi::Algorithm& recursive = algorithm_named("recursive");
  CHECK(recursive.variants(shape_of(Collective::kReduceScatter), one_region(6, 1)).empty());
  CHECK_FALSE(recursive.variants(shape_of(Collective::kReduceScatter), one_region(8, 1)).empty());
  CollectiveShape uneven = shape_of(Collective::kAllGather);
  uneven.uneven = true;
  CHECK(recursive.variants(uneven, one_region(8, 1)).empty());
  CHECK(recursive.variants(shape_of(Collective::kAllReduce), one_region(1, 1)).empty());
}

}  // namespace
}  // namespace longspan::test
