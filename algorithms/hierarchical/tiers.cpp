#include "hierarchical/tiers.hpp"

#include <algorithm>
#include <cmath>
#include <map>

#include "hierarchical/wan_shares.hpp"

namespace longspan::hierarchical {
namespace {

std::size_t index(int i) { return static_cast<std::size_t>(i); }

// Every count of ranks per host up to 10 divides it, so a NIC is shared exactly.
constexpr std::uint64_t kNicUnits = 2520;
constexpr double kBytesPerMegabit = 125000;

std::uint64_t megabits(const Bandwidth& bandwidth) {
  return std::max<std::uint64_t>(
      1, static_cast<std::uint64_t>(std::llround(bandwidth.bytes_per_second / kBytesPerMegabit)));
}

}  // namespace

Tiers::Tiers(const Cluster& cluster, const TierOptions& options) : cluster_(&cluster), options_(options) {
  const int ranks = cluster.size();
  std::map<int, std::vector<int>> by_region;
  ranks_on_host_.resize(cluster.topology.hosts.size(), 0);
  for (int r = 0; r < ranks; ++r) {
    by_region[cluster.region_of(r)].push_back(r);
    ++ranks_on_host_[index(cluster.host_of_rank[index(r)])];
    nics_known_ = nics_known_ && cluster.host(r).nic.has_value();
  }
  several_regions_ = by_region.size() > 1;
  for (int r = 0; r < ranks; ++r) carries_.push_back(!several_regions_ || cluster.gateway(r) ? 1 : 0);
  add_leaves();
  std::vector<std::vector<int>> members;
  for (auto& [region, list] : by_region) members.push_back(std::move(list));
  std::sort(members.begin(), members.end());
  region_of_.resize(index(ranks));
  for (const std::vector<int>& list : members) add_region(list);
  if (options_.world && several_regions_) add_unit(Tier::kWan, regions_);
  std::sort(levels_.begin(), levels_.end());
}

int Tiers::below(int rank, Tier level) const {
  for (std::size_t i = index(static_cast<int>(level)); i-- > 0;) {
    if (chain(rank)[i] >= 0) return chain(rank)[i];
  }
  return rank;
}

void Tiers::add_leaves() {
  Chain none;
  none.fill(-1);
  chains_.assign(index(cluster_->size()), none);
  for (int r = 0; r < cluster_->size(); ++r) {
    units_.push_back(Unit{Tier::kSelf, {}, {r}, whole(r)});
    chains_[index(r)][0] = r;
  }
}

void Tiers::add_region(const std::vector<int>& ranks) {
  std::vector<int> children = options_.flat ? ranks : host_units(ranks);
  if (!options_.flat) {
    children = grouped(children, Tier::kRack);
    children = grouped(children, Tier::kSite);
  }
  const int region = static_cast<int>(regions_.size());
  for (const int r : ranks) region_of_[index(r)] = region;
  regions_.push_back(children.size() == 1 ? children.front() : add_unit(Tier::kRegion, children));

  std::vector<int> carriers;
  std::vector<std::uint64_t> weights;
  for (const int r : ranks) {
    if (!carries(r)) continue;
    carriers.push_back(r);
    weights.push_back(weight_of(unit(r), Tier::kRegion));
  }
  normalise(weights);
  gateway_shares_.push_back(deal(carriers, weights));
  gateways_.push_back(std::move(carriers));
}

std::vector<int> Tiers::host_units(const std::vector<int>& ranks) {
  std::map<int, std::vector<int>> by_host;
  for (const int r : ranks) by_host[cluster_->host_of_rank[index(r)]].push_back(r);
  std::vector<int> result;
  for (auto& [host, list] : by_host) {
    result.push_back(list.size() == 1 ? list.front() : add_unit(Tier::kHost, std::move(list)));
  }
  return result;
}

// A rack or site is a level of its own where its uplink is stated (so crossing it costs) and it is one of several.
std::vector<int> Tiers::grouped(const std::vector<int>& children, Tier level) {
  const auto& groups = level == Tier::kRack ? cluster_->topology.racks : cluster_->topology.sites;
  std::map<int, std::vector<int>> by_group;
  for (const int child : children) {
    const Host& host = cluster_->host(unit(child).ranks.front());
    by_group[level == Tier::kRack ? host.rack : host.site].push_back(child);
  }
  if (by_group.size() < 2) return children;
  std::vector<int> result;
  for (auto& [group, list] : by_group) {
    if (list.size() > 1 && groups[index(group)].uplink.has_value()) {
      result.push_back(add_unit(level, std::move(list)));
    } else {
      result.insert(result.end(), list.begin(), list.end());
    }
  }
  return result;
}

int Tiers::add_unit(Tier level, std::vector<int> children) {
  std::sort(children.begin(), children.end(),
            [&](int a, int b) { return unit(a).ranks.front() < unit(b).ranks.front(); });
  Unit made;
  made.level = level;
  for (const int child : children) {
    made.ranks.insert(made.ranks.end(), unit(child).ranks.begin(), unit(child).ranks.end());
  }
  std::sort(made.ranks.begin(), made.ranks.end());
  made.children = std::move(children);
  const int id = static_cast<int>(units_.size());
  for (const int r : made.ranks) chains_[index(r)][static_cast<std::size_t>(level)] = id;
  if (std::find(levels_.begin(), levels_.end(), level) == levels_.end()) levels_.push_back(level);
  fill_partition(made);
  units_.push_back(std::move(made));
  return id;
}

int Tiers::leader_of(const Unit& unit) const {
  // The leader of a child stays the leader above it, so nothing is handed on inside a unit.
  int leader = -1;
  for (const int child : unit.children) {
    const int candidate = this->unit(child).partition.front().rank;
    const bool as_able = leader < 0 || carries(candidate) || !carries(leader);
    const bool better = leader < 0 || (!carries(leader) && carries(candidate));
    if (better || (as_able && candidate == options_.preferred_leader)) leader = candidate;
  }
  return leader;
}

void Tiers::fill_partition(Unit& unit) const {
  if (options_.leader) {
    unit.partition = whole(leader_of(unit));
    return;
  }
  const auto able = [&](int child) { return carries(this->unit(child).partition.front().rank); };
  const bool any = std::any_of(unit.children.begin(), unit.children.end(), able);
  std::vector<const Partition*> parts;
  std::vector<std::uint64_t> weights;
  for (const int child : unit.children) {
    if (any && !able(child)) continue;
    parts.push_back(&this->unit(child).partition);
    weights.push_back(weight_of(this->unit(child), unit.level));
  }
  if (unit.level == Tier::kWan) weights = region_weights(unit);
  normalise(weights);
  unit.partition = nest(parts, weights);
}

std::vector<std::uint64_t> Tiers::region_weights(const Unit& world) const {
  std::vector<int> regions;
  for (const int child : world.children) regions.push_back(cluster_->region_of(unit(child).ranks.front()));
  return wan_shares(cluster_->topology, regions);
}

// What the child can carry: ranks of a host alike, hosts by NIC (ranks by their share of it), racks and sites by their
// uplink.
std::uint64_t Tiers::weight_of(const Unit& child, Tier parent_level) const {
  if (parent_level == Tier::kHost) return 1;
  std::uint64_t sum = 0;
  const bool any = std::any_of(child.ranks.begin(), child.ranks.end(), [&](int r) { return carries(r); });
  for (const int r : child.ranks) {
    if (any && !carries(r)) continue;
    const Host& host = cluster_->host(r);
    const auto mates = static_cast<std::uint64_t>(ranks_on_host_[index(cluster_->host_of_rank[index(r)])]);
    sum += (nics_known_ ? megabits(*host.nic) : 1) * kNicUnits / mates;
  }
  const Host& host = cluster_->host(child.ranks.front());
  const auto& topology = cluster_->topology;
  const auto cap = [&](const Group& group) {
    if (nics_known_ && group.uplink) sum = std::min(sum, megabits(*group.uplink) * kNicUnits);
  };
  if (child.level == Tier::kRack) cap(topology.racks[index(host.rack)]);
  if (child.level == Tier::kSite) cap(topology.sites[index(host.site)]);
  return std::max<std::uint64_t>(1, sum);
}

}  // namespace longspan::hierarchical
