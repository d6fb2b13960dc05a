// What a channel does about lossy paths: more lanes, some that repeat the end of what was sent, and BBR kept from its
// pauses.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "base/log.hpp"
#include "tcp/channel.hpp"
#include "tcp/endpoint.hpp"
#include "tcp/path_choice.hpp"

namespace longspan::tcp {
namespace {

using std::chrono::milliseconds;

/// BBR sends next to nothing for 200 ms when it has seen no lower RTT for 10 s: before that its model is made anew.
constexpr milliseconds kModelAge{8000};
constexpr milliseconds kModelRetry{20};
/// What comes so soon after the last message belongs to it.
constexpr Duration kSettling = std::chrono::microseconds(500);

}  // namespace

/// What the path's properties ask for, before the first connection.
void TcpChannel::plan_path() {
  congestion_control_ = endpoint_.options().congestion_control;
  if (options_.tier != Tier::kWan) return;
  const PathMeans means = path_means(endpoint_.options());
  if (means.forced.empty() ? !means.has_bbr : !means.has_forced) {
    endpoint_.warn_congestion_control(means.forced.empty() ? "bbr" : means.forced, !means.forced.empty());
  }
  const spi::PathChoice choice = choose_path(options_, means);
  congestion_control_ = choice.congestion_control == means.system ? std::string() : choice.congestion_control;
  options_.lanes = choice.lanes;
  repair_lanes_ = choice.repair_lanes;
}

// ---- loss that nobody stated ----

/// Looks at what the connections lost, now and then; where that is random loss that was not stated, the channel becomes
/// what it would have been if it had been.
void TcpChannel::watch_loss() {
  if (options_.tier != Tier::kWan || over() || warms()) return;
  const TimePoint now = Clock::now();
  if (now < loss_due_) return;
  loss_due_ = now + LossWatch::kInterval;
  LossWatch::Sample sample;
  Duration least_rtt = Duration::max();
  sample.min_rtt = Duration::max();
  lane_counts_.resize(dialers_.size());
  for (const auto& lane : lanes_) {
    if (!lane->dialed() || !lane->up()) continue;
    const LaneInfo info = endpoint_.sample(lane->fd());
    const LossCounts counts{info.packets_sent,
                            info.retransmits - std::min(info.retransmits, info.spurious_retransmits)};
    LossCounts& before = lane_counts_[lane->index()];
    if (counts.packets < before.packets || counts.lost < before.lost) before = {};  // another connection
    sample.packets += counts.packets - before.packets;
    sample.lost += counts.lost - before.lost;
    before = counts;
    if (info.rtt.count() > 0 && lane.get() != express_) least_rtt = std::min<Duration>(least_rtt, info.rtt);
    if (info.min_rtt.count() > 0) sample.min_rtt = std::min<Duration>(sample.min_rtt, info.min_rtt);
  }
  if (least_rtt == Duration::max() || sample.min_rtt == Duration::max()) return;
  sample.queue_delay = std::max<Duration>(Duration(0), least_rtt - sample.min_rtt);
  losses_.take(sample);
  if (repeats() || losses_.loss() < kLossy) return;
  const bool complete =
      std::all_of(lanes_.begin(), lanes_.end(), [](const auto& lane) { return !lane->dialed() || lane->up(); });
  if (complete && !peer_leaving_ && !endpoint_.closing()) become_lossy();
}

void TcpChannel::become_lossy() {
  const double stated = options_.loss;
  options_.loss = losses_.loss();
  const spi::PathChoice choice = choose_path(options_, path_means(endpoint_.options()), LossSource::kObserved);
  log::info(
      "tcp: {} of the packets to {} are lost at random, where {} is stated; it gets {} connections for data and {} for "
      "repeats",
      fmt::format("{:.1e}", options_.loss), who(), stated, std::max(choice.lanes, options_.lanes), choice.repair_lanes);
  deadline_ = Clock::now() + patience_;
  dialing_since_ = Clock::now();
  first_late_ = dialers_.size();
  repair_lanes_ = choice.repair_lanes;
  first_repair_ = static_cast<int>(first_late_);
  add_lanes(repair_lanes_ + std::max(0, choice.lanes - options_.lanes));
  endpoint_.request_timer(deadline_);
  for (std::size_t i = first_late_; i < dialers_.size(); ++i) dialers_[i]->start();
}

// ---- repeats ----
//
// A packet that is lost near the end of what is to be sent costs a round trip and more, during which nothing else is
// sent. So what was written last goes again over lanes of its own, the latest first, as soon as there is nothing else
// to send. What was written half a round trip before the end need not go again: by then the kernel knows what is
// missing.

/// Called when lanes have taken what they can.
void TcpChannel::plan_repeats() {
  if (!repeats()) return;
  if (outbox_.may_have_work()) {
    repeat_at_ = TimePoint::max();
  } else if (repeat_at_ == TimePoint::max()) {
    repeat_at_ = Clock::now() + time_to_send_rest();
    endpoint_.request_timer(repeat_at_);
  }
}

/// What lanes and their sockets hold unsent goes before its repeats, or both together would exceed the rate.
Duration TcpChannel::time_to_send_rest() const {
  std::uint64_t largest = 0;
  for (const auto& lane : lanes_) {
    if (!lane->dialed() || !lane->up() || is_repair(*lane) || lane.get() == express_) continue;
    largest = std::max(largest, lane->log().unwritten_bytes() + lane_info(lane->fd()).unsent_bytes);
  }
  const double rate = options_.rate_bytes_per_second > 0 ? options_.rate_bytes_per_second / options_.lanes : 1e9;
  return kSettling +
         std::chrono::duration_cast<Duration>(std::chrono::duration<double>(static_cast<double>(largest) / rate));
}

bool TcpChannel::next_repeat(Lane& lane, wire::Frame& frame, OutFrame& out) {
  if (repeat_at_ == TimePoint::max() || lane.log().unwritten() > 0) return false;
  const TimePoint now = Clock::now();
  if (now < repeat_at_ || outbox_.may_have_work()) return false;
  Lane* from = nullptr;
  OutFrame* latest = nullptr;
  std::uint64_t number = 0;
  for (const auto& other : lanes_) {
    if (!other->dialed() || !other->up() || is_repair(*other)) continue;
    std::uint64_t its_number = 0;
    OutFrame* const frame_of_it = other->latest_unrepeated(now - options_.rtt, its_number);
    if (frame_of_it == nullptr || (latest != nullptr && frame_of_it->written_at <= latest->written_at)) continue;
    from = other.get();
    latest = frame_of_it;
    number = its_number;
  }
  if (latest == nullptr) return false;
  latest->repeated = true;
  if (wire::decode(latest->header, frame) != wire::WireError::kNone || frame.type != wire::FrameType::kData) {
    return false;
  }
  frame.type = wire::FrameType::kRepeat;
  frame.flags = static_cast<std::uint8_t>(frame.flags & ~wire::kAckWanted);
  frame.number = wire::name_of_repeated(from->index(), number);
  // A copy: the original may be acknowledged, and its memory given back, while this is still being written.
  out.payload_bytes = latest->payload_bytes;
  out.owned = endpoint_.shared().buffers.take(out.payload_bytes);
  std::memcpy(out.owned.get(), latest->payload, out.payload_bytes);
  out.payload = out.owned.get();
  copied_bytes_ += out.payload_bytes;
  return true;
}

void TcpChannel::drop_repeats(std::uint16_t lane, std::uint64_t number) noexcept {
  for (const auto& other : lanes_) {
    if (!other->dialed()) other->drop_repeat(lane, number);
  }
}

// ---- BBR ----

/// BBR looks for a lower RTT every 10 s by sending nearly nothing for 200 ms and a round trip. Our rates are leased, so
/// no queue of ours hides the RTT, and the kernel remembers the least one of 5 minutes: BBR is told to start over from
/// that, at the congestion window that it has.
void TcpChannel::refresh_models() {
  if (options_.tier != Tier::kWan || options_.rate_bytes_per_second <= 0) return;
  const TimePoint now = Clock::now();
  if (now < models_due_) return;
  models_due_ = now + kModelAge;
  for (const auto& lane : lanes_) {
    if (!lane->dialed() || !lane->up()) continue;
    if (!restart_congestion_control(lane->fd())) models_due_ = std::min(models_due_, now + kModelRetry);
  }
}

}  // namespace longspan::tcp
