#pragma once

#include <string>
#include <unordered_map>
#include <unordered_set>

#include "base/containers.hpp"
#include "longspan/spi/transport.hpp"
#include "ucx/wire.hpp"
#include "ucx/worker.hpp"

namespace longspan::ucx {

/// What all channels of an endpoint share.
struct Shared {
  std::size_t credit_bytes = 0;  ///< per communicator and peer, of what peers send here
  Queue<spi::Completion> completions;
  BufferPool buffers;
  std::unordered_set<std::uint64_t> forgotten;  ///< communicators whose data is dropped
  bool attention = false;  ///< some channel has to decide whether it ends

  void complete(spi::CompletionKind kind, void* context, spi::PeerId peer, const spi::MessageId& id, std::size_t bytes,
                std::uint64_t digest, Status status = {});
};

/// The messages to one peer. Small ones are sent with their data, within the eager credit; others are offered, and UCX
/// moves their data when the peer has posted the receive.
class Outbox {
 public:
  Outbox(spi::PeerId peer, Shared& shared, Worker& worker) : peer_(peer), shared_(shared), worker_(worker) {}

  /// From now on messages can leave, bearing `token`.
  void open(ucp_ep_h endpoint, const std::array<std::uint64_t, 2>& token, std::size_t credit_bytes);
  bool is_open() const noexcept { return endpoint_ != nullptr; }
  void send(const spi::SendRequest& request);
  void return_credit(std::uint64_t comm, std::uint64_t bytes);
  void on_credit(std::uint64_t comm, std::uint64_t bytes);

  /// Drops all of a communicator; its memory is not read any more.
  void forget(std::uint64_t comm);
  /// Completes all with `status`; their memory is not read any more.
  void fail_all(const Status& status);
  /// Sends the data of what the peer has not fetched, up to `limit` bytes in all.
  void bequeath(std::size_t limit);
  /// Completes what the peer says that it has, or gave up.
  void settle();
  /// Eager messages are still on their way into the network.
  bool unsent() const noexcept { return !waiting_.empty() || leaving_ > 0; }
  /// Offers that the peer has not fetched.
  bool unfetched() const noexcept { return offers_ > 0; }
  /// Requests that UCX still holds.
  std::size_t held() const noexcept { return held_; }
  /// The first failure that UCX reported; its message is still to be completed.
  const std::string& trouble() const noexcept { return trouble_; }

  std::uint64_t handed_over() const noexcept { return handed_over_; }
  std::uint64_t messages_sent() const noexcept { return messages_; }
  std::uint64_t bytes_sent() const noexcept { return bytes_; }

 private:
  struct Send {
    Outbox* owner = nullptr;
    wire::MessageHeader header;
    Payload payload;
    void* context = nullptr;
    bool live = false;  // its sender waits for it
    Links<Send> links;
  };

  void submit(Send& send, bool has_data);
  void transmit(const spi::SendRequest& request);
  void finished(Send& send, ucs_status_t status);
  void complete(Send& send, const Status& status);
  void retire(Send& send);
  static void on_sent(void* request, ucs_status_t status, void* send);

  spi::PeerId peer_;
  Shared& shared_;
  Worker& worker_;
  ucp_ep_h endpoint_ = nullptr;
  std::array<std::uint64_t, 2> token_{};
  std::size_t credit_bytes_ = 0;
  Queue<spi::SendRequest> waiting_;  // for the channel to be open
  ObjectPool<Send> pool_;
  List<Send, &Send::links> live_;
  std::unordered_map<std::uint64_t, std::size_t> outstanding_;  // eager bytes not yet consumed, by communicator
  std::size_t leaving_ = 0;
  std::size_t offers_ = 0;
  std::size_t held_ = 0;
  Status failure_;
  std::string trouble_;
  std::uint64_t handed_over_ = 0;
  std::uint64_t messages_ = 0;
  std::uint64_t bytes_ = 0;
};

}  // namespace longspan::ucx
