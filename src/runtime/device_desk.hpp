#pragma once

#include <cstdint>
#include <memory>
#include <unordered_map>

#include "device/copier.hpp"
#include "device/cuda/mailbox.hpp"
#include "device/cuda/stream_gate.hpp"
#include "runtime/domain.hpp"

namespace longspan::runtime {

struct WorkState;

/// A Domain's accelerators: who copies to and from each, and which calls wait for their stream to come to them. Guarded
/// by the Domain's lock; `gate` has its own.
class DeviceDesk final : public Pollable {
 public:
  static Result<std::unique_ptr<DeviceDesk>> create(Domain& domain);

  /// Opened at the first use of a device.
  Result<device::Copier*> copier(int device);
  device::cuda::StreamGate& gate() noexcept { return *gate_; }
  /// `work` begins when its stream has come to it; the token's entry. Until then, or until `forget`.
  std::uint64_t expect(std::shared_ptr<WorkState> work);
  void forget(std::uint64_t entry) { waiting_.erase(entry); }

  int wait_fd() const noexcept override { return mailbox_->wait_fd(); }
  void poll() override;
  TimePoint next_deadline() const override;

 private:
  struct Device {
    std::unique_ptr<device::Copier> copier;
    bool failed = false;  // and all who copied were told
  };
  explicit DeviceDesk(Domain& domain) : domain_(domain) {}
  void look_after(TimePoint now);
  bool copies() const;

  Domain& domain_;
  std::shared_ptr<device::cuda::DriverMailbox> mailbox_;  // shared with the driver's threads
  std::unique_ptr<device::cuda::StreamGate> gate_;
  std::unordered_map<int, Device> devices_;
  std::unordered_map<std::uint64_t, std::shared_ptr<WorkState>> waiting_;  // shared with whoever started the call
  std::uint64_t entries_ = 0;
  TimePoint look_at_{};
};

}  // namespace longspan::runtime
