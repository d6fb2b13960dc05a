#pragma once

#include <cstdint>
#include <memory>
#include <unordered_map>

#include "longspan/spi/transport.hpp"
#include "base/containers.hpp"
#include "tcp/wire.hpp"

namespace longspan::tcp {

struct SendCredit;

/// Messages up to this size never wait behind larger ones: where a channel has a lane for them, they need not share a
/// connection with bulk data.
inline constexpr std::size_t kSmallMessage = std::size_t{16} << 10;

/// One message on its way out.
struct SendMessage {
  spi::MessageId id;
  std::uint64_t digest = 0;
  const std::byte* data = nullptr;
  std::size_t bytes = 0;
  std::size_t assigned = 0;       ///< bytes handed to lanes so far
  std::uint32_t unwritten = 0;    ///< fragments that lanes have not written entirely
  std::uint32_t held = 0;         ///< fragments that may still be read from `data`: neither acknowledged nor copied
  bool whole = false;             ///< all of it is assigned
  bool waits = false;             ///< written entirely; waits only for its fragments to be let go
  bool announced = false;         ///< an RTS was sent
  bool granted = false;           ///< a CTS came: needs no credit
  void* context = nullptr;
  SendCredit* credit = nullptr;
  Links<SendMessage> live;   ///< among all messages of the outbox
  Links<SendMessage> queue;  ///< in a ready list or in the blocked list of its communicator
  enum class Where : std::uint8_t { kReady, kBlocked, kNowhere } where = Where::kNowhere;

  bool small() const noexcept { return bytes <= kSmallMessage; }
};

/// Which messages a lane takes.
enum class Pull : std::uint8_t { kAny, kSmall, kLarge };

/// What may still be sent ahead of receives, for one communicator.
struct SendCredit {
  std::int64_t left = 0;  ///< may go below 0 by one fragment, and by kSmallOverdraft
  bool replenished = false;
  List<SendMessage, &SendMessage::queue> blocked;  ///< announced, waiting for credit or their CTS; oldest first
};

/// A piece of a message for one lane.
struct Fragment {
  SendMessage* message = nullptr;
  std::size_t offset = 0;
  std::size_t bytes = 0;
  bool counted = false;
};

/// The messages for one peer, and who goes next: a lane that can write pulls. Small messages go before large ones,
/// those of a kind in the order of issue, except that one without credit is announced and lets those of other
/// communicators pass. No I/O here.
class Outbox {
 public:
  /// Completions go to `completions`. `credit_bytes` is what each communicator may send ahead.
  Outbox(spi::PeerId peer, std::int64_t credit_bytes, Queue<spi::Completion>& completions)
      : peer_(peer), credit_bytes_(credit_bytes), completions_(completions) {}

  void set_credit_bytes(std::int64_t bytes) noexcept { credit_bytes_ = bytes; }
  std::int64_t credit_bytes() const noexcept { return credit_bytes_; }

  void push(const spi::SendRequest& request);
  /// The next fragment of at most `limit` bytes; false when nothing may be sent. May create announcements.
  bool next(std::size_t limit, Fragment& out, Pull pull = Pull::kAny);
  /// The next announcement to send.
  bool next_announcement(wire::Frame& out);
  /// A lane wrote the whole fragment.
  void written(SendMessage& message);
  /// A fragment was acknowledged or copied: `data` is no longer needed for it. The last one completes the message.
  void let_go(SendMessage& message);
  /// Completes what is written entirely, acknowledged or not.
  void complete_written();

  void on_credit(std::uint64_t comm, std::uint64_t bytes);
  void on_clear_to_send(const spi::MessageId& id);

  /// Drops the messages of a communicator. The caller first frees its lanes from them.
  void forget(std::uint64_t comm);
  /// Completes everything with `status`.
  void fail_all(const Status& status);

  bool may_have_work() const noexcept { return has_large() || !small_.empty() || !announcements_.empty(); }
  bool has_urgent() const noexcept { return !small_.empty() || !announcements_.empty(); }
  bool has_large() const noexcept { return !ready_.empty() || !replenished_.empty(); }
  /// No message is left, written or not.
  bool drained() const noexcept { return live_.empty(); }
  /// Messages that are written entirely and wait for acknowledgements (or copies).
  std::size_t waiting() const noexcept { return waiting_; }
  bool all_written() const noexcept { return live_count_ == waiting_; }
  std::uint64_t messages_sent() const noexcept { return messages_sent_; }

 private:
  /// Bulk data that has used up the credit must not hold up what is small.
  static constexpr std::int64_t kSmallOverdraft = std::int64_t{256} << 10;

  SendMessage* candidate(Pull pull);
  SendMessage* first_sendable(List<SendMessage, &SendMessage::queue>& list, std::int64_t least_credit);
  void make_ready(SendMessage& message) noexcept;
  void block(SendMessage& message);
  void unqueue(SendMessage& message) noexcept;
  void release(SendMessage& message);
  void finished(SendMessage& message);
  void complete(SendMessage& message, const Status& status);
  SendCredit& credit_of(std::uint64_t comm);

  spi::PeerId peer_;
  std::int64_t credit_bytes_;
  Queue<spi::Completion>& completions_;
  ObjectPool<SendMessage> messages_;
  List<SendMessage, &SendMessage::live> live_;
  List<SendMessage, &SendMessage::queue> ready_;  // large ones
  List<SendMessage, &SendMessage::queue> small_;
  IdMap<SendMessage> announced_;
  Queue<wire::Frame> announcements_;
  std::unordered_map<std::uint64_t, std::unique_ptr<SendCredit>> credits_;
  std::uint64_t last_comm_ = 0;
  SendCredit* last_credit_ = nullptr;  // of last_comm_: consecutive messages are mostly of one communicator
  Queue<SendCredit*> replenished_;      // have credit again and blocked messages
  std::size_t live_count_ = 0;
  std::size_t waiting_ = 0;
  std::uint64_t messages_sent_ = 0;
};

}  // namespace longspan::tcp
