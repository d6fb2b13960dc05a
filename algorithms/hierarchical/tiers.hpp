#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "hierarchical/intervals.hpp"
#include "longspan/topology.hpp"

namespace longspan::hierarchical {

/// Which tree to make of a cluster.
struct TierOptions {
  bool flat = false;    ///< the ranks of a region are its children: no levels between
  bool leader = false;  ///< one rank of each unit owns everything, instead of disjoint shards
  bool ring = false;    ///< units of many children (racks, sites, regions) exchange along a ring
  bool world = false;   ///< one more level above the regions (else they face each other)
  int preferred_leader = -1;
};

/// With fewer children a ring saves no connections worth its latency.
inline constexpr std::size_t kSmallestRing = 4;

/// A node of the tree: a rank (Tier::kSelf), or what a host, rack, site, region or the world (Tier::kWan) holds.
struct Unit {
  Tier level = Tier::kSelf;
  std::vector<int> children;  ///< unit ids, by lowest rank: the canonical order of operands
  std::vector<int> ranks;     ///< ascending
  /// Who holds which part of the sum over this unit: its gateway-capable ranks where it has any and there are several
  /// regions, else all its ranks.
  Partition partition;
};

/// The tree of a cluster, without levels that hold nothing apart: a host with one rank is that rank, and racks and
/// sites count only where an uplink is stated.
class Tiers {
 public:
  Tiers(const Cluster& cluster, const TierOptions& options);

  const Unit& unit(int id) const { return units_[static_cast<std::size_t>(id)]; }
  std::span<const Unit> units() const noexcept { return units_; }
  /// The unit of each region that has ranks, by lowest rank.
  std::span<const int> regions() const noexcept { return regions_; }
  /// Levels above single ranks that exist anywhere, ascending.
  std::span<const Tier> levels() const noexcept { return levels_; }
  /// The unit of `level` that holds `rank`, or -1.
  int unit_at(int rank, Tier level) const { return chain(rank)[static_cast<std::size_t>(level)]; }
  /// The child of the unit of `level` that holds `rank`: the next unit below on the way to it.
  int below(int rank, Tier level) const;
  /// Index into `regions()`.
  int region_of(int rank) const { return region_of_[static_cast<std::size_t>(rank)]; }
  const Unit& region(int index) const { return unit(regions_[static_cast<std::size_t>(index)]); }
  /// Gateway-capable ranks of a region, ascending (all its ranks when there is one region).
  std::span<const int> gateways(int region) const { return gateways_[static_cast<std::size_t>(region)]; }
  /// The gateways of a region in rank order, in proportion to their share of their host's NIC.
  const Partition& gateway_shares(int region) const { return gateway_shares_[static_cast<std::size_t>(region)]; }
  /// Whether one rank holds everything of each unit.
  bool leaders() const noexcept { return options_.leader; }
  /// Whether the children of that unit exchange along a ring.
  bool rings(const Unit& unit) const noexcept {
    return options_.ring && unit.level > Tier::kHost && unit.level < Tier::kWan &&
           unit.children.size() >= kSmallestRing;
  }
  bool carries(int rank) const { return carries_[static_cast<std::size_t>(rank)] != 0; }

 private:
  using Chain = std::array<int, kTierCount>;
  const Chain& chain(int rank) const { return chains_[static_cast<std::size_t>(rank)]; }
  void add_leaves();
  void add_region(const std::vector<int>& ranks);
  std::vector<int> host_units(const std::vector<int>& ranks);
  std::vector<int> grouped(const std::vector<int>& children, Tier level);
  int add_unit(Tier level, std::vector<int> children);
  void fill_partition(Unit& unit) const;
  std::uint64_t weight_of(const Unit& child, Tier parent_level) const;
  std::vector<std::uint64_t> region_weights(const Unit& world) const;
  int leader_of(const Unit& unit) const;

  const Cluster* cluster_;
  TierOptions options_;
  bool several_regions_ = false;
  bool nics_known_ = true;
  std::vector<int> ranks_on_host_;
  std::vector<Unit> units_;
  std::vector<int> regions_;
  std::vector<Tier> levels_;
  std::vector<Chain> chains_;
  std::vector<int> region_of_;
  std::vector<std::vector<int>> gateways_;
  std::vector<Partition> gateway_shares_;
  std::vector<char> carries_;
};

}  // namespace longspan::hierarchical
