#pragma once

#include <cstddef>
#include <string>

#include "longspan/collective.hpp"
#include "longspan/status.hpp"
#include "longspan/topology.hpp"

namespace CLI {
class App;
}

namespace longspan::cli {

/// The options that `explain` and `plan` share: what to plan, and where.
struct PlanRequest {
  std::string topology;
  std::string collective = "allreduce";
  std::string size = "64M";
  std::string algorithm;
  int ranks_per_host = 1;
  int root = 0;

  void add_to(CLI::App& command);
  Result<Cluster> cluster() const;
  Result<CollectiveShape> shape() const;
  /// Bytes of one block; --size counts the larger buffer of one rank, as the perf programs do.
  Result<std::size_t> block_bytes(const CollectiveShape& shape, int ranks) const;
};

}  // namespace longspan::cli
