#pragma once

#include <span>
#include <string>
#include <vector>

#include "longspan/topology.hpp"
#include "planner/cost_parameters.hpp"
#include "planner/transport_choice.hpp"

namespace longspan::planner {

/// A transport that pairs of ranks at a tier use.
struct TierTransport {
  Tier tier = Tier::kHost;
  int from = 0;  ///< the first such pair
  int to = 0;
  TransportChoice choice;
};

/// The transports of every tier at which this cluster has pairs of ranks, from the host outwards; several of one tier
/// where its ranks have different ones. `offers`: of every rank; one entry stands for all ranks.
std::vector<TierTransport> transports_by_tier(const Cluster& cluster,
                                              std::span<const std::vector<EndpointOffer>> offers);

/// Prices tiers by what their transports state: the message time of a tier is the longest latency of its transports,
/// and where the topology states no NIC it is as fast as the slowest of those between hosts. What is not stated stays.
void apply(std::span<const TierTransport> tiers, CostParameters& parameters);

}  // namespace longspan::planner
