#pragma once

#include <span>
#include <string>
#include <vector>

#include "hierarchical/intervals.hpp"
#include "hierarchical/tiers.hpp"
#include "hierarchical/variant.hpp"
#include "longspan/spi/algorithm.hpp"

namespace longspan::hierarchical {

/// A part of a block, and the rank of a region from which it spreads there (allgather) or which collects the region's
/// sum of it (reduce-scatter, the mirror image).
struct Entry {
  int block = 0;
  Interval span;
  int holder = 0;
};

/// The ways of blocks that belong to one rank each, between regions and inside them.
///
/// Between two regions every block crosses once, straight from its rank (through gateways of its region when that rank
/// is none). It lands on the gateways of the other region as they divide that region's share of all its blocks. Inside
/// a region a block enters each unit once, at the rank that has there the position that the sender has in its own unit.
class BlockRoutes {
 public:
  BlockRoutes(const Tiers& tiers, bool whole_blocks);

  const Tiers& tiers() const noexcept { return tiers_; }
  /// Who speaks for a block across the WAN: its rank, or gateways of its region.
  const Partition& carriers(int block) const;
  /// Where the parts of a block land in a region: its rank in its own.
  Partition landing(int block, int region) const;
  /// What spreads in a region, by block and position.
  std::vector<Entry> entries(int region) const;
  /// Some rank needs another's help to reach the WAN.
  bool relays() const noexcept { return relays_; }
  /// The rank of `child` that gets from `holder` (in a sibling of `child`, in the unit of `level`) its copy.
  int delegate(const Unit& child, Tier level, int holder, int block) const;

 private:
  int position(int rank) const { return position_[static_cast<std::size_t>(rank)]; }

  const Tiers& tiers_;
  bool whole_blocks_;
  bool relays_ = false;
  std::vector<int> position_;        // of a rank in its region
  std::vector<Partition> carriers_;  // by rank
};

/// Bytes inside regions when everything spreads (allgather), one stage per level, highest first. `collected` gets per
/// stage what the busiest rank reads when the same ways are gone backwards to reduce.
std::vector<spi::Stage> spread_stages(const BlockRoutes& routes, std::vector<double>& collected);

std::vector<std::string> block_variants(const CollectiveShape& shape, const Cluster& cluster);
TierOptions block_options(const Request& request);
std::size_t block_flows(const Request& request);
inline constexpr const char* kRelayName = "gateway relay";

}  // namespace longspan::hierarchical
