#include "verbs/channel.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/log.hpp"
#include "verbs/endpoint.hpp"

namespace longspan::verbs {
namespace {

constexpr std::chrono::milliseconds kFirstBackoff{2};
constexpr std::chrono::milliseconds kLongestBackoff{200};
/// A path on which lanes fail this often is no path.
constexpr std::uint32_t kMostLaneFailures = 16;
/// What was posted is on the wire, and ends soon; or the device retries in vain, and is stopped.
constexpr std::chrono::milliseconds kForgetPatience{200};

}  // namespace

VerbsChannel::VerbsChannel(spi::PeerId peer, VerbsEndpoint& endpoint)
    : peer_(peer),
      endpoint_(endpoint),
      peer_name_(fmt::format("peer {:x}", peer)),
      outbox_(peer, endpoint.shared(), endpoint.adapter().registrar()),
      inbox_(peer, endpoint.shared(), endpoint.adapter().registrar()) {
  inbox_.set_peer_name(peer_name_);
}

VerbsChannel::~VerbsChannel() = default;

// ---- connecting ----

void VerbsChannel::start(const SocketAddress& address, const spi::ChannelOptions& options, TimePoint deadline) {
  started_ = true;
  address_ = address;
  deadline_ = deadline;
  if (!options.peer_name.empty()) peer_name_ = options.peer_name;
  inbox_.set_peer_name(peer_name_);
  const int lanes = options.lanes > 0 ? options.lanes : endpoint_.options().default_lanes;
  lanes_ = std::clamp<std::size_t>(static_cast<std::size_t>(std::max(lanes, 1)), 1, wire::kMaxLanes);
  const double bdp = options.rate_bytes_per_second * std::chrono::duration<double>(options.rtt).count();
  window_bytes_ = std::max(options.window_bytes, static_cast<std::size_t>(2 * bdp));
  outbox_.set_rate(options.rate_bytes_per_second);
  backoff_ = kFirstBackoff;
  dial();
}

void VerbsChannel::dial() {
  next_dial_ = TimePoint::max();
  out_ = std::make_unique<Connection>(endpoint_, *this, address_);
  endpoint_.request_timer(deadline_);
}

void VerbsChannel::join(std::unique_ptr<Connection> connection) {
  in_ = std::move(connection);
  inbox_.attach(in_->link(), endpoint_.options().eager_credit_bytes);
  endpoint_.mark_dirty(*this);
}

void VerbsChannel::link_is_up(Connection& connection) {
  outbox_.attach(connection.link(), connection.heard().credit_bytes, window_bytes_);
  endpoint_.mark_dirty(*this);
}

TimePoint VerbsChannel::on_timer(TimePoint now) {
  if (!settling()) return TimePoint::max();
  if (now >= deadline_) {
    break_down(Status(StatusCode::kPeerLost, fmt::format("cannot be reached by its deadline{}{}",
                                                         last_failure_.empty() ? "" : ": ", last_failure_)));
    return TimePoint::max();
  }
  if (out_ != nullptr && !out_->over() && now >= out_->deadline()) out_->fail("no answer");
  if (out_ == nullptr && now >= next_dial_) dial();
  return std::min({deadline_, next_dial_, out_ == nullptr ? TimePoint::max() : out_->deadline()});
}

// ---- messages ----

void VerbsChannel::remember(std::uint64_t comm) {
  if (!endpoint_.shared().forgotten.empty()) endpoint_.shared().forgotten.erase(comm);
}

void VerbsChannel::send(const spi::SendRequest& request) {
  remember(request.id.comm);
  outbox_.send(request);
  endpoint_.mark_dirty(*this);
}

void VerbsChannel::post_recv(const spi::RecvRequest& request) {
  remember(request.id.comm);
  inbox_.post(request);
  endpoint_.mark_dirty(*this);
}

void VerbsChannel::set_rate(double bytes_per_second) {
  outbox_.set_rate(bytes_per_second);
  endpoint_.mark_dirty(*this);
}

spi::ChannelStats VerbsChannel::stats() const {
  spi::ChannelStats stats;
  stats.bytes_sent = outbox_.bytes_sent();
  stats.messages_sent = outbox_.messages_sent();
  stats.bytes_received = inbox_.bytes_received();
  stats.messages_received = inbox_.messages_received();
  stats.eager_bytes = inbox_.eager_bytes();
  stats.unsent_bytes = outbox_.drained() ? 0 : 1;
  stats.lanes = static_cast<std::uint32_t>(lanes_);
  stats.warming = settling();
  return stats;
}

std::string VerbsChannel::trouble() const {
  if (!endpoint_.fault().empty()) return endpoint_.fault();
  if (settling()) {
    return fmt::format("no connection yet by {}{}{}", endpoint_.adapter().device().where(),
                       last_failure_.empty() ? "" : ": ", last_failure_);
  }
  return {};
}

TimePoint VerbsChannel::progress() {
  if (state_ != State::kOpen) return TimePoint::max();
  if (!new_lanes_.empty()) remake_out_lanes();
  if (std::exchange(in_lanes_down_, false)) remake_in_lanes();
  check_ends();
  if (state_ != State::kOpen) return TimePoint::max();
  const TimePoint wake = outbox_.flush();
  if (Link* link = in_link()) link->flush();
  if (Link* link = out_link()) link->flush();
  return wake;
}

void VerbsChannel::on_frame(Link& link, const wire::Frame& frame, std::span<const std::byte> payload) {
  endpoint_.mark_dirty(*this);
  const bool inward = &link == in_link();
  std::string wrong;
  switch (frame.type) {
    case wire::FrameType::kReady:
    case wire::FrameType::kSlots: break;
    case wire::FrameType::kEager:
      wrong = inward ? inbox_.on_eager(frame, payload) : "a message where answers come";
      break;
    case wire::FrameType::kOffer: wrong = inward ? inbox_.on_offer(frame) : "an offer where answers come"; break;
    case wire::FrameType::kGrant: if (!inward) outbox_.on_grant(frame); break;
    case wire::FrameType::kClear: if (!inward) outbox_.on_clear(frame.id()); break;
    case wire::FrameType::kDrop: if (!inward) outbox_.on_drop(frame.id()); break;
    case wire::FrameType::kCredit: if (!inward) outbox_.on_credit(frame.comm, frame.bytes); break;
    case wire::FrameType::kLaneDown: if (inward && frame.token == link.epoch()) in_lanes_down_ = true; break;
    case wire::FrameType::kReset:
    case wire::FrameType::kResetDone: {
      std::vector<wire::QueueName> names(payload.size() / sizeof(wire::QueueName));
      std::memcpy(names.data(), payload.data(), names.size() * sizeof(wire::QueueName));
      if (names.size() != link.lane_count()) {
        wrong = "a list of lanes that makes no sense";
      } else if (frame.type == wire::FrameType::kReset && !inward) {
        new_lanes_ = std::move(names);
        new_epoch_ = frame.token;
      } else if (inward && frame.token == link.epoch()) {
        if (Status connected = link.connect_lanes(names); !connected.ok()) failure_ = std::string(connected.message());
        inbox_.grant_again();
      }
      break;
    }
    case wire::FrameType::kGoodbye:
      (inward ? goodbye_forward_ : goodbye_backward_) = true;
      if (!inward) peer_dials_too_ = (frame.flags & wire::kDialsToo) != 0;
      break;
  }
  if (!wrong.empty()) failure_ = "it sent " + wrong;
}

void VerbsChannel::on_written(Link& /*link*/, std::uint32_t token, std::uint32_t bytes) {
  endpoint_.mark_dirty(*this);  // receives are to be reported as posted again
  if (std::string wrong = inbox_.on_written(token, bytes); !wrong.empty()) failure_ = "it sent " + wrong;
}

void VerbsChannel::on_work(Link& /*link*/, const SendWork& work, bool done) {
  outbox_.on_work(work, done);
  endpoint_.mark_dirty(*this);
}

// ---- lanes that are made anew ----

void VerbsChannel::on_lane_failure(Link& link, const std::string& why) {
  endpoint_.mark_dirty(*this);
  if (state_ != State::kOpen) return;
  if (++lane_failures_ > kMostLaneFailures) {
    failure_ = "its lanes fail again and again: " + why;
    return;
  }
  if (&link == in_link()) {
    in_lanes_down_ = true;
    return;
  }
  wire::Frame frame;
  frame.type = wire::FrameType::kLaneDown;
  frame.token = link.epoch();
  link.push(frame);
}

/// Whoever receives decides: what it had granted is void, and nothing can be written there any more.
void VerbsChannel::remake_in_lanes() {
  Link* const link = in_link();
  if (link == nullptr || in_->over()) return;
  link->stop_lanes();
  endpoint_.drain();  // what has been written entirely has arrived: its sender may think so, too
  if (Status made = link->remake_lanes(link->epoch() + 1); !made.ok()) return break_with(std::string(made.message()));
  inbox_.grant_again();  // withdraws; the lanes are not up
  wire::Frame frame;
  frame.type = wire::FrameType::kReset;
  frame.token = link->epoch();
  link->push(frame, {}, link->lane_names());
}

void VerbsChannel::remake_out_lanes() {
  Link* const link = out_link();
  const std::vector<wire::QueueName> names = std::exchange(new_lanes_, {});
  if (link == nullptr) return;
  link->stop_lanes();
  endpoint_.drain();
  Status made = link->remake_lanes(new_epoch_);
  if (made.ok()) made = link->connect_lanes(names);
  if (!made.ok()) return break_with(std::string(made.message()));
  outbox_.revoke_grants();
  wire::Frame frame;
  frame.type = wire::FrameType::kResetDone;
  frame.token = new_epoch_;
  link->push(frame, {}, link->lane_names());
}

void VerbsChannel::forget(std::uint64_t comm) {
  outbox_.forget(comm);
  if (Link* link = out_link(); link != nullptr && outbox_.reads_forgotten()) {
    const TimePoint give_up = Clock::now() + kForgetPatience;
    while (outbox_.reads_forgotten() && Clock::now() < give_up) endpoint_.adapter().poll();
    if (outbox_.reads_forgotten() && link->lanes_up()) {
      link->stop_lanes();
      on_lane_failure(*link, "stopped");
    }
  }
  if (state_ == State::kOpen && inbox_.exposes(comm)) {
    inbox_.forget(comm);
    remake_in_lanes();
  } else {
    inbox_.forget(comm);
  }
  endpoint_.mark_dirty(*this);
}

// ---- the end ----

void VerbsChannel::on_failure(Link& /*link*/, const std::string& why) {
  endpoint_.mark_dirty(*this);
  if (failure_.empty()) failure_ = why;
}

/// Everything that arrived has been looked at: what do the ends of connections mean?
void VerbsChannel::check_ends() {
  if (out_ != nullptr && out_->over() && !out_->up()) {  // an attempt that failed
    last_failure_ = out_->why();
    if (out_->hopeless()) return break_with("not admitted: " + last_failure_);
    endpoint_.bury(std::move(out_));
    next_dial_ = Clock::now() + backoff_;
    backoff_ = std::min<Duration>(2 * backoff_, kLongestBackoff);
    endpoint_.request_timer(next_dial_);
  }
  const bool in_over = in_ != nullptr && in_->over();
  const bool out_over = out_ != nullptr && out_->over();
  const bool hung_up = in_over || out_over;
  if (hung_up) endpoint_.drain();
  const bool all_said = in_ != nullptr ? goodbye_forward_ : goodbye_backward_ && (!peer_dials_too_ || out_over);
  if (all_said) return end(State::kClosed, Status(StatusCode::kPeerLost, peer_name_ + " has said goodbye"));
  // A peer that has heard our goodbye owes none.
  if (hung_up && said_goodbye_) return end(State::kClosed, Status(StatusCode::kPeerLost, peer_name_ + " has gone"));
  if ((in_over && !goodbye_forward_) || (out_over && !goodbye_backward_)) {
    return break_with(in_over ? in_->why() : out_->why());
  }
  if (!failure_.empty()) break_with(failure_);
}

void VerbsChannel::break_with(const std::string& why) {
  const std::string fault = endpoint_.fault().empty() ? "" : fmt::format(" ({})", endpoint_.fault());
  break_down(Status(StatusCode::kPeerLost,
                    fmt::format("verbs: lost: {}{}, by {}", why, fault, endpoint_.adapter().device().where())));
}

void VerbsChannel::break_down(const Status& status) {
  if (state_ != State::kOpen) return;
  const Status named = status.with_context(peer_name_);
  log::debug("{}", named.to_string());
  end(State::kBroken, named);
}

void VerbsChannel::end(State state, const Status& status) {
  if (state_ != State::kOpen) return;
  state_ = state;
  over_status_ = status;
  if (state == State::kBroken) endpoint_.report(spi::CompletionKind::kBroken, peer_, status);
  // The device must have let go of all memory before any operation is said to be over.
  inbox_.detach();
  outbox_.detach();
  for (std::unique_ptr<Connection>* connection : {&out_, &in_}) {
    if (*connection == nullptr) continue;
    if (Link* link = (*connection)->link()) link->stop_lanes();
    endpoint_.bury(std::move(*connection));
  }
  outbox_.fail_all(status);
  inbox_.fail_all(status);
  if (state == State::kClosed) endpoint_.report(spi::CompletionKind::kClosed, peer_, {});
}

void VerbsChannel::bequeath() {
  if (state_ != State::kOpen) return;
  outbox_.bequeath(endpoint_.options().eager_credit_bytes);
  endpoint_.mark_dirty(*this);
}

void VerbsChannel::say_goodbye() {
  if (state_ != State::kOpen) return;
  said_goodbye_ = true;
  wire::Frame frame;
  frame.type = wire::FrameType::kGoodbye;
  if (Link* link = out_link()) link->push(frame);
  if (out_link() != nullptr) frame.flags = wire::kDialsToo;
  // Where its first frame has not come, the peer learns it from the other one, or by the end of the connection.
  if (Link* link = in_link(); link != nullptr && link->is_open()) link->push(frame);
  endpoint_.mark_dirty(*this);
}

bool VerbsChannel::quiet() const noexcept {
  const auto is_quiet = [](const Connection* connection) {
    return connection == nullptr || connection->over() || connection->link() == nullptr || connection->link()->quiet();
  };
  return state_ != State::kOpen || (is_quiet(out_.get()) && is_quiet(in_.get()));
}

void VerbsChannel::abandon(const Status& status) {
  if (state_ != State::kOpen) return;
  end(State::kClosed, status);
}

}  // namespace longspan::verbs
