#pragma once

#include <vector>

#include "longspan/topology.hpp"

namespace longspan::spi {

/// All ranks so that those near each other follow one another: by region, site, rack, host, then rank. A ring in this
/// order enters and leaves each region once; a range of it is as local as can be.
std::vector<int> ranks_by_place(const Cluster& cluster);

}  // namespace longspan::spi
