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

TEST_CASE("direct moves what its README says") {
  const spi::Algorithm& direct = algorithm_named("direct");
  const int n = 6;
  const Cluster cluster = one_region(n, 2);
  const auto busiest = [&](const CollectiveShape& shape, std::string_view variant = "") {
    double most = 0;
    for (const Schedule& s : build_all(direct, shape, cluster, variant)) most = std::max(most, traffic_of(s).sent);
    return most;
  };
  CHECK(busiest(shape_of(Collective::kAllReduce)) == Approx(2.0 * (n - 1) / n));
  CHECK(busiest(shape_of(Collective::kAllReduce), "one-shot") == n - 1);
  CHECK(busiest(shape_of(Collective::kAllGather)) == n - 1);
  CHECK(busiest(shape_of(Collective::kReduceScatter)) == n - 1);
  CHECK(busiest(shape_of(Collective::kAllToAll)) == n - 1);
  CHECK(busiest(shape_of(Collective::kBroadcast, 3)) == n - 1);
  CHECK(busiest(shape_of(Collective::kGather, 3)) == 1);
  CHECK(busiest(shape_of(Collective::kBarrier)) == 0);
}

TEST_CASE("direct sends to a different rank than everybody else at every moment") {
  const Cluster cluster = one_region(7, 1);
  const auto all = build_all(algorithm_named("direct"), shape_of(Collective::kAllToAll), cluster, "");
  for (int k = 0; k < 6; ++k) {
    std::vector<bool> taken(7);
    for (const Schedule& schedule : all) {
      int seen = 0;
      for (const Step& step : schedule.steps) {
        if (step.kind != StepKind::kSend || seen++ != k) continue;
        CHECK_FALSE(taken[static_cast<std::size_t>(step.peer)]);
        taken[static_cast<std::size_t>(step.peer)] = true;
      }
    }
  }
}

TEST_CASE("direct serves calls whose lengths only two ranks know") {
  const Cluster cluster = one_region(3, 1);
  for (const Collective kind : {Collective::kGather, Collective::kScatter, Collective::kAllToAll}) {
    CollectiveShape shape = shape_of(kind);
    shape.private_lengths = true;
    CHECK_FALSE(algorithm_named("direct").variants(shape, cluster).empty());
  }
}

}  // namespace
}  // namespace longspan::test
