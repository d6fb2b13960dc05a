#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "longspan/topology.hpp"
#include "runtime/domain.hpp"
#include "topology/placement.hpp"

/// What ranks tell each other at the rendezvous, as bytes.
namespace longspan::runtime {

/// What a rank tells the others about itself.
struct Announcement {
  spi::PeerId id = 0;
  Whereabouts where;
  std::string topology_name;  ///< "" without one
  std::vector<EndpointAddress> endpoints;

  std::string encode() const;
  static Result<Announcement> decode(const std::string& bytes, std::size_t rank);
};

/// What rank 0 decides once for all: every rank plans from this alone.
struct Context {
  std::string topology;
  std::string source;
  std::vector<int> host_of_rank;
  std::string algorithm;

  std::string encode() const;
  static Result<Context> decode(const std::string& bytes);
};

/// Every rank is on a host that the topology has.
Status check_places(const Cluster& cluster);

}  // namespace longspan::runtime
