#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "longspan/collective.hpp"
#include "longspan/plan.hpp"
#include "longspan/topology.hpp"

namespace longspan::planner {

/// The least time that a topology allows, for every collective and size (docs/planning.md). Payload bytes on stated
/// bandwidths only: nothing is assumed, so nothing can be faster. Built once per cluster.
///
///     BoundTable table(cluster);
///     Bound least = table.bound({Collective::kAllReduce}, 64 << 20);
class BoundTable {
 public:
  /// Keeps a reference to `cluster`.
  explicit BoundTable(const Cluster& cluster);

  /// `block_bytes`: one block, as in Collective. `seconds` < 0 when no stated capacity or latency binds.
  Bound bound(const CollectiveShape& shape, double block_bytes) const;

 private:
  /// Ranks on one side, and what may leave and enter it.
  struct Cut {
    std::string name;
    int ranks = 0;
    std::vector<bool> hosts;  ///< which hosts are inside
    double out = 0, in = 0;   ///< payload bytes per second; infinity: not known
    double out_latency = 0, in_latency = 0;
  };
  /// A partition into blocks: an allreduce moves each byte 2 (blocks - 1) times from one block to another.
  struct Partition {
    std::string name;
    int blocks = 0;
    double capacity = 0;
  };

  void add_host_cuts();
  void add_group_cuts(const std::vector<Group>& groups, int Host::* group_of, const char* what);
  void add_region_cuts();
  void add_region_subset(std::uint32_t subset, const std::vector<int>& regions);
  void add_region_partitions(const std::vector<int>& regions, const std::vector<double>& out,
                             const std::vector<double>& in);
  void add_partition_of(const std::vector<Cut>& blocks, std::string name);
  void add_cut(Cut cut);
  double least_latency(const std::vector<bool>& inside, bool outwards) const;

  /// Capacity of a set of regions towards the others.
  double region_capacity(std::uint32_t subset, const std::vector<int>& regions, bool outwards) const;
  double region_nics(int region) const;

  void find_shortest_paths();
  double shortest(int from_host, int to_host) const;
  Bound latency_bound(const CollectiveShape& shape) const;
  /// Between all hosts, or from (to) `root_host` when it is not negative.
  Bound longest_shortest_path(int root_host, bool to_root) const;

  const Cluster* cluster_;
  std::vector<int> ranks_on_;        ///< per host
  std::vector<double> wan_latency_;  ///< shortest paths, [from region * regions + to region]; infinity: none
  Bound everybody_;                  ///< latency between all hosts
  std::vector<Cut> cuts_;
  std::vector<Partition> partitions_;
};

}  // namespace longspan::planner
