#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "longspan/topology.hpp"

namespace longspan::hierarchical {

/// How to divide a reduce-scatter and allgather between regions (indices into Topology::regions) so that it ends
/// soonest.
///
/// With shares x, the link from g to h carries x_h (g's part of what h reduces) and x_g (what g reduced), and so does
/// the link back. So the time is the largest (x_g + x_h) / c, c being the slower direction; with y = x / time that is
/// the linear program: maximise the sum of y where y_g + y_h <= c(g, h) and y >= 0. Equal links give equal shares.
std::vector<std::uint64_t> wan_shares(const Topology& topology, std::span<const int> regions);

}  // namespace longspan::hierarchical
