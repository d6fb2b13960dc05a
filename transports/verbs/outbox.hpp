#pragma once

#include <cstdint>
#include <memory>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "base/clock.hpp"
#include "base/containers.hpp"
#include "longspan/spi/transport.hpp"
#include "verbs/link.hpp"

namespace longspan::verbs {

/// What all channels of an endpoint share.
struct Shared {
  Queue<spi::Completion> completions;
  BufferPool buffers;
  std::unordered_set<std::uint64_t> forgotten;  ///< communicators whose data is dropped
};

/// Messages up to this size are copied into the frame that announces them; others are written straight into the memory
/// of their receive.
inline constexpr std::size_t kEager = wire::kMaxPayload;

/// Where the receiver wants a message.
struct Grant {
  spi::MessageId id;
  std::uint64_t digest = 0;
  std::uint64_t bytes = 0;
  std::uint64_t address = 0;
  std::uint32_t key = 0;
  std::uint32_t token = 0;
};

/// The pace that `set_rate` asked for: a segment may go when those before it would have left at that rate.
class Pace {
 public:
  void set_rate(double bytes_per_second) noexcept { rate_ = bytes_per_second; }
  bool unlimited() const noexcept { return rate_ <= 0; }
  bool allows(TimePoint now) const noexcept { return unlimited() || next_ <= now + kBurst; }
  void took(std::size_t bytes, TimePoint now) noexcept;
  /// When it allows more.
  TimePoint next() const noexcept { return next_ - kBurst; }
  /// So that a pause between two of them stays short.
  std::size_t segment() const noexcept;

 private:
  static constexpr std::chrono::microseconds kBurst{200};  // a timer's lateness
  double rate_ = 0;
  TimePoint next_{};
};

/// The messages to one peer. Small ones go as frames, within the eager credit; others are offered, and written when the
/// peer has said where to: which it may have done before.
class Outbox {
 public:
  Outbox(spi::PeerId peer, Shared& shared, Registrar& registrar)
      : peer_(peer), shared_(shared), registrar_(registrar) {}

  void attach(Link* link, std::uint64_t credit_bytes, std::size_t window_bytes);
  void send(const spi::SendRequest& request);
  /// Sends what may go; when it waits only for the pace, until when.
  TimePoint flush();
  void set_rate(double bytes_per_second) noexcept { pace_.set_rate(bytes_per_second); }

  void on_grant(const wire::Frame& frame);
  void on_clear(const spi::MessageId& id);
  void on_drop(const spi::MessageId& id);
  void on_credit(std::uint64_t comm, std::uint64_t bytes);
  void on_work(const SendWork& work, bool done);
  /// The lanes are new: nothing was granted yet.
  void revoke_grants();

  /// Nothing of the communicator is read any more, once `busy_with` is false.
  void forget(std::uint64_t comm);
  /// Requests that read the memory of forgotten messages are under way.
  bool reads_forgotten() const noexcept { return forgotten_writes_ > 0; }
  /// Sends what was offered and never asked for, within the credit: whoever comes for it later finds it at the peer.
  void bequeath(std::size_t limit);
  void fail_all(const Status& status);
  void detach() noexcept { link_ = nullptr; }

  /// No message waits to be sent that may be.
  bool drained() const noexcept { return small_.empty() && ready_.empty() && writing_ == 0; }
  std::uint64_t messages_sent() const noexcept { return messages_sent_; }
  std::uint64_t bytes_sent() const noexcept { return bytes_sent_; }

 private:
  enum class Where : std::uint8_t {
    kSmall,    ///< in `small_`: goes as frames
    kOffered,  ///< waits for a grant
    kReady,    ///< in `ready_`: granted, to be written
    kWritten,  ///< all of it was posted
    kGone,     ///< completed; its requests are not
  };
  struct Message {
    spi::MessageId id;
    std::uint64_t digest = 0;
    std::span<const std::byte> data;
    void* context = nullptr;
    Where where = Where::kSmall;
    bool offered = false;
    bool clear = false;         // needs no credit
    bool offer_in_flight = false;
    bool forgotten = false;
    std::uint32_t writes = 0;   // posted and not completed
    std::size_t sent = 0;
    Grant grant;
    Registered memory;
    Links<Message> live;
    Links<Message> queue;
  };
  using Messages = List<Message, &Message::queue>;

  void offer(Message& message);
  void announce(Message& message);
  void make_ready(Message& message);
  void send_small(Message& message);
  void queue_small(Message& message);
  bool send_pieces(Message& message);
  bool write_segment(Message& message, TimePoint now);
  void flush_small();
  bool matches(const Message& message, const Grant& grant) const noexcept;
  void sent(Message& message, const Status& status);
  void settle(Message& message);
  std::int64_t& credit(std::uint64_t comm);

  spi::PeerId peer_;
  Shared& shared_;
  Registrar& registrar_;
  Link* link_ = nullptr;
  std::uint64_t credit_bytes_ = 0;
  std::size_t window_bytes_ = 0;
  Pace pace_;
  ObjectPool<Message> pool_;
  List<Message, &Message::live> live_;
  Messages small_;
  Messages ready_;
  IdMap<Message> offered_;
  std::size_t writing_ = 0;           // messages of kWritten
  std::uint64_t forgotten_writes_ = 0;
  ObjectPool<Grant> grant_pool_;
  IdMap<Grant> grants_;               // that came before their message
  std::unordered_map<std::uint64_t, std::int64_t> credits_;
  Status failure_;
  std::uint64_t messages_sent_ = 0;
  std::uint64_t bytes_sent_ = 0;
};

}  // namespace longspan::verbs
