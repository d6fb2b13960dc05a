#pragma once

#include <torch/csrc/distributed/c10d/Store.hpp>

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <longspan/communicator.hpp>
#include <longspan/options.hpp>

namespace longspan::torch_binding {

/// The first group of a process is a job of longspan; groups of its ranks are made from it, so that all share the links
/// between regions by one account.
struct Job {
  std::string name;                  ///< the same on all its ranks
  /// Of the default group, by rank of the job; empty: not known, nothing can be made from it.
  std::vector<std::int64_t> ranks;
  longspan::Communicator world;
};

/// A group's communicator, and the job that it belongs to.
struct Membership {
  std::shared_ptr<Job> job;
  std::shared_ptr<longspan::Communicator> communicator;
};

/// Where a group stands, as torch.distributed says.
struct GroupSeat {
  c10::intrusive_ptr<c10d::Store> store;    ///< of this group alone
  int rank = 0;
  int size = 1;
  std::vector<std::int64_t> global_ranks;   ///< by rank of the group
};

/// Joins the group: as a part of a job that all its ranks are in, else as a job of its own. Its first rank decides and
/// says so in the group's store; RANK, WORLD_SIZE and MASTER_ADDR are not read. Throws DistBackendError.
Membership join_group(const GroupSeat& seat, const longspan::Options& options);

/// Ranks `ranks` of `parent`, this one among them; `store` is that of the new group.
Membership split_group(const Membership& parent, const c10::intrusive_ptr<c10d::Store>& store,
                       const std::vector<int>& ranks);

}  // namespace longspan::torch_binding
