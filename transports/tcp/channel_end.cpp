// How a channel ends: by a goodbye of either side, or because the peer is lost.
#include <fmt/format.h>

#include <algorithm>

#include "base/log.hpp"
#include "tcp/channel.hpp"
#include "tcp/endpoint.hpp"

namespace longspan::tcp {

void TcpChannel::after_read(Lane& lane, Lane::Outcome outcome) {
  if (outcome == Lane::Outcome::kEnd) {
    return lost(lane, Status(StatusCode::kPeerLost, "the connection ended without a goodbye"));
  }
  if (outcome != Lane::Outcome::kFailed) return;
  if (lane.failed_by_network()) return lost(lane, lane.failure());
  break_down(lane.failure());
}

void TcpChannel::end_lane(Lane& lane) {
  endpoint_.unwatch(lane.fd());
  lane.end();
  if (lane.dialed()) dialer_of(lane).stop();
  finish_if_left();
}

void TcpChannel::finish_if_left() {
  if (over() || !peer_leaving_) return;
  if (Clock::now() < leaving_deadline_) {
    if (joined_lanes_ < expected_lanes_) return;
    if (std::any_of(lanes_.begin(), lanes_.end(),
                    [this](const auto& lane) { return lane->up() || worth_waiting_for(*lane); })) {
      return;
    }
  }
  state_ = State::kClosed;
  peer_gone(spi::CompletionKind::kClosed, Status(StatusCode::kPeerLost, fmt::format("{} has said goodbye", who())));
}

void TcpChannel::break_down(Status status) {
  if (over()) return;
  state_ = State::kBroken;
  status = status.with_context(who());
  log::debug("tcp: {}", status.to_string());
  peer_gone(spi::CompletionKind::kBroken, status);
}

void TcpChannel::peer_gone(spi::CompletionKind kind, const Status& status) {
  over_status_ = status;
  close_lanes();
  spi::Completion completion;
  completion.kind = kind;
  completion.peer = peer_;
  if (kind == spi::CompletionKind::kBroken) {
    completion.status = status;
    endpoint_.shared().completions.push_back(completion);
  }
  outbox_.fail_all(status);
  inbox_.fail_all(status);
  if (kind == spi::CompletionKind::kClosed) endpoint_.shared().completions.push_back(std::move(completion));
}

void TcpChannel::close_lanes() {
  for (const auto& dialer : dialers_) dialer->stop();
  for (const auto& lane : lanes_) {
    endpoint_.unwatch(lane->fd());
    lane->end();
  }
}

/// Dialed lanes over which a goodbye will go.
std::uint64_t TcpChannel::lanes_up() const {
  return static_cast<std::uint64_t>(std::count_if(lanes_.begin(), lanes_.end(), [](const auto& lane) {
    return lane->dialed() && (lane->up() || lane->state() == Lane::State::kDown);
  }));
}

void TcpChannel::say_goodbye() {
  for (const auto& lane : lanes_) {
    lane->warming = false;
    if (lane->up() || worth_waiting_for(*lane)) {
      lane->queue_goodbye();
    } else {
      endpoint_.unwatch(lane->fd());
      lane->end();
      if (lane->dialed()) dialer_of(*lane).stop();
    }
  }
  if (!over()) endpoint_.mark_dirty(*this);
}

bool TcpChannel::goodbye_flushed() const {
  return over() || std::all_of(lanes_.begin(), lanes_.end(), [](const auto& lane) {
           return lane->up() ? lane->goodbye_written() : lane->state() != Lane::State::kDown;
         });
}

void TcpChannel::shut_down() {
  for (const auto& lane : lanes_) {
    if (lane->up()) lane->finish_writing();
  }
}

bool TcpChannel::acknowledged() const {
  return std::all_of(lanes_.begin(), lanes_.end(),
                     [](const auto& lane) { return !lane->up() || lane->delivered(); });
}

void TcpChannel::abort_operations(const Status& status) {
  if (over()) return;
  state_ = State::kClosed;
  over_status_ = status;
  if (acknowledged()) outbox_.complete_written();  // the peer's kernel has it
  close_lanes();
  outbox_.fail_all(status);
  inbox_.fail_all(status);
}

}  // namespace longspan::tcp
