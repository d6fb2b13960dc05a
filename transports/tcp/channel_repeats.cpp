// What a channel does about lossy paths: lanes that repeat the end of what was sent, and BBR kept from its pauses.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "tcp/channel.hpp"
#include "tcp/endpoint.hpp"

namespace longspan::tcp {
namespace {

using std::chrono::milliseconds;

/// Less loss than this is not worth more connections.
constexpr double kLossy = 1e-5;
/// Repeats are lost as originals are, and hold up those behind them on their lane: several lanes.
constexpr int kRepairLanes = 4;
/// Under BBR one connection fills a lossy link; several keep a loss from holding up what others carry.
constexpr int kLossyLanes = 4;
/// Loss-based congestion control gets about MSS / (RTT x sqrt(2 p / 3)) per connection (Mathis et al., 1997).
constexpr double kSegmentBytes = 1448;
constexpr int kMostLossyLanes = 32;
/// BBR sends next to nothing for 200 ms when it has seen no lower RTT for 10 s: before that its model is made anew.
constexpr milliseconds kModelAge{8000};
constexpr milliseconds kModelRetry{20};
/// What comes so soon after the last message belongs to it.
constexpr Duration kSettling = std::chrono::microseconds(500);

}  // namespace

/// What the path's properties ask for, before the first connection.
void TcpChannel::plan_path() {
  if (options_.tier != Tier::kWan || options_.loss < kLossy) return;
  repair_lanes_ = kRepairLanes;
  const std::string& asked = endpoint_.options().congestion_control;
  if (asked.empty() ? can_use_congestion_control("bbr") : asked.starts_with("bbr")) {
    options_.lanes = kLossyLanes;
    return;
  }
  const double rtt = std::chrono::duration<double>(options_.rtt).count();
  const double each = kSegmentBytes / (std::max(rtt, 1e-4) * std::sqrt(2 * options_.loss / 3));
  const double wanted = std::ceil(2 * options_.rate_bytes_per_second / each);  // half of what the formula allows
  options_.lanes = static_cast<int>(std::clamp<double>(wanted, kLossyLanes, kMostLossyLanes));
}

// ---- repeats ----
//
// A packet that is lost near the end of what is to be sent costs a round trip and more, during which nothing else is sent.
// So what was written last goes again over lanes of its own, the latest first, as soon as there is nothing else to send.
// What was written half a round trip before the end need not go again: by then the kernel knows what is missing.

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
  return kSettling + std::chrono::duration_cast<Duration>(std::chrono::duration<double>(static_cast<double>(largest) / rate));
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
  if (wire::decode(latest->header, frame) != wire::WireError::kNone || frame.type != wire::FrameType::kData) return false;
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

/// BBR looks for a lower RTT every 10 s by sending nearly nothing for 200 ms and a round trip. Our rates are leased, so no
/// queue of ours hides the RTT, and the kernel remembers the least one of 5 minutes: BBR is told to start over from that,
/// at the congestion window that it has.
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
