#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "base/clock.hpp"
#include "base/fd.hpp"
#include "longspan/status.hpp"
#include "tcp/inbox.hpp"
#include "tcp/outbox.hpp"
#include "tcp/wire.hpp"

namespace longspan::tcp {

class TcpChannel;

/// A header, and the payload after it, on its way into a socket.
struct OutFrame {
  wire::Header header;
  const std::byte* payload = nullptr;
  std::size_t payload_bytes = 0;
  SendMessage* message = nullptr;      ///< told when the frame is written
  std::unique_ptr<std::byte[]> owned;  ///< the payload, when its message was forgotten halfway

  std::size_t bytes() const noexcept { return wire::kHeaderBytes + payload_bytes; }
};

/// One connection. The side that dialed writes data and reads replies, the other reads data and writes replies; the
/// states of reading and writing are the same for both.
class Lane {
 public:
  enum class State : std::uint8_t {
    kIdle,        ///< no socket: waits for its next attempt to dial
    kConnecting,  ///< the kernel dials
    kGreeting,    ///< accepted, HELLO not yet read; no channel
    kUp,
    kClosed,      ///< over, as agreed or after the channel broke
  };
  enum class Outcome : std::uint8_t {
    kMore,     ///< did something, can go on
    kIdle,     ///< nothing to write
    kBlocked,  ///< the socket takes or has no more
    kEnd,      ///< end of stream
    kFailed,   ///< `failure()` says why
  };

  Lane(TcpChannel* channel, bool dialed, std::uint16_t index) : channel_(channel), dialed_(dialed), index_(index) {}
  Lane(const Lane&) = delete;
  Lane& operator=(const Lane&) = delete;

  State state() const noexcept { return state_; }
  bool up() const noexcept { return state_ == State::kUp; }
  bool dialed() const noexcept { return dialed_; }
  std::uint16_t index() const noexcept { return index_; }
  int fd() const noexcept { return fd_.get(); }
  TcpChannel* channel() const noexcept { return channel_; }
  const Status& failure() const noexcept { return failure_; }

  void set_state(State state) noexcept { state_ = state; }
  void attach(Fd fd) noexcept { fd_ = std::move(fd); }
  /// A greeted connection joins its channel.
  void adopt(TcpChannel* channel, std::uint16_t index) noexcept;
  void close() noexcept;

  /// Writes as much as one system call takes.
  Outcome write();
  /// Reads until nothing is left or `budget` bytes were read. `staging` is scratch memory of the caller.
  Outcome read(std::span<std::byte> staging, std::size_t budget);
  /// Reads the HELLO and not a byte more. kMore: it is in `hello`.
  Outcome read_hello(wire::Hello& hello, wire::WireError& error);

  /// Lets go of the memory of a communicator: what is half written is copied, what is half read is dropped.
  void forget(std::uint64_t comm);

  void queue_hello(const wire::Hello& hello) noexcept;
  void queue_goodbye() noexcept { goodbye_ = Goodbye::kQueued; }
  bool has_queued() const noexcept { return count_ > 0; }
  bool goodbye_written() const noexcept { return goodbye_ == Goodbye::kFramed && count_ == 0; }
  bool goodbye_received = false;

  bool writable = false;
  bool readable = false;
  bool hung_up = false;        ///< the kernel saw the end: read on until it shows
  bool in_read_list = false;   ///< of the endpoint

  // Dialing (used by the channel).
  TimePoint next_attempt{};
  Duration backoff{0};
  std::uint32_t attempts = 0;

  // Warm-up (used by the channel): discardable frames until the congestion window is large enough.
  bool warming = false;
  std::uint64_t warmed_bytes = 0;

 private:
  enum class Goodbye : std::uint8_t { kNone, kQueued, kFramed };

  void fill();
  bool add_frame();
  void retire(std::size_t written);
  std::size_t read_vectors(std::span<std::byte> staging, void* vectors, int& count) noexcept;
  bool consume(std::span<std::byte> staging, std::size_t bytes);
  bool on_header(std::span<const std::byte, wire::kHeaderBytes> header);
  void land(std::size_t bytes) noexcept;
  void finish_payload();
  Outcome fail(Status status);
  Outcome fail_errno(const char* what, int error);

  TcpChannel* channel_;
  Fd fd_;
  bool dialed_;
  std::uint16_t index_;
  State state_ = State::kIdle;
  Status failure_;

  // Writing. 32 frames of two vectors each: a burst of small messages costs one system call.
  static constexpr std::size_t kFrames = 32;
  std::array<OutFrame, kFrames> out_;
  std::size_t head_ = 0;
  std::size_t count_ = 0;
  std::size_t front_written_ = 0;  // of out_[head_]
  std::size_t queued_bytes_ = 0;
  wire::Header hello_{};
  bool hello_queued_ = false;
  Goodbye goodbye_ = Goodbye::kNone;

  // Reading.
  std::size_t payload_left_ = 0;
  std::byte* target_ = nullptr;  // nullptr: drop the payload
  bool landing_active_ = false;  // the payload belongs to landing_ (else it is padding)
  Landing landing_;
  bool bulk_ = false;            // the last payload was large, so the next may be: read no part of it into staging
  std::array<std::byte, wire::kHeaderBytes> partial_{};
  std::size_t partial_bytes_ = 0;
};

}  // namespace longspan::tcp
