#pragma once

#include <string>

#include "longspan/topology.hpp"
#include "planner/planner.hpp"

namespace longspan::planner {

/// One page for people.
std::string describe(const Explanation& explanation, const Cluster& cluster);

/// The same for programs: docs/planning.md lists the fields.
std::string to_json(const Explanation& explanation, const Cluster& cluster);

/// A picture of the regions, their hosts and the links between them, with the plan's bytes per link; the wider a link
/// is drawn, the longer the plan keeps it busy.
std::string topology_svg(const Cluster& cluster, const Explanation& explanation);

/// "allreduce of 64 MiB over 4 ranks on 4 hosts in 2 regions".
std::string title_of(const Explanation& explanation, const Cluster& cluster);

/// Bytes of the larger of one rank's buffers, as the perf programs count sizes, from the bytes of one block; and back.
double buffer_bytes(const CollectiveShape& shape, int ranks, double block_bytes);
std::size_t block_bytes_of(const CollectiveShape& shape, int ranks, std::size_t buffer_bytes);

}  // namespace longspan::planner
