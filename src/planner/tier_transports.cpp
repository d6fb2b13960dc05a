#include "planner/tier_transports.hpp"

#include <algorithm>
#include <array>
#include <map>
#include <tuple>
#include <utility>

namespace longspan::planner {
namespace {

/// Ranks with equal offers are of one kind: jobs of thousands of ranks have a handful, so pairs of kinds can be listed.
/// With more kinds than this, tiers are looked at as if all ranks were of the first ones.
constexpr std::size_t kMaxKinds = 32;

bool alike(const EndpointOffer& a, const EndpointOffer& b) {
  const auto key = [](const EndpointOffer& o) {
    return std::tie(o.transport, o.limit, o.named, o.unusable, o.traits.medium, o.traits.fabric,
                    o.traits.rate_bytes_per_second, o.traits.latency, o.traits.reach, o.traits.preference);
  };
  return key(a) == key(b);
}

using Offers = std::vector<EndpointOffer>;

/// The kinds of ranks, and of each kind its first rank.
struct Kinds {
  std::vector<std::size_t> of_rank;
  std::vector<int> first;
};

Kinds kinds_of(const Cluster& cluster, std::span<const Offers> offers) {
  Kinds kinds;
  for (int rank = 0; rank < cluster.size(); ++rank) {
    const Offers& mine = offers[offers.size() == 1 ? 0 : static_cast<std::size_t>(rank)];
    std::size_t kind = 0;
    for (; kind < kinds.first.size(); ++kind) {
      const Offers& known = offers[offers.size() == 1 ? 0 : static_cast<std::size_t>(kinds.first[kind])];
      if (std::equal(mine.begin(), mine.end(), known.begin(), known.end(), alike)) break;
    }
    if (kind == kinds.first.size() && kind < kMaxKinds) kinds.first.push_back(rank);
    kinds.of_rank.push_back(std::min(kind, kinds.first.size() - 1));
  }
  return kinds;
}

/// Kinds inside a part of the topology, with a rank of each.
using Present = std::map<std::size_t, int>;
using Pairs = std::map<std::tuple<Tier, std::size_t, std::size_t>, std::pair<int, int>>;

/// Joins what is inside one more part to what is inside the parts before: every pair across them is of this tier.
void merge(Tier tier, Present& all, const Present& part, Pairs& pairs) {
  for (const auto& [a, from] : all) {
    for (const auto& [b, to] : part) {
      pairs.emplace(std::tuple(tier, std::min(a, b), std::max(a, b)), std::pair(from, to));
    }
  }
  all.insert(part.begin(), part.end());
}

Pairs pairs_of(const Cluster& cluster, const Kinds& kinds) {
  Pairs pairs;
  const Topology& t = cluster.topology;
  std::vector<Present> hosts(t.hosts.size()), racks(t.racks.size()), sites(t.sites.size()), regions(t.regions.size());
  for (int rank = 0; rank < cluster.size(); ++rank) {
    const auto host = static_cast<std::size_t>(cluster.host_of_rank[static_cast<std::size_t>(rank)]);
    merge(Tier::kHost, hosts[host], {{kinds.of_rank[static_cast<std::size_t>(rank)], rank}}, pairs);
  }
  for (std::size_t h = 0; h < hosts.size(); ++h) {
    merge(Tier::kRack, racks[static_cast<std::size_t>(t.hosts[h].rack)], hosts[h], pairs);
  }
  for (std::size_t r = 0; r < racks.size(); ++r) {
    merge(Tier::kSite, sites[static_cast<std::size_t>(t.racks[r].parent)], racks[r], pairs);
  }
  for (std::size_t s = 0; s < sites.size(); ++s) {
    merge(Tier::kRegion, regions[static_cast<std::size_t>(t.sites[s].parent)], sites[s], pairs);
  }
  Present all;
  for (const Present& region : regions) merge(Tier::kWan, all, region, pairs);
  return pairs;
}

}  // namespace

std::vector<TierTransport> transports_by_tier(const Cluster& cluster, std::span<const Offers> offers) {
  std::vector<TierTransport> found;
  if (offers.empty() || cluster.size() == 0) return found;
  const Kinds kinds = kinds_of(cluster, offers);
  for (const auto& [key, ends] : pairs_of(cluster, kinds)) {
    const auto [from, to] = ends;
    const auto of = [&](int rank) -> const Offers& {
      return offers[offers.size() == 1 ? 0 : static_cast<std::size_t>(rank)];
    };
    TransportChoice choice =
        choose_transport(of(from), of(to), std::get<Tier>(key), cluster.describe(from), cluster.describe(to));
    const auto again = std::find_if(found.begin(), found.end(), [&](const TierTransport& each) {
      return each.tier == std::get<Tier>(key) && each.choice.transport == choice.transport;
    });
    if (again == found.end()) {
      found.push_back({std::get<Tier>(key), from, to, std::move(choice)});
      continue;
    }
    // What tiers are priced by is the slowest pair.
    again->choice.traits.latency = std::max(again->choice.traits.latency, choice.traits.latency);
    double& rate = again->choice.traits.rate_bytes_per_second;
    if (choice.traits.rate_bytes_per_second > 0) {
      rate = rate > 0 ? std::min(rate, choice.traits.rate_bytes_per_second) : choice.traits.rate_bytes_per_second;
    }
  }
  return found;
}

void apply(std::span<const TierTransport> tiers, CostParameters& parameters) {
  std::array<double, kTierCount> stated{};
  std::array<bool, kTierCount> all_stated;
  all_stated.fill(true);
  double slowest = 0;
  bool rates_stated = true;
  for (const TierTransport& each : tiers) {
    const auto tier = static_cast<std::size_t>(each.tier);
    const double seconds = static_cast<double>(each.choice.traits.latency.count()) * 1e-9;
    stated[tier] = std::max(stated[tier], seconds);
    all_stated[tier] = all_stated[tier] && seconds > 0;
    if (each.tier <= Tier::kHost || each.tier == Tier::kWan) continue;
    const double rate = each.choice.traits.rate_bytes_per_second;
    rates_stated = rates_stated && rate > 0;
    if (rate > 0) slowest = slowest > 0 ? std::min(slowest, rate) : rate;
  }
  for (std::size_t tier = 0; tier < stated.size(); ++tier) {
    if (stated[tier] > 0 && all_stated[tier]) parameters.message_seconds[tier] = stated[tier];
  }
  if (slowest > 0 && rates_stated) parameters.nic_bytes_per_second = slowest;
}

}  // namespace longspan::planner
