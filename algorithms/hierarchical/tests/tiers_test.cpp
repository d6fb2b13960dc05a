#include "hierarchical/tiers.hpp"

#include "clusters.hpp"
#include "hierarchical/intervals.hpp"
#include "hierarchical/wan_shares.hpp"
#include "support/catch.hpp"

using namespace longspan;
using namespace longspan::hierarchical;

namespace {

double share_of(const Partition& partition, int rank) {
  double sum = 0;
  for (const Segment& segment : partition) sum += segment.rank == rank ? segment.span.length() : 0;
  return sum;
}

bool is_partition(const Partition& partition) {
  Fraction at = kZero;
  for (const Segment& segment : partition) {
    if (segment.span.begin != at || segment.span.empty()) return false;
    at = segment.span.end;
  }
  return at == kOne;
}

// Whether what `rank` owns of `inner` lies inside what it owns of `outer`.
bool nested(const Partition& outer, const Partition& inner) {
  for (const Piece& piece : transfers(outer, inner)) {
    if (piece.from != piece.to && share_of(outer, piece.to) > 0) {
      for (const Segment& segment : outer) {
        if (segment.rank == piece.to && !intersection(segment.span, piece.span).empty()) return false;
      }
    }
  }
  return true;
}

}  // namespace

TEST_CASE("positions stay exact, and on a grid inside the interval when denominators grow") {
  CHECK(point_in(Interval{{1, 3}, {2, 3}}, 1, 2) == Fraction{1, 2});
  Interval span{{1, 1000003}, {2, 999983}};
  for (int i = 0; i < 20; ++i) {
    const Fraction middle = point_in(span, 1, 3);
    CHECK(span.begin <= middle);
    CHECK(middle <= span.end);
    span.end = middle;
    if (span.empty()) break;
  }
}

TEST_CASE("a window of [0, 1) becomes [0, 1)") {
  CHECK(zoom(Interval{{1, 4}, {3, 4}}, 1, 3) == Interval{});
  CHECK(zoom(Interval{{1, 2}, {3, 4}}, 1, 3) == Interval{{1, 2}, kOne});
  CHECK(zoom(Interval{{0, 1}, {1, 4}}, 2, 3).empty());
}

TEST_CASE("what moves between four owners and three covers everything once") {
  const std::vector<int> four{0, 1, 2, 3};
  const std::vector<int> three{4, 5, 6};
  const std::vector<std::uint64_t> alike{1, 1, 1, 1};
  const Partition from = deal(four, alike);
  const Partition to = deal(three, std::span(alike).first(3));
  const std::vector<Piece> pieces = transfers(from, to);
  CHECK(pieces.size() == 6);
  double sum = 0;
  for (const Piece& piece : pieces) sum += piece.span.length();
  CHECK(sum == Approx(1));
}

TEST_CASE("shares follow the NICs, and a rank keeps part of what it had in its host") {
  const Cluster cluster = cluster_of({"2:10 1:5 4:20", "3:1 1:2"});
  const Tiers tiers(cluster, TierOptions{});
  const Partition& first = tiers.region(0).partition;
  CHECK(is_partition(first));
  CHECK(share_of(first, 0) == Approx(10.0 / 35 / 2));
  CHECK(share_of(first, 2) == Approx(5.0 / 35));
  CHECK(share_of(first, 6) == Approx(20.0 / 35 / 4));
  CHECK(share_of(tiers.region(1).partition, 10) == Approx(2.0 / 3));
  for (const Unit& unit : tiers.units()) {
    for (const int child : unit.children) CHECK(nested(tiers.unit(child).partition, unit.partition));
  }
}

TEST_CASE("hosts that may not reach the WAN own nothing of their region's sum") {
  const Cluster cluster = cluster_of({"2 2!", "1"});
  const Tiers tiers(cluster, TierOptions{});
  CHECK(share_of(tiers.region(0).partition, 0) == Approx(0.5));
  CHECK(share_of(tiers.region(0).partition, 2) == Approx(0));
}

TEST_CASE("a rack is a level only where its uplink is stated and it is one of several") {
  Cluster cluster = cluster_of({"1 1 1 1"});
  Topology& topology = cluster.topology;
  topology.racks.push_back(Group{"far", 0, {}, {}});
  topology.hosts[2].rack = topology.hosts[3].rack = 1;
  CHECK(Tiers(cluster, TierOptions{}).levels().size() == 1);
  topology.racks[1].uplink = Bandwidth{125e6};
  const Tiers tiers(cluster, TierOptions{});
  REQUIRE(tiers.levels().size() == 2);
  CHECK(tiers.levels().front() == Tier::kRack);
}

TEST_CASE("regions share a reduce-scatter as their links allow") {
  Cluster cluster = cluster_of({"1", "1", "1"});
  const std::vector<int> regions{0, 1, 2};
  CHECK(wan_shares(cluster.topology, regions) == std::vector<std::uint64_t>{1000, 1000, 1000});
  for (WanLink& link : cluster.topology.wan) {
    if (link.from + link.to == 2) link.bandwidth = Bandwidth{125e6 / 4};
  }
  // y0 + y1 <= 1000, y1 + y2 <= 1000, y0 + y2 <= 250 (Mbit/s): the region between the fast links takes most.
  CHECK(wan_shares(cluster.topology, regions) == std::vector<std::uint64_t>{250, 1750, 250});
}
