#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/clock.hpp"
#include "verbs/connection.hpp"
#include "verbs/inbox.hpp"
#include "verbs/outbox.hpp"

namespace longspan::verbs {

class VerbsEndpoint;

/// One peer. Each side dials the other for what it sends, so that nobody has to agree on who dials: `out_` carries our
/// messages, and the peer's answers to them; `in_` the peer's, and our answers.
class VerbsChannel final : public spi::Channel, public LinkUser {
 public:
  enum class State : std::uint8_t { kOpen, kClosed, kBroken };

  VerbsChannel(spi::PeerId peer, VerbsEndpoint& endpoint);
  ~VerbsChannel() override;

  // ---- spi::Channel ----
  spi::PeerId peer() const noexcept override { return peer_; }
  void send(const spi::SendRequest& request) override;
  void post_recv(const spi::RecvRequest& request) override;
  void release_view(std::uint64_t /*view_token*/) override {}  // it gives none
  void set_rate(double bytes_per_second) override;
  spi::ChannelStats stats() const override;
  std::string trouble() const override;

  // ---- for its endpoint and its connections ----
  bool started() const noexcept { return started_; }
  void start(const SocketAddress& address, const spi::ChannelOptions& options, TimePoint deadline);
  std::size_t lanes() const noexcept { return lanes_; }
  State state() const noexcept { return state_; }
  const Status& over_status() const noexcept { return over_status_; }
  bool has_in() const noexcept { return in_ != nullptr; }
  void join(std::unique_ptr<Connection> connection);
  void link_is_up(Connection& connection);
  /// Looks at what happened to its connections and lanes, and sends what may go. Until when it waits for its pace.
  TimePoint progress();
  /// When to be called next, for attempts to connect.
  TimePoint on_timer(TimePoint now);
  bool settling() const noexcept { return state_ == State::kOpen && started_ && (out_ == nullptr || !out_->up()); }
  void forget(std::uint64_t comm);
  void break_down(const Status& status);

  // ---- the end ----
  bool drained() const noexcept { return state_ != State::kOpen || outbox_.drained(); }
  void bequeath();
  void say_goodbye();
  bool quiet() const noexcept;
  void abandon(const Status& status);

  // ---- LinkUser ----
  void on_frame(Link& link, const wire::Frame& frame, std::span<const std::byte> payload) override;
  void on_written(Link& link, std::uint32_t token, std::uint32_t bytes) override;
  void on_work(Link& link, const SendWork& work, bool done) override;
  void on_failure(Link& link, const std::string& why) override;
  void on_lane_failure(Link& link, const std::string& why) override;

  bool dirty = false;  ///< in the endpoint's list

 private:
  void dial();
  void remember(std::uint64_t comm);
  void check_ends();
  void remake_in_lanes();
  void remake_out_lanes();
  void break_with(const std::string& why);
  void end(State state, const Status& status);
  Link* in_link() const noexcept { return in_ == nullptr ? nullptr : in_->link(); }
  Link* out_link() const noexcept { return out_ == nullptr || !out_->up() ? nullptr : out_->link(); }

  spi::PeerId peer_;
  VerbsEndpoint& endpoint_;
  std::string peer_name_;
  SocketAddress address_;
  std::size_t lanes_ = 1;
  std::size_t window_bytes_ = 0;
  bool started_ = false;
  State state_ = State::kOpen;
  Status over_status_;
  // They are named by links, and go before them.
  Outbox outbox_;
  Inbox inbox_;
  std::unique_ptr<Connection> out_;
  std::unique_ptr<Connection> in_;
  TimePoint deadline_;
  TimePoint next_dial_ = TimePoint::max();
  Duration backoff_{0};
  std::string last_failure_;
  std::string failure_;          // what a link said; acted on outside of it
  std::vector<wire::QueueName> new_lanes_;  // of the peer, for `out_`
  std::uint32_t new_epoch_ = 0;
  bool in_lanes_down_ = false;
  std::uint32_t lane_failures_ = 0;
  bool goodbye_forward_ = false;   // by in_
  bool goodbye_backward_ = false;  // by out_
  bool peer_dials_too_ = false;
  bool said_goodbye_ = false;
};

}  // namespace longspan::verbs
