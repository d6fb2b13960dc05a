#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "base/clock.hpp"
#include "shm/inbox.hpp"
#include "shm/links.hpp"
#include "shm/outbox.hpp"

namespace longspan::shm {

class ShmEndpoint;

/// One peer: the connection made here for what is sent, and the one that the peer made for what is received. Either may
/// be missing. Its end is decided once: closed after a goodbye, broken without.
class ShmChannel final : public spi::Channel {
 public:
  ShmChannel(spi::PeerId peer, ShmEndpoint& endpoint, Shared& shared);

  spi::PeerId peer() const noexcept override { return peer_; }
  void send(const spi::SendRequest& request) override { outbox_.send(request); }
  void post_recv(const spi::RecvRequest& request) override { inbox_.post(request); }
  void release_view(std::uint64_t view_token) override { inbox_.release_view(view_token); }
  void set_rate(double /*bytes_per_second*/) override {}  // memory is not paced
  spi::ChannelStats stats() const override;

  // ---- for the endpoint ----
  enum class State : std::uint8_t { kOpen, kClosed, kBroken };
  State state() const noexcept { return state_; }
  const Status& over_status() const noexcept { return over_status_; }
  bool dials() const noexcept { return out_.has_value(); }
  bool has_in_link() const noexcept { return in_.has_value(); }
  /// Some part of setting up is not done: sockets want to be looked at often.
  bool settling() const noexcept { return state_ == State::kOpen && out_.has_value() && !out_->bell.attached(); }

  /// Begins the connection for what is sent.
  Status start(std::string name, const spi::ChannelOptions& options, TimePoint deadline);
  /// The peer's connection.
  void join(InLink link, const Hello& hello);
  /// Moves what can be moved; true when anything was. Fetches at most `budget` bytes, and lessens it.
  bool progress(std::size_t& budget);
  /// Before sleeping: false when there is something to do.
  bool arm();
  void on_out_socket();
  void on_in_socket();
  void on_process_end() { hung_up_ = true; }
  /// Acts on what is due; says when next.
  std::optional<TimePoint> on_timer(TimePoint now);

  void forget(std::uint64_t comm);
  bool unsent() const noexcept { return state_ == State::kOpen && outbox_.unsent(); }
  bool unfetched() const noexcept { return state_ == State::kOpen && outbox_.unfetched(); }
  /// Leaves behind, for the peer to take later, what it has not begun to fetch.
  void bequeath(std::size_t limit);
  /// Says goodbye; false while there is no room for it.
  bool say_goodbye();
  /// The end of this side: completes everything with `status`, and the peer reads no buffer afterwards.
  void abandon(const Status& status);

 private:
  bool drain_forward();
  bool drain_backward();
  void dial();
  void decide_end();
  void inherit();
  void break_down(Status status);
  void end(State state, const Status& status, bool peer_may_read);
  void close_sockets();
  void watch_peer(const Fd& socket);

  spi::PeerId peer_;
  ShmEndpoint& endpoint_;
  std::string peer_name_;
  Outbox outbox_;
  Inbox inbox_;
  std::optional<OutLink> out_;
  std::optional<InLink> in_;
  SharedMemory inheritance_;
  std::uint64_t inherited_count_ = 0;
  Fd process_;  // readable once the peer's process has died: a forked child may keep its sockets open
  State state_ = State::kOpen;
  Status over_status_;
  std::string dial_name_;
  std::optional<TimePoint> next_dial_;
  TimePoint deadline_{};
  std::uint64_t probe_value_ = 0;
  bool forward_goodbye_ = false;
  bool backward_goodbye_ = false;
  bool peer_dials_too_ = false;  // said by its goodbye
  bool leaving_ = false;
  bool hung_up_ = false;
  bool said_out_ = false;
  bool said_in_ = false;
};

}  // namespace longspan::shm
