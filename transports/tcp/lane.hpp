#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <unordered_set>

#include "base/clock.hpp"
#include "longspan/status.hpp"
#include "tcp/connection.hpp"
#include "tcp/event_sink.hpp"
#include "tcp/frame_log.hpp"
#include "tcp/inbox.hpp"
#include "tcp/wire.hpp"

namespace longspan::tcp {

class TcpChannel;

/// One of the ways to a peer, over one connection at a time. The side that dialed writes data and reads replies, the
/// other reads data and writes replies; reading and writing are the same for both. When its connection is lost, a lane
/// keeps what is not acknowledged and goes on over the next one: what the peer already has is not sent again.
class Lane final : public EventSink {
 public:
  enum class State : std::uint8_t {
    kNew,    ///< never connected
    kUp,
    kDown,   ///< lost its connection; the side that dialed dials again, the other waits
    kEnded,  ///< over, as agreed or after the channel broke
  };
  enum class Outcome : std::uint8_t {
    kMore,     ///< did something, can go on
    kIdle,     ///< nothing to write
    kBlocked,  ///< the socket takes or has no more
    kEnd,      ///< end of stream
    kFailed,   ///< `failure()` says why
  };

  Lane(TcpChannel& channel, bool dialed, std::uint16_t index) : channel_(channel), dialed_(dialed), index_(index) {}
  Lane(const Lane&) = delete;
  Lane& operator=(const Lane&) = delete;

  State state() const noexcept { return state_; }
  bool up() const noexcept { return state_ == State::kUp; }
  bool dialed() const noexcept { return dialed_; }
  std::uint16_t index() const noexcept { return index_; }
  int fd() const noexcept { return connection_.fd(); }
  TcpChannel& channel() const noexcept { return channel_; }
  const Status& failure() const noexcept { return failure_; }
  /// The socket failed; else the peer broke the protocol.
  bool failed_by_network() const noexcept { return failed_by_network_; }
  const FrameLog& log() const noexcept { return log_; }
  /// Counted frames that came.
  std::uint64_t received() const noexcept { return received_; }

  /// Goes on over `connection`, whose other side has `peer_received` counted frames of this lane; `greeting` is written
  /// first. False: it cannot have that many.
  bool attach(Connection connection, std::uint64_t peer_received, std::span<const std::byte> greeting);
  /// Lets go of the connection and keeps what is not acknowledged.
  void lose() noexcept;
  void end() noexcept;
  void on_events(std::uint32_t events) override;

  /// Writes as much as one system call takes.
  Outcome write();
  /// Reads until nothing is left or `budget` bytes were read. `staging` is scratch memory of the caller.
  Outcome read(std::span<std::byte> staging, std::size_t budget);

  /// Lets go of the memory of a communicator: what may still be sent is copied, what is half read is dropped.
  void forget(std::uint64_t comm);
  /// Copies what is written of messages that wait only for acknowledgements, while `budget` lasts.
  void copy_waiting(std::size_t& budget);
  /// Asks for an acknowledgement of all that was sent so far.
  void ask() noexcept { heartbeat_due_ = true; }
  /// Messages wait for acknowledgements that were not asked for.
  bool should_ask() const noexcept {
    return !heartbeat_due_ && last_held_ > asked_ && last_held_ > log_.acknowledged();
  }
  /// A part of a large message is on its way.
  bool carries_bulk() const noexcept { return last_held_ > log_.acknowledged(); }
  /// The other side has `count` counted frames. False: it cannot have that many.
  bool acknowledge(std::uint64_t count);

  void queue_goodbye() noexcept {
    if (goodbye_ == Goodbye::kNone) goodbye_ = Goodbye::kQueued;
  }
  bool goodbye_written() const noexcept { return goodbye_ == Goodbye::kFramed && log_.unwritten() == 0; }
  void finish_writing() noexcept;
  /// Nothing that was written is still on its way to the peer.
  bool delivered() const noexcept;
  /// The kernel encrypts what it writes.
  bool kernel_encrypts() const noexcept { return connection_.kernel_encrypts(); }
  bool goodbye_received = false;

  bool writable = false;
  bool readable = false;
  bool hung_up = false;        ///< the kernel saw the end: read on until it shows
  bool in_read_list = false;   ///< of the endpoint

  // The rest is used by the channel.
  std::uint32_t generation = 0;  ///< of the connection
  TimePoint sends_until{};       ///< at its rate, with what the kernel has of it
  bool passed_over = false;      ///< it had nothing to write, or no room, in this turn
  TimePoint lost_at{};
  Status lost_why;

