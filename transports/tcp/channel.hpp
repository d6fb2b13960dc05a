#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.hpp"
#include "longspan/spi/transport.hpp"
#include "tcp/inbox.hpp"
#include "tcp/lane.hpp"
#include "tcp/outbox.hpp"
#include "tcp/socket_options.hpp"

namespace longspan::tcp {

class TcpEndpoint;

/// The way to one peer: the lanes that this side dialed carry its data and bring replies, those that the peer dialed
/// the other way round. Exists from the first of connect() and the peer's HELLO.
class TcpChannel final : public spi::Channel {
 public:
  TcpChannel(TcpEndpoint& endpoint, spi::PeerId peer);

  spi::PeerId peer() const noexcept override { return peer_; }
  void send(const spi::SendRequest& request) override;
  void post_recv(const spi::RecvRequest& request) override;
  void release_view(std::uint64_t /*view_token*/) override {}  // never gives views
  void set_rate(double bytes_per_second) override;
  spi::ChannelStats stats() const override;

  // For the endpoint.
  bool started() const noexcept { return started_; }
  void start(const SocketAddress& address, const spi::ChannelOptions& options, TimePoint deadline);
  bool accepts(const wire::Hello& hello) const;
  Lane& join(std::unique_ptr<Lane> lane, const wire::Hello& hello);
  void on_connected(Lane& lane);
  /// Handles what a lane's read ended with.
  void after_read(Lane& lane, Lane::Outcome outcome);
  /// Writes what can be written. False: there is more to write right now.
  bool flush();
  /// Dials again, gives up; returns when to be called next.
  std::optional<TimePoint> on_timer(TimePoint now);
  void forget(std::uint64_t comm);
  bool dirty = false;  ///< in the endpoint's list of channels to flush

  // Closing: all is sent, then a goodbye on every lane, then the end of stream.
  bool drained() const { return over() || outbox_.drained(); }
  void say_goodbye();
  bool goodbye_flushed() const;
  void shut_down();
  bool acknowledged() const;
  void abort_operations(const Status& status);

  // For its lanes.
  bool next_frame(Lane& lane, OutFrame& frame);
  void written(SendMessage& message) { outbox_.written(message); }
  void count_sent(std::size_t bytes) noexcept { bytes_sent_ += bytes; }
  Status begin(const wire::Frame& frame, Landing& landing) { return inbox_.begin(frame, landing); }
  void landed(Landing& landing);
  void abandon(Landing& landing) { inbox_.abandon(landing); }
  Status on_control(Lane& lane, const wire::Frame& frame);
  std::uint64_t lanes_up() const;

 private:
  enum class State : std::uint8_t { kOpen, kClosed, kBroken };

  bool over() const noexcept { return state_ != State::kOpen; }
  double lane_rate() const noexcept;
  void dial(Lane& lane);
  void dial_failed(Lane& lane, int error);
  void configure(Lane& lane);
  void tune(Lane& lane);
  void end_lane(Lane& lane);
  void finish_if_left();
  void break_down(Status status);
  void close_lanes();
  void peer_gone(spi::CompletionKind kind, const Status& status);
  bool next_pad(Lane& lane, OutFrame& frame);
  void start_warming(Lane& lane);
  std::string who() const;

  TcpEndpoint& endpoint_;
  spi::PeerId peer_;
  State state_ = State::kOpen;
  Status over_status_;
  spi::ChannelOptions options_;
  SocketAddress address_;
  TimePoint deadline_{};
  TimePoint dialing_since_{};
  int last_dial_error_ = 0;
  bool started_ = false;
  std::vector<std::unique_ptr<Lane>> lanes_;  // never shrinks: events may still point to closed ones
  std::size_t next_lane_ = 0;
  std::size_t fragment_bytes_;
  std::size_t joined_lanes_ = 0;
  bool peer_leaving_ = false;
  std::uint64_t expected_lanes_ = 0;  // what the peer's goodbye says
  TimePoint leaving_deadline_{};
  TimePoint warm_until_{};
  std::uint64_t bytes_sent_ = 0;
  std::uint64_t bytes_received_ = 0;
  Inbox inbox_;
  Outbox outbox_;
};

}  // namespace longspan::tcp
