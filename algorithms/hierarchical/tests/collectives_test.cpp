#include "clusters.hpp"
#include "schedule/checker.hpp"
#include "support/catch.hpp"

namespace longspan::spi {
const Algorithm& algorithm_hierarchical();
}

using namespace longspan;
using namespace longspan::hierarchical;

namespace {

const std::vector<std::vector<std::string>> kClusters{{"1"},
                                                      {"2"},
                                                      {"8"},
                                                      {"1 1"},
                                                      {"1 1 1"},
                                                      {"4 4"},
                                                      {"1 2 3"},
                                                      {"5 1 1 7"},
                                                      {"1", "1"},
                                                      {"1 1", "1 1"},
                                                      {"2 2", "2 2"},
                                                      {"4 4", "4 4"},
                                                      {"1 1 1", "1"},
                                                      {"1", "3"},
                                                      {"8", "8"},
                                                      {"1 1 1 1", "1 1 1"},
                                                      {"1:5 1:1", "1:2 1:2"},
                                                      {"2:10 3:1 1:4", "1 4"},
                                                      {"1 2", "3 1"},
                                                      {"1 1!", "1 1"},
                                                      {"2! 2", "2"},
                                                      {"3! 1! 2 1", "1! 2 3"},
                                                      {"4 2!", "1! 4", "1"},
                                                      {"1", "1", "1"},
                                                      {"1 1", "1 1", "1 1"},
                                                      {"2 2", "2 2", "2 2"},
                                                      {"1 1 1", "1", "2 1"},
                                                      {"2:1 2:3", "1:7", "4:2 1:9 1:1"},
                                                      {"1 1", "1 1", "1 1", "1 1"},
                                                      {"1", "2", "3", "4"},
                                                      {"1", "1", "1", "1", "1"},
                                                      {"3 2", "1", "2 2! 1", "5", "1 1"},
                                                      {"1 2 3 4 1"},
                                                      {"2 2! 1 3 2", "1 1 1! 1! 2"},
                                                      {"1:3 1:1 2:2 1:9 2:4", "4"},
                                                      {"1", "1", "1", "1", "1", "1", "1", "2"}};

void holds_on(const CollectiveShape& shape, const Cluster& cluster) {
  const spi::Algorithm& algorithm = spi::algorithm_hierarchical();
  const auto variants = algorithm.variants(shape, cluster);
  REQUIRE_FALSE(variants.empty());
  for (const std::string& variant : variants) {
    INFO(name_of(shape.kind) << " " << variant << " root " << shape.root << (shape.uneven ? " uneven" : ""));
    const std::vector<Schedule> schedules = build_all(algorithm, shape, cluster, variant);
    CHECK(check(schedules, cluster).to_string() == "ok");
    CHECK(check_stages(schedules, algorithm.stages(shape, cluster, variant)).to_string() == "ok");
    CHECK(misbehaved(schedules, cluster) == "");
  }
}

void holds_everywhere(Collective kind) {
  for (const auto& regions : kClusters) {
    const Cluster cluster = cluster_of(regions);
    INFO(text_of(regions));
    for (int root = 0; root < (has_root(kind) ? cluster.size() : 1); ++root)
      holds_on({kind, root, false, false}, cluster);
    if (kind == Collective::kAllGather || kind == Collective::kReduceScatter) holds_on({kind, 0, true, false}, cluster);
  }
}

// Two sites of two racks of two hosts in the first region, with uplinks stated; one site of two racks in the second.
Cluster racks_and_sites(const std::string& hosts) {
  Cluster cluster = cluster_of({hosts, hosts});
  Topology& topology = cluster.topology;
  topology.sites = {Group{"s0", 0, Bandwidth{1e9}, {}}, Group{"s1", 0, Bandwidth{1e9}, {}}, Group{"", 1, {}, {}}};
  topology.racks.clear();
  for (int rack = 0; rack < 8; ++rack)
    topology.racks.push_back(Group{"k", rack < 4 ? rack / 2 : 2, Bandwidth{5e8}, {}});
  for (std::size_t h = 0; h < topology.hosts.size(); ++h) {
    Host& host = topology.hosts[h];
    host.rack = static_cast<int>(h) / 2;
    host.site = topology.racks[static_cast<std::size_t>(host.rack)].parent;
  }
  return cluster;
}

}  // namespace

