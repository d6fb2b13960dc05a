#pragma once

#include "bootstrap/rendezvous.hpp"
#include "runtime/domain.hpp"

namespace longspan::runtime {

class CommunicatorImpl;
class Job;

/// Between the communicators and the control plane: tells the other ranks what went wrong here, and hands their common
/// verdict to the communicators it concerns.
class FaultDesk final : public Pollable {
 public:
  FaultDesk(Job& job, bootstrap::Rendezvous met) : job_(job), met_(std::move(met)) {}
  bool send(CommunicatorImpl&, const Status&, int) { return false; }
  void close() {}
  int wait_fd() const noexcept override { return -1; }
  void poll() override {}
  TimePoint next_deadline() const override { return TimePoint::max(); }

 private:
  Job& job_;
  bootstrap::Rendezvous met_;
};

}  // namespace longspan::runtime
