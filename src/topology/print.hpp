#pragma once

#include <string>
#include <vector>

#include "longspan/topology.hpp"

namespace longspan {

/// The tree of a topology with its links, for people: what `longspan topo` prints. Marks what was defaulted.
std::string describe_topology(const Topology& topology);

/// What is legal in a topology but likely to be a slip, or to cost speed; one sentence each.
std::vector<std::string> warnings_of(const Topology& topology);

}  // namespace longspan