TEST_CASE("allreduce gives every rank the same sum of everyone") { holds_everywhere(Collective::kAllReduce); }
TEST_CASE("broadcast gives every rank the root's data") { holds_everywhere(Collective::kBroadcast); }
TEST_CASE("reduce gives the root the sum of everyone") { holds_everywhere(Collective::kReduce); }
TEST_CASE("allgather gives every rank everyone's block") { holds_everywhere(Collective::kAllGather); }
TEST_CASE("reduce-scatter gives every rank the sum of its block") { holds_everywhere(Collective::kReduceScatter); }
TEST_CASE("gather gives the root everyone's block") { holds_everywhere(Collective::kGather); }
TEST_CASE("scatter gives every rank its block of the root") { holds_everywhere(Collective::kScatter); }
TEST_CASE("alltoall gives every rank everyone's block for it") { holds_everywhere(Collective::kAllToAll); }
TEST_CASE("barrier ends on every rank") { holds_everywhere(Collective::kBarrier); }

TEST_CASE("every collective holds where racks and sites have uplinks") {
  for (const std::string hosts : {"1 1 1 1 1 1 1 1", "2 1 3 1 1 2 1 1!", "2! 1! 1 1 1 1! 2 1"}) {
    const Cluster cluster = racks_and_sites(hosts);
    INFO(hosts);
    for (int kind = 0; kind < kCollectiveCount; ++kind) {
      const auto collective = static_cast<Collective>(kind);
      holds_on({collective, 0, false, false}, cluster);
      if (has_root(collective)) holds_on({collective, cluster.size() - 1, false, false}, cluster);
    }
  }
}

TEST_CASE("a plan that the links cannot carry is not offered") {
  Cluster cluster = cluster_of({"2", "2", "2"});
  std::erase_if(cluster.topology.wan, [](const WanLink& link) { return link.from == 1 && link.to == 2; });
  const spi::Algorithm& algorithm = spi::algorithm_hierarchical();
  CHECK(algorithm.variants({Collective::kAllReduce, 0, false, false}, cluster).empty());
  CHECK_FALSE(algorithm.variants({Collective::kBroadcast, 0, false, false}, cluster).empty());
  CHECK(algorithm.variants({Collective::kBroadcast, 2, false, false}, cluster).empty());
  CHECK(algorithm.variants({Collective::kAllReduce, 0, false, false}, cluster_of({"2!", "2"})).empty());
  CHECK(algorithm.variants({Collective::kAllToAll, 0, false, true}, cluster_of({"2", "2"})).empty());
}

TEST_CASE("every block crosses each link once") {
  for (const auto& regions : kClusters) {
    const Cluster cluster = cluster_of(regions);
    const double crossings = static_cast<double>(cluster.size()) * static_cast<double>(regions.size() - 1);
    INFO(text_of(regions));
    for (const Collective kind : {Collective::kAllGather, Collective::kReduceScatter}) {
      const CollectiveShape shape{kind, 0, false, false};
      CHECK(sent(build_all(spi::algorithm_hierarchical(), shape, cluster, "sharded"), Tier::kWan) == Approx(crossings));
    }
  }
}

TEST_CASE("in a region every block enters each host once") {
  const Cluster cluster = cluster_of({"4 4 4", "4 4"});
  const CollectiveShape shape{Collective::kAllGather, 0, false, false};
  const auto schedules = build_all(spi::algorithm_hierarchical(), shape, cluster, "sharded");
  // 20 blocks, each into the 2 + 1 hosts where it did not come in itself. (One rack in each region.)
  CHECK(sent(schedules, Tier::kRack) == Approx(20 * 3));
}

TEST_CASE("two regions of two hosts: one message each way per tier and nothing else") {
  const Cluster cluster = cluster_of({"1 1", "1 1"});
  const CollectiveShape shape{Collective::kAllReduce, 0, false, false};
  const auto schedules = build_all(spi::algorithm_hierarchical(), shape, cluster, "one-shot");
  CHECK(most_steps(schedules) == 8);
  CHECK(sent(schedules, Tier::kWan) == Approx(2));
}

TEST_CASE("each region's sum crosses each link once") {
  const CollectiveShape shape{Collective::kAllReduce, 0, false, false};
  for (const auto& regions : kClusters) {
    const double count = static_cast<double>(regions.size());
    if (regions.size() < 2) continue;
    INFO(text_of(regions));
    const Cluster cluster = cluster_of(regions);
    CHECK(sent(build_all(spi::algorithm_hierarchical(), shape, cluster, "one-shot"), Tier::kWan) ==
          Approx(count * (count - 1)));
    if (regions.size() < 3) continue;
    CHECK(sent(build_all(spi::algorithm_hierarchical(), shape, cluster, "rs-ag"), Tier::kWan) ==
          Approx(2 * (count - 1)));
  }
}
