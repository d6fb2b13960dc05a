#include "runtime/device_desk.hpp"

#include <algorithm>

#include "device/cuda/copier.hpp"
#include "runtime/communicator_impl.hpp"

namespace longspan::runtime {
namespace {

using namespace std::chrono_literals;

// A device that fails runs no host functions any more: nobody would tell us. A look costs microseconds.
constexpr auto kLookEvery = 20ms;

}  // namespace

Result<std::unique_ptr<DeviceDesk>> DeviceDesk::create(Domain& domain) {
  std::unique_ptr<DeviceDesk> made(new DeviceDesk(domain));
  LONGSPAN_ASSIGN(made->mailbox_, device::cuda::DriverMailbox::create());
  LONGSPAN_ASSIGN(made->gate_, device::cuda::StreamGate::open(made->mailbox_));
  return made;
}

Result<device::Copier*> DeviceDesk::copier(int device) {
  Device& found = devices_[device];
  if (found.copier == nullptr) {
    LONGSPAN_ASSIGN(found.copier, device::cuda::CudaCopier::open(mailbox_, device));
  }
  return found.copier.get();
}

std::uint64_t DeviceDesk::expect(std::shared_ptr<WorkState> work) {
  waiting_[++entries_] = std::move(work);
  return entries_;
}

bool DeviceDesk::copies() const {
  return std::any_of(devices_.begin(), devices_.end(), [](const auto& each) {
    return each.second.copier != nullptr && each.second.copier->under_way() && !each.second.failed;
  });
}

TimePoint DeviceDesk::next_deadline() const {
  if (mailbox_->any()) return TimePoint{};  // long ago
  return copies() ? look_at_ : TimePoint::max();
}

void DeviceDesk::poll() {
  // One by one: what a token sets off may take others back.
  while (const auto token = mailbox_->take()) {
    if (token->by != nullptr) {
      token->by->told();
      if (token->owner != nullptr) CommunicatorImpl::on_copied(*token);
    } else if (const auto found = waiting_.find(token->entry); found != waiting_.end()) {
      const std::shared_ptr<WorkState> work = std::move(found->second);
      waiting_.erase(found);
      work->comm->on_stream(*work);
    }
  }
  if (const TimePoint now = Clock::now(); now >= look_at_) look_after(now);
}

void DeviceDesk::look_after(TimePoint now) {
  look_at_ = now + kLookEvery;
  for (auto& [number, device] : devices_) {
    if (device.copier == nullptr || device.failed || !device.copier->under_way()) continue;
    const Status status = device.copier->health();
    if (status.ok()) continue;
    device.failed = true;
    for (CommunicatorImpl* each : domain_.communicators()) {
      each->on_device_failure(status.with_context("CUDA device " + std::to_string(number)));
    }
  }
}

}  // namespace longspan::runtime