  /// Whether the other side still answers.
  struct Vigil {
    TimePoint quiet_since{};
    std::uint64_t heard = 0;         ///< frames read, when last looked at
    std::uint64_t kernel_acked = 0;  ///< bytes that the peer's kernel acknowledged, when last looked at
    std::uint64_t acknowledged = 0;
    std::uint32_t unanswered = 0;    ///< replacements in a row after which nothing was acknowledged
    bool asked = false;
  } vigil;
  std::uint64_t heard() const noexcept { return heard_; }

  /// Frames of this lane that a repeat brought before them.
  bool has_come(std::uint64_t number) const noexcept { return number < received_ || came_otherwise_.contains(number); }
  /// A repeat of frame `number` came entirely: whatever this lane still reads of it is dropped.
  void came_otherwise(std::uint64_t number);
  /// Drops what it reads of the repeat of frame `number` of `lane`, which has come.
  void drop_repeat(std::uint16_t lane, std::uint64_t number) noexcept;
  /// The latest frame taken or written since `since` that may be repeated; nullptr: none. `number` is its number.
  OutFrame* latest_unrepeated(TimePoint since, std::uint64_t& number) noexcept;

  // Warm-up: discardable frames until the congestion window is large enough.
  bool warming = false;
  std::uint64_t warmed_bytes = 0;

 private:
  enum class Goodbye : std::uint8_t { kNone, kQueued, kFramed };

  void fill();
  bool add_frame();
  bool next_frame(wire::Frame& frame, OutFrame& out);
  void want_ack(wire::Frame& frame, const OutFrame& out) noexcept;
  void retire(std::size_t written);
  void let_go(OutFrame& frame);
  std::size_t gather(std::span<iovec> vectors, std::size_t& used) noexcept;
  std::size_t read_vectors(std::span<std::byte> staging, std::span<iovec> vectors, std::size_t& count) noexcept;
  /// The socket is empty: says what is expected next.
  Outcome drained() noexcept;
  bool consume(std::span<std::byte> staging, std::size_t bytes);
  bool on_header(std::span<const std::byte, wire::kHeaderBytes> header);
  bool on_frame(const wire::Frame& frame);
  void land(std::size_t bytes) noexcept;
  void finish_payload();
  void counted_frame_came();
  void finish_repeat();
  void drop_landing() noexcept;
  Outcome fail(Status status);
  Outcome fail_errno(const char* what, int error);

  TcpChannel& channel_;
  Connection connection_;
  bool dialed_;
  std::uint16_t index_;
  State state_ = State::kNew;
  Status failure_;
  bool failed_by_network_ = false;

  // Writing.
  FrameLog log_;
  std::size_t front_written_ = 0;  // bytes of the first unwritten frame
  wire::HelloHeader greeting_{};
  std::size_t greeting_bytes_ = 0;
  std::size_t greeting_written_ = 0;
  Goodbye goodbye_ = Goodbye::kNone;
  bool writing_finished_ = false;
  bool heartbeat_due_ = false;
  std::uint64_t asked_ = 0;      // frames before this number are to be acknowledged, as the other side was asked
  std::uint64_t last_held_ = 0;  // number behind the last frame of a message that waits for acknowledgements
  std::size_t unasked_bytes_ = 0;
  std::size_t unasked_frames_ = 0;

  // Reading.
  std::uint64_t received_ = 0;
  std::uint64_t told_ = 0;  // of received_, as the other side knows
  std::uint64_t heard_ = 0;
  bool ack_due_ = false;
  bool ack_wanted_ = false;      // by the frame whose payload comes
  std::size_t payload_left_ = 0;
  std::byte* target_ = nullptr;  // nullptr: drop the payload
  enum class Payload : std::uint8_t {
    kPadding,
    kData,     // into landing_
    kCame,     // of a counted frame whose repeat came before
    kRepeat,   // into landing_, unless the original is quicker
  } payload_ = Payload::kPadding;
  std::uint16_t repeated_lane_ = 0;
  std::uint64_t repeated_number_ = 0;
  std::unordered_set<std::uint64_t> came_otherwise_;
  Landing landing_;
  bool bulk_ = false;            // the last payload was large, so the next may be: read no part of it into staging
  std::array<std::byte, wire::kHeaderBytes> partial_{};
  std::size_t partial_bytes_ = 0;
};

}  // namespace longspan::tcp
