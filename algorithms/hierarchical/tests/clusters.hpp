#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "longspan/spi/algorithm.hpp"

namespace longspan::hierarchical {

/// Regions of hosts; each host "ranks[:nic in Gbit/s][!]", '!' for one that is no gateway: {"2 2", "1 3!"} is a region
/// of two hosts with two ranks each, and one whose second host may not reach the WAN. Every pair of regions has a link.
Cluster cluster_of(const std::vector<std::string>& regions);
std::string text_of(const std::vector<std::string>& regions);

std::vector<Schedule> build_all(const spi::Algorithm& algorithm, const CollectiveShape& shape, const Cluster& cluster,
                                std::string_view variant);

/// Blocks sent at a tier, over all ranks.
double sent(const std::vector<Schedule>& schedules, Tier tier);
int most_steps(const std::vector<Schedule>& schedules);
/// Names a rank that reaches the WAN and must not, or a schedule that cannot be cut into chunks; else empty.
std::string misbehaved(const std::vector<Schedule>& schedules, const Cluster& cluster);

}  // namespace longspan::hierarchical
