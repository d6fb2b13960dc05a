// The connections of a channel: made, watched over, lost and replaced.
#include <fmt/format.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/log.hpp"
#include "tcp/channel.hpp"
#include "tcp/endpoint.hpp"

namespace longspan::tcp {
namespace {

using std::chrono::milliseconds;

/// Less silence than this says nothing: the peer's host may be busy.
constexpr milliseconds kShortestSilence{1000};
constexpr std::uint32_t kMostDoublings = 4;
/// What the kernel may hold unsent of a connection, in time at its rate; it asks for more when half of that is gone. A
/// busy host lets a rank wait for a core for as long: with 4 ms the first 100 ms of each large allreduce went at two
/// thirds of the rate. Of several connections each holds less: what one holds, no other can take.
constexpr double kUnsentAlone = 16e-3;
constexpr double kUnsentOfSeveral = 12e-3;
constexpr std::size_t kMostUnsent = std::size_t{4} << 20;

double seconds_between(TimePoint from, TimePoint to) { return std::chrono::duration<double>(to - from).count(); }

}  // namespace

void TcpChannel::configure(int fd) {
  set_no_delay(fd);
  set_send_window(fd, options_.window_bytes);
  set_silence_limit(fd, std::chrono::duration_cast<milliseconds>(patience_), options_.rtt);
  if (!congestion_control_.empty() && !set_congestion_control(fd, congestion_control_)) {
    endpoint_.warn_congestion_control(congestion_control_, true);
  }
}

/// Options that depend on the rate, for a connected lane.
void TcpChannel::tune(Lane& lane) {
  set_pacing(lane.fd(), lane_rate(lane));
  if (!lane.warming) set_unsent_limit(lane.fd(), &lane == express_ ? 2 * kSmallMessage : unsent_limit());
}

std::size_t TcpChannel::unsent_limit() const noexcept {
  const std::size_t least = 2 * fragment_bytes_;
  if (options_.tier != Tier::kWan) return least;
  const double seconds = options_.lanes > 1 ? kUnsentOfSeveral : kUnsentAlone;
  const double wanted = options_.rate_bytes_per_second / std::max(1, options_.lanes) * seconds;
  return std::max(least, static_cast<std::size_t>(std::min(wanted, double{kMostUnsent})));
}

security::Introduction TcpChannel::introduction() const {
  const Encryption wanted = endpoint_.options().encryption;
  const bool sealed = wanted == Encryption::kAll || (wanted == Encryption::kWan && options_.tier == Tier::kWan);
  return longspan::tcp::introduction(endpoint_.options().self, peer_, sealed);
}

wire::Hello TcpChannel::hello_of(const Lane& lane, std::uint32_t generation) const {
  wire::Hello hello;
  hello.job = endpoint_.options().job;
  hello.from = endpoint_.options().self;
  hello.to = peer_;
  hello.lane = lane.index();
  hello.lanes = static_cast<std::uint16_t>(dialers_.size());
  hello.credit_bytes = static_cast<std::uint64_t>(outbox_.credit_bytes());
  hello.window_bytes = options_.window_bytes;
  hello.generation = generation;
  hello.received = lane.received();
  hello.acknowledged = lane.log().acknowledged();
  return hello;
}

// ---- dialed ----

void TcpChannel::connected(Lane& lane, Connection connection) {
  wire::HelloHeader hello;
  wire::encode(hello_of(lane, 0), hello);
  lane.attach(std::move(connection), 0, hello);
  if (is_late(lane) && !is_repair(lane)) ++options_.lanes;  // the rate is divided among one more
  take_over(lane, 0);
  if (is_late(lane)) set_rate(options_.rate_bytes_per_second);
}

void TcpChannel::take_over(Lane& lane, std::uint32_t generation) {
  lane.generation = generation;
  lane.vigil = {};
  lane.vigil.quiet_since = Clock::now();
  lane.vigil.heard = lane.heard();
  lane.vigil.acknowledged = lane.log().acknowledged();
  endpoint_.rewatch(lane.fd(), lane);
  models_due_ = TimePoint{};
  start_warming(lane);
  tune(lane);
  endpoint_.mark_dirty(*this);
}

Status TcpChannel::refusal_of(const wire::Frame& frame) {
  if ((frame.flags & wire::kRefused) == 0) {
    return Status(StatusCode::kInternal, "received an answer that nobody asked for");
  }
  return Status(StatusCode::kPeerLost,
                fmt::format("refused our connection: {}", wire::describe(static_cast<wire::Refusal>(frame.digest))));
}

void TcpChannel::answered(Lane& lane, Connection connection, std::uint32_t generation, wire::WireError error,
                          const wire::Frame& answer) {
  if (error != wire::WireError::kNone || answer.type != wire::FrameType::kResume) {
    return break_down(
        Status(StatusCode::kInternal,
               fmt::format("answered our connection with {}",
                           error != wire::WireError::kNone ? wire::describe(error) : "a frame that is no answer")));
  }
  if ((answer.flags & wire::kRefused) != 0) {
    return peer_leaving_ || endpoint_.closing() ? end_lane(lane) : break_down(refusal_of(answer));
  }
  const std::uint32_t unanswered = lane.vigil.unanswered;
  const auto attempts = dialer_of(lane).attempts();
  if (lane.up()) {
    lane.lost_at = lane.vigil.quiet_since;
    endpoint_.unwatch(lane.fd());
  }
  if (!lane.attach(std::move(connection), answer.message_bytes, {})) {
    return break_down(Status(StatusCode::kInternal, "claims to have received what was never sent"));
  }
  ++reconnects_;
  take_over(lane, generation);
  lane.vigil.unanswered = unanswered;
  log::info("tcp: connection {} of {} to {} works again after {:.3f} s and {} attempts", lane.index() + 1,
            dialers_.size(), who(), seconds_between(lane.lost_at, Clock::now()), attempts);
}

void TcpChannel::dial_failed(Lane& lane, int error) {
  // Before its port was reached a refusal means little: ranks start at different times, and firewalls refuse, too.
  // Afterwards nobody listens any more, so the process is gone.
  if (error != ECONNREFUSED || !reached_ || over()) return;
  if (is_late(lane) && lane.state() == Lane::State::kNew) return end_lane(lane);
  if (peer_leaving_ || endpoint_.closing()) return end_lane(lane);
  const std::string_view silent = lane.state() == Lane::State::kNew ? "it ended while it was dialed" : "silence";
  const std::string why(lane.lost_why.ok() ? silent : lane.lost_why.message());
  break_down(Status(StatusCode::kPeerLost, fmt::format("{}, and nobody listens at {} any more: its process is gone",
                                                       why, address().to_string())));
}

// ---- accepted ----

Lane* TcpChannel::accepted_lane(std::uint16_t index) const noexcept {
  const auto found = std::find_if(lanes_.begin(), lanes_.end(),
                                  [&](const auto& lane) { return !lane->dialed() && lane->index() == index; });
  return found == lanes_.end() ? nullptr : found->get();
}

bool TcpChannel::accepts(const wire::Hello& hello, std::optional<wire::Refusal>& refusal) const {
  if (over()) {
    refusal = wire::Refusal::kOver;
    return false;
  }
  const Lane* known = accepted_lane(hello.lane);
  if (known == nullptr) {
    // The first connection can be lost before its HELLO is read; then nothing was acknowledged either.
    if (hello.acknowledged == 0 && hello.received == 0) return true;
    refusal = wire::Refusal::kUnknownLane;
    return false;
  }
  return hello.generation > known->generation && known->state() != Lane::State::kEnded;
}

void TcpChannel::join(Connection connection, const wire::Hello& hello) {
  inbox_.set_credit_bytes(hello.credit_bytes);
  set_receive_window(connection.fd(), static_cast<std::size_t>(hello.window_bytes));
  set_silence_limit(connection.fd(), std::chrono::duration_cast<milliseconds>(patience_), options_.rtt);
  Lane* lane = accepted_lane(hello.lane);
  if (lane == nullptr) {
    // More than were known: the others of them are on their way.
    if (joined_lanes_++ == 0 || hello.lanes > peer_lanes_) joined_since_ = Clock::now();
    peer_lanes_ = hello.lanes;
    lanes_.push_back(std::make_unique<Lane>(*this, false, hello.lane));
    lane = lanes_.back().get();
  }
  wire::Header resume;
  wire::Frame frame;
  frame.type = wire::FrameType::kResume;
  frame.message_bytes = lane->received();
  wire::encode(frame, resume);
  endpoint_.unwatch(lane->fd());  // from here on nothing of the old connection counts
  const std::span<const std::byte> answer =
      hello.generation > 0 ? std::span<const std::byte>(resume) : std::span<const std::byte>();
  if (!lane->attach(std::move(connection), hello.received, answer)) {
    return break_down(Status(StatusCode::kInternal, "claims to have received what was never sent"));
  }
  lane->generation = hello.generation;
  endpoint_.rewatch(lane->fd(), *lane);
  endpoint_.mark_dirty(*this);
}

// ---- lost ----

void TcpChannel::lost(Lane& lane, Status why) {
  endpoint_.unwatch(lane.fd());
  lane.lose();
  lane.lost_at = Clock::now();
  lane.lost_why = std::move(why);
  if (!worth_waiting_for(lane)) return end_lane(lane);
  log::info("tcp: connection {} of {} {} was lost: {}", lane.index() + 1, who(), lane.dialed() ? "(ours)" : "(its)",
            lane.lost_why.message());
  endpoint_.request_timer(lane.lost_at + patience_);
  if (!lane.dialed()) {
    endpoint_.request_timer(lane.lost_at + std::chrono::seconds(1));
    return finish_if_left();
  }
  // One that replaces a silent connection may be on its way.
  if (!dialer_of(lane).busy()) dialer_of(lane).start();
}

/// Whether a lane without a connection still matters.
bool TcpChannel::worth_waiting_for(const Lane& lane) const {
  if (lane.state() != Lane::State::kDown) return false;
  if (lane.dialed()) return !peer_leaving_ && (!endpoint_.closing() || !lane.log().all_acknowledged());
  return !lane.goodbye_received && !endpoint_.closing();
}

std::string TcpChannel::outage_of(const Lane& lane, TimePoint now) const {
  if (!lane.dialed()) {
    return fmt::format("its connection {} was lost {:.1f} s ago: {}; it did not dial again", lane.index() + 1,
                       seconds_between(lane.lost_at, now), lane.lost_why.message());
  }
  const Dialer& dialer = dialer_of(lane);
  const std::string tried = fmt::format("{} attempts, the last one: {}", dialer.attempts(),
                                        dialer.last_error() != 0 ? std::strerror(dialer.last_error()) : "no answer");
  if (lane.state() == Lane::State::kNew) {
    return fmt::format("cannot be reached at {}: {} in {:.1f} s", address().to_string(), tried,
                       seconds_between(dialing_since_, now));
  }
  const std::string which =
      fmt::format("connection {} of {} to {}", lane.index() + 1, dialers_.size(), address().to_string());
  if (lane.up()) {
    return fmt::format("{} has been silent for {:.1f} s; to replace it: {}", which,
                       seconds_between(lane.vigil.quiet_since, now), tried);
  }
  return fmt::format("{} was lost {:.1f} s ago ({}); to replace it: {}", which, seconds_between(lane.lost_at, now),
                     lane.lost_why.message(), tried);
}

/// A lane has been without a connection for too long: breaks the channel.
bool TcpChannel::give_up(Lane& lane, TimePoint now) {
  if (lane.state() == Lane::State::kNew) {
    if (now < deadline_) return false;
    if (is_late(lane)) {
      end_lane(lane);
      return over();
    }
    break_down(Status(StatusCode::kPeerLost, outage_of(lane, now)));
    return true;
  }
  const bool replacing = lane.up() && lane.dialed() && dialer_of(lane).busy();
  if (lane.state() != Lane::State::kDown && !replacing) return false;
  if (now < (replacing ? lane.vigil.quiet_since : lane.lost_at) + patience_) return false;
  break_down(Status(StatusCode::kPeerLost, outage_of(lane, now)));
  return true;
}

std::string TcpChannel::trouble() const {
  const auto found = std::find_if(lanes_.begin(), lanes_.end(), [this](const auto& lane) {
    return lane->state() == Lane::State::kDown ||
           (lane->dialed() && lane->state() != Lane::State::kEnded && dialer_of(*lane).busy());
  });
  return over() || found == lanes_.end() ? std::string() : outage_of(**found, Clock::now());
}

// ---- watched over ----

Duration TcpChannel::silence_limit() const noexcept { return std::max<Duration>(kShortestSilence, 4 * options_.rtt); }

Duration TcpChannel::answer_limit(const Lane& lane) const noexcept {
  return silence_limit() * (1U << std::min(lane.vigil.unanswered, kMostDoublings));
}

bool TcpChannel::outstanding(const Lane& lane) const noexcept {
  return lane.dialed() && lane.up() && (!outbox_.drained() || !lane.log().all_acknowledged());
}

void TcpChannel::start_vigil() {
  if (vigil_on_ || over()) return;
  if (std::none_of(lanes_.begin(), lanes_.end(), [this](const auto& lane) { return outstanding(*lane); })) return;
  vigil_on_ = true;
  const TimePoint now = Clock::now();
  for (const auto& lane : lanes_) lane->vigil.quiet_since = now;
  vigil_at_ = now + silence_limit() / 4;
  endpoint_.request_timer(vigil_at_);
}

/// A connection over which something should come but does not is replaced. Bytes that the peer's kernel acknowledges
/// are signs of life too: a slow link takes long for what it holds already.
void TcpChannel::watch_over(Lane& lane, TimePoint now) {
  Lane::Vigil& vigil = lane.vigil;
  if (!outstanding(lane)) {
    vigil.quiet_since = now;
    return;
  }
  if (std::exchange(vigil.acknowledged, lane.log().acknowledged()) != lane.log().acknowledged()) vigil.unanswered = 0;
  const std::uint64_t kernel_acked = acknowledged_bytes(lane.fd());
  if (std::exchange(vigil.kernel_acked, kernel_acked) != kernel_acked) vigil.quiet_since = now;
  if (std::exchange(vigil.heard, lane.heard()) != lane.heard()) {
    vigil.quiet_since = now;
    vigil.asked = false;
    dialer_of(lane).stop();  // it has recovered by itself
  }
  // Once in a silence: the kernel's acknowledgement of the question itself must not pass for a sign of life.
  if (!std::exchange(vigil.asked, true)) {
    lane.ask();
    endpoint_.mark_dirty(*this);
  }
  if (dialer_of(lane).busy() || now - vigil.quiet_since < answer_limit(lane)) return;
  log::info("tcp: nothing was heard over connection {} of {} to {} for {:.1f} s; replacing it", lane.index() + 1,
            dialers_.size(), who(), seconds_between(vigil.quiet_since, now));
  ++vigil.unanswered;
  dialer_of(lane).start();
}

std::optional<TimePoint> TcpChannel::on_timer(TimePoint now) {
  if (over()) return std::nullopt;
  if (peer_leaving_ && now >= leaving_deadline_) {
    close_lanes();
    finish_if_left();
    return std::nullopt;
  }
  TimePoint next = peer_leaving_ ? leaving_deadline_ : TimePoint::max();
  for (std::size_t i = 0; i < lanes_.size(); ++i) {
    Lane& lane = *lanes_[i];
    if (give_up(lane, now)) return std::nullopt;
    if (lane.state() == Lane::State::kNew) next = std::min(next, deadline_);
    if (lane.state() == Lane::State::kDown) next = std::min(next, lane.lost_at + patience_);
  }
  if (vigil_on_ && now >= vigil_at_) {
    vigil_on_ = false;
    for (std::size_t i = 0; i < lanes_.size() && !over(); ++i) {
      Lane& lane = *lanes_[i];
      if (!lane.dialed() || !lane.up()) continue;
      vigil_on_ = vigil_on_ || outstanding(lane);
      watch_over(lane, now);
    }
    vigil_at_ = now + silence_limit() / 4;
  }
  if (repeat_at_ != TimePoint::max()) {
    if (now >= repeat_at_) endpoint_.mark_dirty(*this);
    if (now < repeat_at_) next = std::min(next, repeat_at_);
  }
  if (warm_again_at_ != TimePoint::max()) {
    if (now >= std::exchange(warm_again_at_, now >= warm_again_at_ ? TimePoint::max() : warm_again_at_)) {
      endpoint_.mark_dirty(*this);
    }
    next = std::min(next, warm_again_at_);
  }
  for (const auto& dialer : dialers_) {
    if (over()) return std::nullopt;
    next = std::min(next, dialer->on_timer(now));
  }
  if (vigil_on_) next = std::min(next, vigil_at_);
  if (!over()) next = std::min(next, offer_lanes(now));
  return over() || next == TimePoint::max() ? std::nullopt : std::optional(next);
}

}  // namespace longspan::tcp
