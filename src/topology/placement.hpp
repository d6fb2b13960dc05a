#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "longspan/status.hpp"
#include "longspan/topology.hpp"

namespace longspan {

/// What a rank announces of the place it runs at; any field may be empty.
struct Whereabouts {
  std::string declared_host;  ///< LONGSPAN_HOST
  std::string hostname;
  std::string address;                ///< IPv4 or IPv6 literal it is reached by
  std::uint64_t topology_digest = 0;  ///< of the file it holds; 0: none
};

/// Equal for topologies that mean the same, whatever their files look like and are called; never 0. Stable between
/// builds and machines.
std::uint64_t topology_digest(const Topology& topology);

/// Puts each rank on its host: the one it declares, else the one with its hostname, else the one with its address.
///
/// Errors name every rank that has no host, and the cure. Hosts left without a rank, and ranks that hold another file
/// than `topology`, become `warnings` (may be null).
Result<Cluster> place(Topology topology, std::span<const Whereabouts> ranks, std::vector<std::string>* warnings);

/// Without a file: one region, ranks grouped by the host they declare, else by hostname. Errors name ranks with
/// neither. Ranks that do hold a file, when rank 0 has none, become `warnings`.
Result<Cluster> place_without_file(std::span<const Whereabouts> ranks, std::vector<std::string>* warnings);

}  // namespace longspan
