#pragma once

#include <cstdint>
#include <span>

#include "longspan/spi/algorithm.hpp"
#include "longspan/topology.hpp"

namespace longspan::planner {

struct PlannerOptions;

/// A hash of everything that decisions depend on besides shape and size: two ranks with equal hashes decide alike.
std::uint64_t context_digest(const Cluster& cluster, std::span<const spi::Algorithm* const> algorithms,
                             const PlannerOptions& options);

}  // namespace longspan::planner
