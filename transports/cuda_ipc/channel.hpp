#pragma once

#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "cuda_ipc/operation.hpp"
#include "longspan/spi/transport.hpp"

namespace longspan::cuda_ipc {

class IpcEndpoint;
struct Device;

/// The way to one peer. Messages of host memory go through the channel below as they are. One of device memory is
/// offered: the receiver's device reads it, or it is asked for as bytes.
class IpcChannel final : public spi::Channel {
 public:
  IpcChannel(spi::PeerId peer, IpcEndpoint& endpoint);

  spi::PeerId peer() const noexcept override { return peer_; }
  void send(const spi::SendRequest& request) override;
  void post_recv(const spi::RecvRequest& request) override;
  void release_view(std::uint64_t view_token) override;
  void set_rate(double bytes_per_second) override { below_->set_rate(bytes_per_second); }
  spi::ChannelStats stats() const override;
  std::string trouble() const override { return below_->trouble(); }

  // ---- from the endpoint ----
  void connected(spi::Channel& below, const spi::ChannelOptions& options);
  void arrived(spi::Completion& completion);
  /// One of the channel below.
  void completed(Operation& operation, spi::Completion& completion);
  /// A device has done what it was to.
  void moved(DeviceOperation& operation);
  /// The device that moves for some of its operations has failed.
  void moves_failed(const Status& status);
  /// The peer has gone, or this side is closed.
  void ended(const Status& status);
  void forget(std::uint64_t comm);
  /// At the end, without a word.
  void drop_all();
  /// A device still moves, or the peer still reads, what is sent.
  bool sends() const;

 private:
  /// A message that came before its receive was posted.
  struct Incoming {
    std::optional<Offer> offer;
    std::size_t bytes = 0;
  };

  DeviceOperation& make(Operation::Kind kind, const spi::MessageId& id, void* context);
  Result<Device*> device_of(DeviceOperation& operation);
  Status start_send(DeviceOperation& send);
  void offer(DeviceOperation& send);
  Status bring_down(DeviceOperation& send);
  void read_offer(const spi::MessageId& id);
  void on_offer(const spi::MessageId& id, const Offer& offer);
  void answered(DeviceOperation& send);
  Status read(DeviceOperation& receive);
  void give_view(DeviceOperation& receive);
  Status receive_bytes(DeviceOperation& receive, std::size_t bytes);
  Status bring_up(DeviceOperation& receive, std::size_t bytes);
  void answer(const spi::MessageId& id, Answer what);
  /// Fails the operation unless `status` is ok.
  void check(DeviceOperation& operation, const Status& status);
  void finish(DeviceOperation& operation, Status status);
  void drop(DeviceOperation& operation);
  void say_once(const Status& why);

  spi::PeerId peer_;
  IpcEndpoint& endpoint_;
  spi::Channel* below_ = nullptr;
  std::string name_;
  std::unordered_map<const DeviceOperation*, std::unique_ptr<DeviceOperation>> operations_;
  std::unordered_map<spi::MessageId, DeviceOperation*> waiting_;  // receives, for what will come
  std::unordered_map<spi::MessageId, bool> host_receives_;        // posted below
  std::unordered_map<spi::MessageId, Incoming> incoming_;
  std::vector<spi::MessageId> early_offers_;  // before there was a channel below
  std::optional<Status> over_;
  bool cannot_map_ = false;  // the peer has said so
  bool said_ = false;
  std::uint64_t bytes_sent_ = 0, bytes_received_ = 0, messages_sent_ = 0, messages_received_ = 0;
};

}  // namespace longspan::cuda_ipc
