#include "planner/bounds.hpp"

#include "clusters.hpp"
#include "support/catch.hpp"

using namespace longspan;
using namespace longspan::testing;
using planner::BoundTable;

namespace {

constexpr double kSize = 64 * kMi;
constexpr double kRate = 125e6;  // 1 Gbit/s

Bound bound_of(const Cluster& cluster, Collective kind, double bytes, int root = 0) {
  CollectiveShape shape;
  shape.kind = kind;
  shape.root = root;
  return BoundTable(cluster).bound(shape, bytes);
}

}  // namespace

TEST_CASE("Two regions: an allreduce takes S/B + L and no less") {
  const Bound bound = bound_of(regions_of({2, 2}, 5 * kGbit, kGbit, 0.02), Collective::kAllReduce, kSize);
  CHECK(near(bound.seconds, kSize / kRate + 0.02));
  CHECK(bound.cut == "region a out: 1 Gbit/s");
}

TEST_CASE("Three regions: moving partial sums and results binds, 2 (k-1) S / c(P)") {
  const Bound bound = bound_of(regions_of({2, 2, 2}, 50 * kGbit, kGbit, 0.02), Collective::kAllReduce, kSize);
  CHECK(near(bound.seconds, 2 * 2 * kSize / (6 * kRate)));
  CHECK(bound.cut.find("routing over 3 regions") == 0);
}

TEST_CASE("Three unequal regions: the worst partition is found among all of them") {
  ClusterBuilder builder;
  for (int r = 0; r < 3; ++r) builder.region(1, 0);
  const double slow = kGbit / 10;
  for (int a = 0; a < 3; ++a) {
    for (int b = 0; b < 3; ++b) {
      if (a != b) builder.wan(a, b, (a == 2 || b == 2) ? slow : kGbit, 0.01);
    }
  }
  const Bound bound = bound_of(builder.cluster(), Collective::kAllReduce, kSize);
  // Region c has two links of 0.1 Gbit/s each way, so cutting it off binds.
  CHECK(near(bound.seconds, kSize / (2 * slow / 8) + 0.01));
  CHECK(bound.cut.find("region c out") == 0);
}

TEST_CASE("Three hosts facing one: the lone host's NIC binds when it is slower than the link") {
  ClusterBuilder builder;
  builder.region(3, 10 * kGbit);
  builder.region(1, kGbit / 2);
  builder.mesh(kGbit, 0.02);
  const Bound bound = bound_of(builder.cluster(), Collective::kAllReduce, kSize);
  CHECK(near(bound.seconds, kSize / (kRate / 2) + 0.02));

  const Bound wan = bound_of(regions_of({3, 1}, 10 * kGbit, kGbit, 0.02), Collective::kAllReduce, kSize);
  CHECK(near(wan.seconds, kSize / kRate + 0.02));
}

TEST_CASE("One region: hosts' NICs bind an allreduce by 2 (N-1) S / (N B)") {
  const Bound bound = bound_of(regions_of({4}, kGbit, kGbit, 0), Collective::kAllReduce, kSize);
  CHECK(near(bound.seconds, 2 * 3 * kSize / (4 * kRate)));
  CHECK(bound.cut.find("routing over 4 hosts") == 0);
}

TEST_CASE("Allgather and reduce-scatter: every rank's part crosses, once") {
  const Cluster cluster = regions_of({3, 1}, 100 * kGbit, kGbit, 0.02);
  const Bound allgather = bound_of(cluster, Collective::kAllGather, kSize);
  CHECK(near(allgather.seconds, 3 * kSize / kRate + 0.02));
  CHECK(allgather.cut.find("region a out") == 0);
  const Bound reduce_scatter = bound_of(cluster, Collective::kReduceScatter, kSize);
  CHECK(near(reduce_scatter.seconds, 3 * kSize / kRate + 0.02));
  CHECK(reduce_scatter.cut.find("region a in") == 0);
}

TEST_CASE("Rooted collectives: only the direction that is needed binds") {
  ClusterBuilder builder;
  builder.region(2, 100 * kGbit);
  builder.region(2, 100 * kGbit);
  builder.wan(0, 1, kGbit, 0.02);
  builder.wan(1, 0, kGbit / 4, 0.03);
  const Cluster cluster = builder.cluster();
  CHECK(near(bound_of(cluster, Collective::kBroadcast, kSize, 0).seconds, kSize / kRate + 0.02));
  CHECK(near(bound_of(cluster, Collective::kBroadcast, kSize, 2).seconds, 4 * kSize / kRate + 0.03));
  CHECK(near(bound_of(cluster, Collective::kReduce, kSize, 0).seconds, 4 * kSize / kRate + 0.03));
  CHECK(near(bound_of(cluster, Collective::kGather, kSize, 0).seconds, 2 * 4 * kSize / kRate + 0.03));
  CHECK(near(bound_of(cluster, Collective::kScatter, kSize, 0).seconds, 2 * kSize / kRate + 0.02));
}

TEST_CASE("All-to-all: each pair across the cut has its own block") {
  const Bound bound = bound_of(regions_of({2, 3}, 100 * kGbit, kGbit, 0.02), Collective::kAllToAll, kSize);
  CHECK(near(bound.seconds, 2 * 3 * kSize / kRate + 0.02));
}

TEST_CASE("A rack's uplink binds what its hosts send together") {
  ClusterBuilder builder;
  builder.region(4, 10 * kGbit);
  Topology& topology = builder.topology();
  topology.racks.push_back(Group{"r2", 0, Bandwidth{kRate}, Latency{50e-6}});
  topology.hosts[2].rack = topology.hosts[3].rack = 1;
  const Bound bound = bound_of(builder.cluster(), Collective::kAllGather, kSize);
  CHECK(near(bound.seconds, 2 * kSize / kRate + 50e-6));
  CHECK(bound.cut == "rack r2 out: 1 Gbit/s");
}

TEST_CASE("Small messages: the longest of the shortest paths") {
  ClusterBuilder builder;
  for (int r = 0; r < 3; ++r) builder.region(1, 0);
  builder.wan(0, 1, kGbit, 0.02);
  builder.wan(1, 0, kGbit, 0.02);
  builder.wan(1, 2, kGbit, 0.02);
  builder.wan(2, 1, kGbit, 0.02);
  builder.wan(0, 2, kGbit, 0.1);
  builder.wan(2, 0, kGbit, 0.1);
  const Bound barrier = bound_of(builder.cluster(), Collective::kBarrier, 0);
  CHECK(near(barrier.seconds, 0.04));  // relayed by region b
  CHECK(barrier.cut == "latency a-1 -> c-1");
  CHECK(near(bound_of(builder.cluster(), Collective::kBroadcast, 0, 1).seconds, 0.02));
}

TEST_CASE("Nothing stated, nothing known") {
  const Cluster cluster = place_in_order(flat_topology({"x", "y"}), 2);
  CHECK(bound_of(cluster, Collective::kAllReduce, kSize).seconds < 0);
  CHECK(bound_of(place_in_order(flat_topology({"x"}), 4), Collective::kAllReduce, kSize).seconds < 0);
}
