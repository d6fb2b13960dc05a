#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "longspan/options.hpp"
#include "longspan/topology.hpp"
#include "planner/planner.hpp"
#include "runtime/domain.hpp"

namespace longspan {
struct LaunchInfo;
}

namespace longspan::runtime {

class CommunicatorImpl;
class EpochDesk;
class EpochHost;
class FaultDesk;

/// What all communicators that came from one `create` share: who is there, where, the Domain and the control plane.
class Job {
 public:
  /// Meets the other ranks: announces this one, gets everyone's announcement and rank 0's frozen planning context.
  static Result<std::shared_ptr<Job>> join(const LaunchInfo& launch, const Options& options);
  ~Job();

  std::shared_ptr<Domain> domain() const { return domain_; }
  const Cluster& cluster() const noexcept { return cluster_; }
  const std::vector<Peer>& peers() const noexcept { return peers_; }
  int rank() const noexcept { return rank_; }
  std::uint64_t id() const noexcept { return id_; }
  std::chrono::nanoseconds timeout() const noexcept { return timeout_; }
  const planner::PlannerOptions& planner_options() const noexcept { return planner_options_; }

  /// Tells the other ranks; false when there is no way to (then the caller decides alone). Domain lock held.
  bool send_fault(CommunicatorImpl& comm, const Status& status, int blamed_rank);
  void add(CommunicatorImpl& comm);
  /// nullptr where there is no link to measure.
  EpochDesk* epochs() const noexcept { return epochs_.get(); }
  /// From another rank's Job. Domain lock held.
  void on_note(int from, const std::string& text);

 private:
  Job();
  void price_tiers();
  void lease_links();

  std::shared_ptr<Domain> domain_;  // shared with the communicators
  Cluster cluster_;
  std::vector<Peer> peers_;
  int rank_ = 0;
  std::uint64_t id_ = 0;
  std::chrono::nanoseconds timeout_{0};
  planner::PlannerOptions planner_options_;
  std::unique_ptr<FaultDesk> faults_;
  std::unique_ptr<EpochHost> epoch_host_;
  std::unique_ptr<EpochDesk> epochs_;
};

}  // namespace longspan::runtime
