#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/clock.hpp"
#include "base/fd.hpp"
#include "bootstrap/socket.hpp"
#include "bootstrap/stream.hpp"
#include "longspan/bootstrap.hpp"
#include "longspan/status.hpp"

namespace longspan::bootstrap {

/// The connections that a rendezvous leaves behind for the control plane.
struct ControlLinks {
  std::vector<Stream> to_rank;  ///< rank 0: one for each other rank; others: only [0], to rank 0
  int standby = -1;         ///< the rank that takes over from rank 0; -1: two ranks or fewer
  std::vector<SocketAddress> standby_at;  ///< where the standby listens
  Fd standby_listener;      ///< on the standby only
  std::shared_ptr<const security::Guard> guard;  ///< shared with whoever made the request; nullptr: the job has no key
};

/// What every rank knows after a rendezvous; the same on all ranks but for `rank` and `links`.
struct Rendezvous {
  int rank = 0;
  int size = 1;
  std::uint64_t job = 0;  ///< chosen by rank 0 at random: names this rendezvous among all others
  std::vector<std::string> hosts;     ///< label of each rank's host
  std::vector<std::string> payloads;  ///< of each rank, as it gave it
  std::string context;                ///< what rank 0 made of all payloads
  ControlLinks links;
};

/// What one rank brings to a rendezvous.
struct RendezvousRequest {
  LaunchInfo launch;
  /// Label of this rank's host in errors and for the choice of the standby; empty: the host's name.
  std::string host;
  std::string payload;  ///< given to all ranks as it is; at most 1 MiB
  PortRange ports;        ///< to listen on, unless the meeting place says where
  /// IP literal that others dial where they meet at no known place; "": those of the interfaces.
  std::string advertise;
  /// Of the job's key, which every connection proves and is encrypted with; shared with the caller. nullptr: none.
  std::shared_ptr<const security::Guard> guard;
  TimePoint deadline;   ///< the earliest deadline of all ranks ends it for all
  /// Called on rank 0 alone once all ranks came; its failure fails all ranks. Empty: no context.
  std::function<Result<std::string>(std::span<const std::string> payloads)> make_context;
};

/// Joins `launch.size` ranks: gives everyone everyone's payload and rank 0's context. Blocking, collective.
/// Errors are the same on every rank that reached rank 0, and name the ranks that came, did not come, came twice, or
/// were started differently. Costs one connection per rank, two messages, and N^2 payloads through rank 0.
Result<Rendezvous> exchange(RendezvousRequest request);

/// "0-2 5", for messages.
std::string describe_ranks(const std::vector<int>& ranks);

}  // namespace longspan::bootstrap
