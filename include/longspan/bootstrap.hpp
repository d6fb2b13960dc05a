#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "longspan/export.hpp"
#include "longspan/status.hpp"

namespace longspan {

/// Names a new communicator; made on one rank (`make_unique_id`) and handed to the others by any means, as in NCCL.
/// Holds the address of a rendezvous that lives in the process that made it.
struct UniqueId {
  static constexpr std::size_t kBytes = 128;
  char bytes[kBytes] = {};
};

/// A new identity for a communicator: opens a rendezvous in this process (normally on rank 0). It waits an hour for
/// rank 0 at most, and holds one thread until all ranks came. `key`: the job's, where it is not that of the environment
/// (LONGSPAN_KEY, LONGSPAN_KEY_FILE).
LONGSPAN_API Result<UniqueId> make_unique_id(const std::optional<std::string>& key = std::nullopt);

/// Where this process stands in its job, and how ranks find each other.
struct LaunchInfo {
  int rank = 0;
  int size = 1;
  int local_rank = 0;
  int local_size = 1;
  std::string master_address;  ///< host name or IP literal of rank 0's machine; or file://PATH, unix:@NAME, id:HEX
  int master_port = 0;         ///< 0: not given
  bool agent_store = false;    ///< a torchrun agent's TCPStore already listens on master_port
  std::string run_id;          ///< separates restarts that share a store
  std::string launcher;        ///< "torchrun", "Open MPI", "MPICH/PMI", "Slurm", "environment", "none"
};

/// Reads the launcher's environment (docs/bootstrap.md). No variables at all: one rank alone. Errors name the
/// variable, its value and what was expected.
LONGSPAN_API Result<LaunchInfo> launch_info_from_environment();

}  // namespace longspan
