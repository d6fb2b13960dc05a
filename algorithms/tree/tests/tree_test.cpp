#include "property/clusters.hpp"
#include "support/catch.hpp"
#include "tree/ranges.hpp"

namespace longspan::test {
namespace {

using spi::RangeTree;

CollectiveShape shape_of(Collective kind, int root = 0) {
  CollectiveShape shape;
  shape.kind = kind;
  shape.root = root;
  return shape;
}

TEST_CASE("every position of a tree is reached once, from a position reached before it") {
  for (const int arity : {2, 4, 8}) {
    for (int n = 1; n <= 70; ++n) {
      const RangeTree tree(n, arity);
      std::vector<int> reached_at(static_cast<std::size_t>(n), -2);
      reached_at[0] = -1;
      tree.each_edge([&](int level, int parent, const RangeTree::Range& part) {
        const auto child = static_cast<std::size_t>(part.first);
        REQUIRE(reached_at[child] == -2);
        REQUIRE(reached_at[static_cast<std::size_t>(parent)] >= -1);
        REQUIRE(reached_at[static_cast<std::size_t>(parent)] < level);
        reached_at[child] = level;
      });
      REQUIRE(std::count(reached_at.begin(), reached_at.end(), -2) == 0);
      int levels = 0;
      for (int reach = 1; reach < n; reach *= arity) ++levels;
      CHECK(tree.depth() == levels);
    }
  }
}

TEST_CASE("tree takes the steps and sends the bytes that its README says") {
  const spi::Algorithm& tree = algorithm_named("tree");
  const Cluster cluster = one_region(30, 8);
  CHECK(rounds_of(tree.stages(shape_of(Collective::kBroadcast, 4), cluster, "2")) == 5);
  CHECK(rounds_of(tree.stages(shape_of(Collective::kBroadcast, 4), cluster, "8")) == 2);
  CHECK(rounds_of(tree.stages(shape_of(Collective::kAllReduce), cluster, "4")) == 6);
  double most = 0;
  for (const Schedule& s : build_all(tree, shape_of(Collective::kBroadcast, 4), cluster, "4")) {
    most = std::max(most, traffic_of(s).sent);
  }
  CHECK(most <= 3 * 3);
  const auto gather = build_all(tree, shape_of(Collective::kGather, 7), cluster, "2");
  CHECK(traffic_of(gather[7]).received == 29);
  CHECK_FALSE(gather[7].chunkable);
}

TEST_CASE("a broadcast tree enters each host of a row of them once") {
  const Cluster cluster = one_region(32, 8);
  int crossings = 0;
  for (const auto& stage : algorithm_named("tree").stages(shape_of(Collective::kBroadcast), cluster, "2")) {
    for (const auto& flow : stage.flows) crossings += cluster.tier_between(flow.from, flow.to) == Tier::kHost ? 0 : 1;
  }
  CHECK(crossings == 3);
}

}  // namespace
}  // namespace longspan::test
