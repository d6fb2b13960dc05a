#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/containers.hpp"
#include "longspan/spi/transport.hpp"
#include "verbs/link.hpp"
#include "verbs/outbox.hpp"

namespace longspan::verbs {

/// The messages from one peer: matches frames with receives, keeps what came early within the credit, and says where
/// large messages are to be written.
class Inbox {
 public:
  Inbox(spi::PeerId peer, Shared& shared, Registrar& registrar) : peer_(peer), shared_(shared), registrar_(registrar) {}

  void attach(Link* link, std::uint64_t credit_bytes);
  void detach() noexcept { link_ = nullptr; }
  void set_peer_name(std::string name) { peer_name_ = std::move(name); }

  void post(const spi::RecvRequest& request);
  /// What is wrong with it; empty: nothing.
  [[nodiscard]] std::string on_eager(const wire::Frame& frame, std::span<const std::byte> payload);
  [[nodiscard]] std::string on_offer(const wire::Frame& frame);
  [[nodiscard]] std::string on_written(std::uint32_t token, std::uint32_t bytes);

  /// The lanes are new: what was granted is written from its start, under new tokens.
  void grant_again();
  /// Some of the communicator's receives may be written to now.
  bool exposes(std::uint64_t comm) const;
  void forget(std::uint64_t comm);
  /// Completes the posted receives with `status`, and from now on those that are posted for what did not come.
  void fail_all(const Status& status);

  std::uint64_t messages_received() const noexcept { return messages_received_; }
  std::uint64_t bytes_received() const noexcept { return bytes_received_; }
  std::uint64_t eager_bytes() const noexcept { return eager_bytes_; }

 private:
  static constexpr std::uint32_t kNoToken = UINT32_MAX;

  struct Message {
    spi::MessageId id;
    bool posted = false;
    bool known = false;    // a frame of it came: bytes and digest hold
    bool offered = false;  // it stays with its sender until asked for
    bool data_seen = false;
    bool completed = false;
    bool discard = false;
    bool any_length = false;
    bool cleared = false;
    std::uint64_t bytes = 0;
    std::uint64_t digest = 0;
    std::uint64_t received = 0;
    std::uint64_t counted = 0;  // of what is pooled, credit to be returned
    std::uint64_t wanted_digest = 0;
    std::span<std::byte> data;
    void* context = nullptr;
    std::uint32_t token = kNoToken;
    Registered memory;
    BufferPool::Buffer pooled;
  };

  Message& record_of(const spi::MessageId& id);
  std::string learn(Message& message, const wire::Frame& frame);
  void check_match(Message& message);
  void answer(Message& message);
  void grant(Message& message);
  void withdraw(Message& message);
  void settle(Message& message);
  void complete(Message& message, Status status);
  void drop_pooled(Message& message);
  void return_credit(std::uint64_t comm, std::uint64_t bytes);
  void release(Message& message);
  void reply(wire::FrameType type, const Message& message);

  spi::PeerId peer_;
  Shared& shared_;
  Registrar& registrar_;
  std::string peer_name_;
  Link* link_ = nullptr;
  std::uint64_t credit_bytes_ = 0;
  ObjectPool<Message> pool_;
  IdMap<Message> messages_;
  std::vector<Message*> granted_;               // by the low bits of their token
  std::vector<std::uint32_t> free_tokens_;
  std::uint32_t next_turn_ = 0;                 // high bits: a token of before a reset is not taken for one of after
  std::unordered_map<std::uint64_t, std::uint64_t> owed_;
  std::uint64_t pooled_bytes_ = 0;
  Status failure_;
  std::uint64_t messages_received_ = 0;
  std::uint64_t bytes_received_ = 0;
  std::uint64_t eager_bytes_ = 0;
};

}  // namespace longspan::verbs
