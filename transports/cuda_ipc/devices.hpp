#pragma once

#include <map>
#include <memory>

#include "device/cuda/copier.hpp"
#include "device/cuda/sharing.hpp"

namespace longspan::cuda_ipc {

/// A device as an endpoint uses it.
struct Device {
  std::unique_ptr<device::Copier> copier;
  std::unique_ptr<device::cuda::DeviceSharing> sharing;
};

/// The devices that an endpoint's messages lie on, opened at their first message.
class Devices {
 public:
  static Result<Devices> create();

  Result<Device*> of(int number);
  device::cuda::DriverMailbox& mailbox() noexcept { return *mailbox_; }
  const device::cuda::DriverMailbox& mailbox() const noexcept { return *mailbox_; }
  bool under_way() const;
  /// A failure that no token will tell of; ok: none.
  Status health();

 private:
  std::shared_ptr<device::cuda::DriverMailbox> mailbox_;  // shared with the copiers and the driver's threads
  std::map<int, Device> devices_;
};

}  // namespace longspan::cuda_ipc
