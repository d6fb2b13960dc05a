#pragma once

#include <array>
#include <cstdint>

#include "base/clock.hpp"
#include "tcp/connection.hpp"
#include "tcp/event_sink.hpp"
#include "tcp/wire.hpp"

namespace longspan::tcp {

class Lane;
class TcpChannel;

/// Makes the connections of a lane that this side dials: the first, and each one that replaces a lost one or one that
/// went silent. Repeats with growing pauses; its channel says when it is enough.
///
/// A first connection goes to the lane as soon as the kernel has it and the job's key is proved, because nobody waits
/// for an answer to HELLO. Later ones greet here: the answer says from where the lane goes on, and until it is there
/// the old connection, if it still is there, may recover.
class Dialer final : public EventSink {
 public:
  Dialer(TcpChannel& channel, Lane& lane) noexcept : channel_(channel), lane_(lane) {}
  Dialer(const Dialer&) = delete;
  Dialer& operator=(const Dialer&) = delete;

  bool busy() const noexcept { return state_ != State::kIdle; }
  /// Attempts since `start`.
  std::uint32_t attempts() const noexcept { return attempts_; }
  /// How the last attempt failed; 0: it got no answer, or there was none.
  int last_error() const noexcept { return last_error_; }

  /// Begins to dial, at once.
  void start();
  /// Takes a connection that the peer has made, and offers, in place of one of its own. False: it needs none.
  bool adopt(Connection connection);
  /// Gives up what it is doing.
  void stop() noexcept;
  void on_events(std::uint32_t events) override;
  /// Dials again when it is time; returns when to be called next.
  TimePoint on_timer(TimePoint now);

 private:
  enum class State : std::uint8_t {
    kIdle,
    kPausing,     ///< until `next_`
    kConnecting,  ///< the kernel dials, until `next_`
    kProving,     ///< the kernel has it; both sides prove the job's key, until `next_`
    kGreeting,    ///< HELLO is sent, its answer is awaited until `next_`
  };

  void attempt();
  void failed(int error);
  void connected();
  void prove();
  void stands();
  void greet();
  void read_answer();

  TcpChannel& channel_;
  Lane& lane_;
  State state_ = State::kIdle;
  Connection connection_;
  std::uint32_t generation_ = 0;  // of the connection that it makes
  TimePoint next_{};
  TimePoint greeted_at_{};
  Duration backoff_{0};
  std::uint32_t attempts_ = 0;
  int last_error_ = 0;
  wire::Header answer_{};
  std::size_t answer_bytes_ = 0;
};

}  // namespace longspan::tcp
