#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "longspan/spi/transport.hpp"
#include "base/containers.hpp"
#include "tcp/wire.hpp"

namespace longspan::tcp {

/// What all channels of an endpoint share.
struct Shared {
  Queue<spi::Completion> completions;
  BufferPool buffers;
  std::unordered_set<std::uint64_t> forgotten;  ///< communicators whose data is dropped
};

/// Data that came before its receive.
struct WaitingFragment {
  BufferPool::Buffer data;
  std::size_t offset = 0;
  std::size_t bytes = 0;
  bool counted = false;
};

/// One message on its way in: known from its receive, from its first frame, or both.
struct RecvMessage {
  spi::MessageId id;
  bool known = false;      ///< a frame of it came: bytes and digest hold
  bool posted = false;     ///< its receive was posted
  bool completed = false;  ///< its kRecv was given
  bool discard = false;    ///< what still comes of it is dropped
  bool announced = false;  ///< its RTS came
  bool data_seen = false;  ///< a DATA came: tells an empty message from one that was only announced
  /// An RTS was sent: it may come after the data, on another lane, so remember until then.
  bool announcement_due = false;
  bool cleared = false;           ///< its CTS was sent
  bool any_length = false;
  std::uint64_t bytes = 0;
  std::uint64_t digest = 0;
  std::uint64_t received = 0;
  std::uint32_t in_progress = 0;  ///< fragments that lanes are reading
  std::uint64_t wanted_digest = 0;
  std::span<std::byte> data;
  void* context = nullptr;
  std::vector<WaitingFragment> waiting;
};

/// Where a lane puts the payload that it is about to read.
struct Landing {
  RecvMessage* message = nullptr;
  std::byte* target = nullptr;  ///< nullptr: drop it
  std::size_t bytes = 0;
  std::size_t offset = 0;
  std::uint64_t comm = 0;
  bool counted = false;
  BufferPool::Buffer pooled;
};

/// The messages from one peer: matches frames with receives, keeps what came early within the credit, returns credit.
/// No I/O here.
class Inbox {
 public:
  Inbox(spi::PeerId peer, Shared& shared) : peer_(peer), shared_(shared) {}

  void set_peer_name(std::string name) { peer_name_ = std::move(name); }
  /// From the peer's HELLO.
  void set_credit_bytes(std::uint64_t bytes) noexcept { credit_bytes_ = bytes; }

  void post(const spi::RecvRequest& request);
  /// A DATA header came. Fails when the peer breaks the protocol.
  Status begin(const wire::Frame& frame, Landing& landing);
  /// All of the payload is where `landing` said.
  void end(Landing& landing);
  Status on_announcement(const wire::Frame& frame);

  /// The next CTS or CREDIT to send back.
  bool next_reply(wire::Frame& out);
  bool has_replies() const noexcept { return !replies_.empty(); }

  /// Drops all of a communicator. Lanes must have let go of its landings (`abandon`).
  void forget(std::uint64_t comm);
  /// A lane will not finish this landing.
  void abandon(Landing& landing);
  /// Completes the posted receives with `status`, and from now on those that are posted for what did not come.
  void fail_all(const Status& status);

  /// Receives are posted for what has not come, or something is half here.
  bool expects() const noexcept { return messages_.size() > 0; }
  /// Messages of which something is remembered.
  std::size_t open_messages() const noexcept { return messages_.size(); }
  std::uint64_t messages_received() const noexcept { return messages_received_; }
  std::uint64_t eager_bytes() const noexcept { return eager_bytes_; }

 private:
  struct Account {
    std::uint64_t pooled = 0;  // counted bytes that wait for receives
    std::uint64_t owed = 0;    // to be returned
  };

  RecvMessage& record_of(const spi::MessageId& id);
  Status learn(RecvMessage& message, const wire::Frame& frame);
  void check_match(RecvMessage& message);
  void settle(RecvMessage& message);
  void deliver_waiting(RecvMessage& message);
  void clear_to_send(RecvMessage& message);
  void complete(RecvMessage& message, Status status);
  void arrived(const RecvMessage& message);
  void return_credit(std::uint64_t comm, std::size_t bytes);
  void drop_waiting(RecvMessage& message);
  void release(RecvMessage& message);
  Account& account_of(std::uint64_t comm);

  spi::PeerId peer_;
  Shared& shared_;
  std::string peer_name_;
  std::uint64_t credit_bytes_ = std::uint64_t{4} << 20;
  ObjectPool<RecvMessage> pool_;
  IdMap<RecvMessage> messages_;
  std::unordered_map<std::uint64_t, Account> accounts_;
  std::uint64_t last_comm_ = 0;
  Account* last_account_ = nullptr;  // of last_comm_; elements of the map do not move
  Queue<wire::Frame> replies_;
  Status failure_;
  std::uint64_t messages_received_ = 0;
  std::uint64_t eager_bytes_ = 0;
};

}  // namespace longspan::tcp
