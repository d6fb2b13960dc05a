#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "hierarchical/tiers.hpp"
#include "longspan/collective.hpp"
#include "longspan/schedule.hpp"
#include "longspan/spi/algorithm.hpp"

namespace longspan::hierarchical {

/// What is asked for: one way to do one collective on one cluster.
struct Request {
  const CollectiveShape& shape;
  const Cluster& cluster;
  std::string_view variant;

  bool is(std::string_view name) const noexcept { return variant == name; }
  std::string label() const { return variant.empty() ? "hierarchical" : "hierarchical:" + std::string(variant); }
};

/// A family of collectives built alike, one per source file.
struct Family {
  std::vector<std::string> (*variants)(const CollectiveShape&, const Cluster&);
  std::vector<spi::Stage> (*stages)(const Request&);
  Schedule (*build)(const Request&, int rank);
  std::size_t (*flow_count)(const Request&);
};

Family allreduce_family();       ///< allreduce.cpp
Family rooted_family();          ///< rooted.cpp: broadcast, reduce
Family allgather_family();       ///< allgather.cpp
Family reduce_scatter_family();  ///< reduce_scatter.cpp
Family routed_family();          ///< routed.cpp: gather, scatter, alltoall
Family barrier_family();         ///< barrier.cpp

/// Facts that decide which variants apply.
struct Outline {
  int regions = 0;          ///< with ranks on them
  int largest_region = 0;   ///< ranks
  int most_gateways = 0;    ///< ranks, in one region
  bool layered = false;     ///< there are levels between ranks and regions
  bool long_rings = false;  ///< a unit has children enough for a ring
};
Outline outline_of(const Cluster& cluster);

/// About how many pairs of ranks exchange something inside regions, once, and between them.
std::size_t inner_flows(const Cluster& cluster, const TierOptions& options);
std::size_t outer_flows(const Cluster& cluster, const TierOptions& options);

/// Above this many ranks, what everyone sends everyone of a region (or all send to one) costs more in messages than the
/// levels between would.
inline constexpr int kLargestFlatRegion = 64;

}  // namespace longspan::hierarchical
