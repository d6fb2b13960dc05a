#include "cuda_ipc/devices.hpp"

#include <algorithm>
#include <string>

namespace longspan::cuda_ipc {

Result<Devices> Devices::create() {
  Devices made;
  LONGSPAN_ASSIGN(made.mailbox_, device::cuda::DriverMailbox::create());
  return made;
}

Result<Device*> Devices::of(int number) {
  Device& device = devices_[number];
  if (device.copier == nullptr) {
    LONGSPAN_ASSIGN(device.copier, device::cuda::CudaCopier::open(mailbox_, number));
  }
  if (device.sharing == nullptr) {
    LONGSPAN_ASSIGN(device.sharing, device::cuda::DeviceSharing::open(number));
  }
  return &device;
}

bool Devices::under_way() const {
  return std::any_of(devices_.begin(), devices_.end(), [](const auto& each) {
    return each.second.copier != nullptr && each.second.copier->under_way();
  });
}

Status Devices::health() {
  for (auto& [number, device] : devices_) {
    if (device.copier == nullptr || !device.copier->under_way()) continue;
    const Status status = device.copier->health();
    if (!status.ok()) return status.with_context("CUDA device " + std::to_string(number));
  }
  return {};
}

}  // namespace longspan::cuda_ipc
