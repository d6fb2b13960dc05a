// Every algorithm of the registry, on every collective it offers, is proved by the checker. A new algorithm joins by
// being registered.

#include <rapidcheck.h>

#include <array>

#include "clusters.hpp"
#include "longspan/spi/registry.hpp"
#include "support/catch.hpp"

namespace longspan::test {
namespace {

constexpr std::array<Collective, kCollectiveCount> kAll{
    Collective::kAllReduce, Collective::kAllGather, Collective::kReduceScatter, Collective::kBroadcast,
    Collective::kReduce,    Collective::kGather,    Collective::kScatter,       Collective::kAllToAll,
    Collective::kBarrier};

/// Sanitizers cost an order of magnitude; their builds prove the smaller clusters.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kScaledDown = true;
#elif defined(__has_feature)
constexpr bool kScaledDown = __has_feature(address_sanitizer) || __has_feature(thread_sanitizer);
#else
constexpr bool kScaledDown = false;
#endif
constexpr int kMostRanks = kScaledDown ? 17 : 64;

void prove_everything_on(const Cluster& cluster, const CheckOptions& options = {}) {
  for (const spi::Algorithm* algorithm : spi::all_algorithms()) {
    for (const Collective kind : kAll) {
      for (const CollectiveShape& shape : shapes_of(kind, cluster.size())) {
        const std::string found = first_defect(*algorithm, shape, cluster, options);
        if (!found.empty()) FAIL_CHECK(found);
      }
    }
  }
}

/// Large clusters run the deadlock check once per order, not for several chunk counts.
CheckOptions options_for(int ranks) {
  CheckOptions options;
  if (ranks > 24) options.chunks = {3};
  return options;
}

TEST_CASE("every algorithm is right for every number of ranks on one host") {
  for (int ranks = 1; ranks <= 16; ++ranks) prove_everything_on(one_region(ranks, ranks));
}

TEST_CASE("every algorithm is right for more ranks, primes and powers of two, on uneven hosts") {
  for (const int ranks : {17, 23, 31, 32, 33, 47, 64}) {
    if (ranks <= kMostRanks) prove_everything_on(one_region(ranks, 5), options_for(ranks));
  }
}

TEST_CASE("every algorithm is right across two to five regions") {
  const std::vector<Layout> layouts{
      {{1}, {1}},          {{2}, {1}},       {{1, 1}, {1, 1}},   {{2, 2}, {2, 2}},       {{1, 1, 1, 1}, {1, 1, 1}},
      {{4}, {1}},          {{1, 1, 1}, {1}}, {{3, 1}, {2}},      {{8}, {8}},             {{1}, {1}, {1}},
      {{2}, {3}, {1}},     {{4, 4}, {4}, {2}}, {{2, 2}, {2}, {1}}, {{1}, {1}, {1}, {1}}, {{2}, {2}, {3}, {1}},
      {{3, 2}, {2}, {1}, {4}}, {{1}, {1}, {1}, {1}, {1}}, {{2, 1}, {3}, {1}, {2}, {4}},
  };
  for (const Layout& layout : layouts) prove_everything_on(cluster_of(layout));
}

TEST_CASE("every algorithm is right across regions of many ranks") {
  for (const Layout& layout : {Layout{{8, 8, 8, 8}, {8, 8, 8, 8}}, Layout{{7, 7, 7}, {1}, {13}}}) {
    const Cluster cluster = cluster_of(layout);
    if (cluster.size() <= kMostRanks) prove_everything_on(cluster, options_for(cluster.size()));
  }
}

TEST_CASE("every algorithm is right where only some hosts are gateways") {
  prove_everything_on(cluster_of({{2, 2}, {2, 2}}, {1}));
  prove_everything_on(cluster_of({{1, 1, 1, 1}, {1, 1, 1}}, {0, 2, 6}));
  prove_everything_on(cluster_of({{3, 2}, {1, 2}, {4}}, {0, 3}));
}

TEST_CASE("every algorithm is right where hosts of different regions alternate") {
  Cluster cluster = cluster_of({{2, 2}, {2, 2}, {1}});
  cluster.host_of_rank = {0, 2, 1, 3, 4, 0, 3, 2, 1};
  prove_everything_on(cluster);
}

TEST_CASE("every algorithm is right on random clusters") {
  const bool held = rc::check("checked", [] {
    const int regions = *rc::gen::inRange(1, 6);
    Layout layout;
    std::vector<int> no_gateway;
    int host_index = 0;
    for (int r = 0; r < regions; ++r) {
      const int hosts = *rc::gen::inRange(1, 4);
      layout.emplace_back();
      for (int h = 0; h < hosts; ++h, ++host_index) {
        layout.back().push_back(*rc::gen::inRange(1, 5));
        // The first host of a region stays a gateway: a region without one cannot be reached.
        if (h > 0 && *rc::gen::inRange(0, 3) == 0) no_gateway.push_back(host_index);
      }
    }
    const Cluster cluster = cluster_of(layout, no_gateway);
    const auto kind = static_cast<Collective>(*rc::gen::inRange(0, kCollectiveCount));
    CollectiveShape shape;
    shape.kind = kind;
    shape.root = has_root(kind) ? *rc::gen::inRange(0, cluster.size()) : 0;
    for (const spi::Algorithm* algorithm : spi::all_algorithms()) {
      const std::string found = first_defect(*algorithm, shape, cluster, options_for(cluster.size()));
      if (!found.empty()) RC_FAIL(found);
    }
  });
  CHECK(held);
}

}  // namespace
}  // namespace longspan::test
