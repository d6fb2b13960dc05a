// The algorithm for networks of several tiers; README.md states the steps and bytes of each collective.
#include <algorithm>
#include <map>
#include <set>

#include "hierarchical/variant.hpp"

namespace longspan {
namespace hierarchical {

Outline outline_of(const Cluster& cluster) {
  std::map<int, int> ranks;
  std::map<int, int> gateways;
  std::map<int, std::set<int>> hosts;
  for (int r = 0; r < cluster.size(); ++r) {
    const int region = cluster.region_of(r);
    ++ranks[region];
    if (cluster.gateway(r)) ++gateways[region];
    hosts[region].insert(cluster.host_of_rank[static_cast<std::size_t>(r)]);
  }
  Outline outline;
  outline.regions = static_cast<int>(ranks.size());
  for (const auto& [region, count] : ranks) {
    outline.largest_region = std::max(outline.largest_region, count);
    outline.most_gateways = std::max(outline.most_gateways, gateways[region]);
  }
  const Tiers tiers(cluster, TierOptions{.ring = true});
  outline.long_rings =
      std::any_of(tiers.units().begin(), tiers.units().end(), [&](const Unit& u) { return tiers.rings(u); });
  outline.layered = std::any_of(tiers.units().begin(), tiers.units().end(), [&](const Unit& unit) {
    return unit.level != Tier::kSelf &&
           unit.ranks.size() < tiers.region(tiers.region_of(unit.ranks.front())).ranks.size();
  });
  return outline;
}

std::size_t inner_flows(const Cluster& cluster, const TierOptions& options) {
  const Tiers tiers(cluster, options);
  std::size_t count = 0;
  for (const Unit& unit : tiers.units()) {
    if (unit.level == Tier::kSelf) continue;
    if (tiers.rings(unit)) {
      count += unit.ranks.size();
      continue;
    }
    count += options.leader ? unit.children.size() : unit.ranks.size() * (unit.children.size() - 1);
  }
  return count;
}

std::size_t outer_flows(const Cluster& cluster, const TierOptions& options) {
  std::set<int> with_ranks;
  for (int r = 0; r < cluster.size(); ++r) with_ranks.insert(cluster.region_of(r));
  const std::size_t regions = with_ranks.size();
  return (options.leader ? regions : static_cast<std::size_t>(cluster.size())) * (regions - 1);
}

namespace {

// Whether data may go from every region to every other one as the collective needs, with somebody to carry it.
bool reachable(const CollectiveShape& shape, const Cluster& cluster) {
  std::map<int, bool> carried;
  for (int r = 0; r < cluster.size(); ++r) {
    bool& any = carried[cluster.region_of(r)];
    any = any || cluster.gateway(r);
  }
  if (carried.size() < 2) return true;
  const int root = has_root(shape.kind) ? cluster.region_of(shape.root) : -1;
  const bool outward = shape.kind == Collective::kBroadcast || shape.kind == Collective::kScatter;
  for (const auto& [from, from_any] : carried) {
    if (!from_any) return false;
    for (const auto& [to, to_any] : carried) {
      if (from == to || (root >= 0 && (outward ? from : to) != root)) continue;
      if (cluster.topology.wan_link(from, to) == nullptr) return false;
    }
  }
  return true;
}

const Family* family_of(Collective kind) {
  static const Family allreduce = allreduce_family();
  static const Family rooted = rooted_family();
  static const Family allgather = allgather_family();
  static const Family reduce_scatter = reduce_scatter_family();
  static const Family routed = routed_family();
  static const Family barrier = barrier_family();
  switch (kind) {
    case Collective::kAllReduce: return &allreduce;
    case Collective::kBroadcast:
    case Collective::kReduce: return &rooted;
    case Collective::kAllGather: return &allgather;
    case Collective::kReduceScatter: return &reduce_scatter;
    case Collective::kGather:
    case Collective::kScatter:
    case Collective::kAllToAll: return &routed;
    case Collective::kBarrier: return &barrier;
  }
  return nullptr;
}

class Hierarchical final : public spi::Algorithm {
 public:
  std::string_view name() const override { return "hierarchical"; }

  std::vector<std::string> variants(const CollectiveShape& shape, const Cluster& cluster) const override {
    const Family* family = family_of(shape.kind);
    // Lengths that only two ranks know cannot pass through a third.
    if (family == nullptr || shape.private_lengths || cluster.size() == 0 || !reachable(shape, cluster)) return {};
    return family->variants(shape, cluster);
  }

  std::size_t flow_count(const CollectiveShape& shape, const Cluster& cluster,
                         std::string_view variant) const override {
    return family_of(shape.kind)->flow_count(Request{shape, cluster, variant});
  }

  std::vector<spi::Stage> stages(const CollectiveShape& shape, const Cluster& cluster,
                                 std::string_view variant) const override {
    return family_of(shape.kind)->stages(Request{shape, cluster, variant});
  }

  Schedule build(const CollectiveShape& shape, const Cluster& cluster, std::string_view variant,
                 int rank) const override {
    return family_of(shape.kind)->build(Request{shape, cluster, variant}, rank);
  }
};

}  // namespace
}  // namespace hierarchical

namespace spi {

const Algorithm& algorithm_hierarchical() {
  static const hierarchical::Hierarchical algorithm;
  return algorithm;
}

}  // namespace spi
}  // namespace longspan
