#pragma once

#include <array>
#include <memory>
#include <optional>
#include <string>

#include "base/clock.hpp"
#include "ucx/inbox.hpp"
#include "ucx/lifeline.hpp"

namespace longspan::ucx {

class UcxEndpoint;

/// One peer: a UCX endpoint, and one or two lifelines (each side may have dialed). Its end is decided once: closed
/// after a goodbye, broken without.
class UcxChannel final : public spi::Channel {
 public:
  using Token = std::array<std::uint64_t, 2>;
  enum class State : std::uint8_t { kOpen, kClosed, kBroken };

  UcxChannel(spi::PeerId peer, UcxEndpoint& endpoint, Shared& shared, Worker& worker, const Token& token);

  spi::PeerId peer() const noexcept override { return peer_; }
  void send(const spi::SendRequest& request) override { outbox_.send(request); }
  void post_recv(const spi::RecvRequest& request) override { inbox_.post(request); }
  void release_view(std::uint64_t /*view_token*/) override {}
  void set_rate(double /*bytes_per_second*/) override {}  // UCX has no pacing, and no path that would need it
  spi::ChannelStats stats() const override;
  std::string trouble() const override;

  // ---- for the endpoint ----
  State state() const noexcept { return state_; }
  const Status& over_status() const noexcept { return over_status_; }
  const Token& token() const noexcept { return token_; }
  bool started() const noexcept { return started_; }
  bool has_line(bool dialed) const noexcept { return lines_[dialed ? 0 : 1] != nullptr; }
  /// Sockets want to be looked at often.
  bool settling() const noexcept {
    return state_ == State::kOpen && (started_ || goodbye_) && (!outbox_.is_open() || goodbye_);
  }

  Status start(std::string_view peer_address, const spi::ChannelOptions& options, TimePoint deadline);
  /// The peer's lifeline, which has been greeted.
  void join(std::unique_ptr<Lifeline> line, const wire::Greeting& greeting, const std::string& worker_address);
  void on_message(const wire::MessageHeader& header, void* data, std::size_t length, bool offered, bool& taken);
  /// UCX lost the connection. Called by UCX.
  void on_error(ucs_status_t status);
  void on_lines();
  bool flush() { return inbox_.flush(); }
  /// Acts on what has happened.
  void decide();
  std::optional<TimePoint> on_timer(TimePoint now);
  void forget(std::uint64_t comm);

  // For the end of the endpoint.
  bool unsent() const noexcept { return state_ == State::kOpen && outbox_.unsent() && outbox_.is_open(); }
  bool unfetched() const noexcept { return state_ == State::kOpen && outbox_.unfetched() && outbox_.is_open(); }
  void bequeath(std::size_t limit) { outbox_.bequeath(limit); }
  void say_goodbye();
  /// Has UCX push out what it took.
  void flush_endpoint();
  /// The peer has everything, or will never have it.
  bool parted() const noexcept { return state_ != State::kOpen || !greeted() || farewell_ || hung_up_; }
  /// The end of this side: completes everything with `status`.
  void abandon(const Status& status);
  std::size_t held() const noexcept { return outbox_.held() + inbox_.held(); }

 private:
  bool greeted() const noexcept { return outbox_.is_open(); }
  void watch_line(std::size_t which);
  void read_lines();
  void hear_line(Lifeline& line);
  bool in_trouble() const noexcept;
  void decide_leaving();
  Status left() const;
  void welcomed(const wire::Greeting& greeting);
  void open(const std::string& worker_address, const wire::Greeting& greeting);
  void break_down(const std::string& why, StatusCode code = StatusCode::kPeerLost);
  void end(State state, const Status& status);
  void close_endpoint();

  spi::PeerId peer_;
  UcxEndpoint& endpoint_;
  Shared& shared_;
  Worker& worker_;
  Token token_;
  Outbox outbox_;
  Inbox inbox_;
  std::array<std::unique_ptr<Lifeline>, 2> lines_;  // dialed, accepted
  ucp_ep_h ucp_endpoint_ = nullptr;
  std::string dialed_address_;
  std::string worker_address_;
  std::string ucx_trouble_;
  TimePoint deadline_{};
  TimePoint patience_{};  // for what is on its way from a peer that has left
  State state_ = State::kOpen;
  Status over_status_;
  std::uint64_t announced_ = 0;  // messages, by the goodbye
  bool started_ = false;
  bool goodbye_ = false;
  bool farewell_ = false;
  bool leaving_ = false;
  bool hung_up_ = false;
  bool said_goodbye_ = false;
  bool insane_ = false;
};

}  // namespace longspan::ucx
