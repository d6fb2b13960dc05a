#pragma once

#include <memory>

#include "bootstrap/control.hpp"
#include "runtime/domain.hpp"

namespace longspan::runtime {

class CommunicatorImpl;
class Job;

/// Between the communicators and the control plane: tells the other ranks what went wrong here, and hands their common
/// verdict to the communicators it concerns. Domain lock held throughout.
class FaultDesk final : public Pollable {
 public:
  static Result<std::unique_ptr<FaultDesk>> open(Job& job, bootstrap::Rendezvous met);

  /// False when nobody can be told.
  bool send(CommunicatorImpl& comm, const Status& status, int blamed_rank);
  void close() { control_->close(); }
  void send_note(int rank, std::string text) { control_->send_note(rank, std::move(text)); }
  bool gone(int rank) const { return control_->life(rank) != bootstrap::Life::kAlive; }
  int wait_fd() const noexcept override { return control_->wait_fd(); }
  void poll() override;
  TimePoint next_deadline() const override { return control_->next_deadline(); }

 private:
  explicit FaultDesk(Job& job) : job_(job) {}
  bootstrap::WaitReport report(std::uint64_t comm, std::uint64_t seq) const;

  Job& job_;
  std::unique_ptr<bootstrap::ControlPlane> control_;
};

}  // namespace longspan::runtime
