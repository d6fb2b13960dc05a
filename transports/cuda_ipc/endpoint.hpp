#pragma once

#include <array>
#include <deque>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/clock.hpp"
#include "base/fd.hpp"
#include "base/timer.hpp"
#include "cuda_ipc/channel.hpp"
#include "cuda_ipc/devices.hpp"

namespace longspan::cuda_ipc {

/// A rank's side: an endpoint of the host's shared memory, and its devices. Used by one thread at a time.
class IpcEndpoint final : public spi::Endpoint {
 public:
  /// `below` joins ranks of this host.
  static Result<std::unique_ptr<IpcEndpoint>> open(std::unique_ptr<spi::Endpoint> below);
  ~IpcEndpoint() override;

  std::string address() const override { return below_->address(); }
  spi::EndpointTraits traits() const override;
  Result<spi::Channel*> connect(spi::PeerId peer, std::string_view peer_address, const spi::ChannelOptions& options,
                                TimePoint deadline) override;
  std::size_t poll(std::span<spi::Completion> completions) override;
  int wait_fd() const noexcept override { return epoll_.get(); }
  bool arm() override;
  Result<std::unique_ptr<spi::MemoryRegion>> register_memory(std::span<std::byte> memory) override {
    return below_->register_memory(memory);
  }
  Result<std::unique_ptr<spi::MemoryRegion>> share_memory(std::span<std::byte> memory, int memfd) override {
    return below_->share_memory(memory, memfd);
  }
  void forget(std::uint64_t comm) override;
  void close(TimePoint deadline) override;

  // ---- for the channels ----
  Devices& devices() noexcept { return devices_; }
  /// A completion for whoever polls.
  void tell(spi::Completion completion, std::uint64_t comm) { ready_.push_back({std::move(completion), comm}); }
  /// What the channel below is given as the context of a message that is passed on ...
  Operation* pass(Operation::Kind kind, IpcChannel& channel, const spi::MessageId& id, void* context);
  /// ... until it is done.
  void passed(Operation& operation);
  /// A device is about to move for it.
  void begin_move(DeviceOperation& operation);

 private:
  struct Ready {
    spi::Completion completion;
    std::uint64_t comm = 0;
  };
  explicit IpcEndpoint(std::unique_ptr<spi::Endpoint> below) : below_(std::move(below)) {}
  Status set_up();
  Status watch(int fd);
  IpcChannel& channel_of(spi::PeerId peer);
  void progress();
  void dispatch(spi::Completion& completion);
  void look_after_devices(TimePoint now);
  void wait_until_work(TimePoint deadline);

  Devices devices_;  // outlives the endpoint below, which reads and writes their host memory
  std::unordered_map<spi::PeerId, std::unique_ptr<IpcChannel>> channels_;
  std::unique_ptr<spi::Endpoint> below_;
  std::deque<Operation> passed_;  // those passed on, and
  std::vector<Operation*> spare_; // those to use again
  std::deque<Ready> ready_;
  std::array<spi::Completion, 64> batch_;
  Fd epoll_;
  Timer timer_;
  TimePoint look_at_{};
  bool looks_ = false;  // a device moves, or did when it was last looked at
  bool closed_ = false;
};

}  // namespace longspan::cuda_ipc
