#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "longspan/spi/algorithm.hpp"

namespace longspan::hierarchical {

/// Regions of hosts; each host "ranks[:nic in Gbit/s][!]", '!' for one that is no gateway. {"2 2", "1 3!"} is a region of
/// two hosts with two ranks each, and one whose second host may not reach the WAN.
Cluster cluster_of(const std::vector<std::string>& regions);

/// Runs the schedules of all ranks on symbols: the sum of `inputs` seeds tells who contributed (each exactly once), and
/// `order` in what shape it was reduced (equal results were reduced in the same order).
struct Symbol {
  std::uint64_t sum = 0;
  std::uint64_t order = 0;
  friend bool operator==(const Symbol&, const Symbol&) = default;
};

struct Outcome {
  std::string error;  ///< empty: every output is right
  double wan_share = 0;
  int most_steps = 0;
};

/// Builds, runs and checks one variant; `counts` elements per block.
Outcome replay(const spi::Algorithm& algorithm, const CollectiveShape& shape, const Cluster& cluster,
               std::string_view variant, std::size_t count, std::uint32_t chunks = 1);

/// What differs between `stages` and the sends of `build`, or nothing.
std::string compare_stages(const spi::Algorithm& algorithm, const CollectiveShape& shape, const Cluster& cluster,
                           std::string_view variant);

}  // namespace longspan::hierarchical
