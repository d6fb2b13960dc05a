// Connections are made warm before they are needed: discardable frames until the congestion window is large enough.
#include <algorithm>
#include <array>

#include "base/log.hpp"
#include "tcp/channel.hpp"
#include "tcp/endpoint.hpp"

namespace longspan::tcp {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kWarmingTime{3000};
/// When to see again whether it is our turn.
constexpr milliseconds kNextTry{20};

std::array<std::byte, std::size_t{64} << 10> padding{};

}  // namespace

void TcpChannel::start_warming(Lane& lane) {
  if (options_.tier != Tier::kWan || options_.window_bytes == 0 || &lane == express_) return;
  lane.warming = true;
  lane.warmed_bytes = 0;
  warm_until_ = TimePoint::max();
}

bool TcpChannel::warms() const noexcept {
  return !over() &&
         std::any_of(lanes_.begin(), lanes_.end(), [](const auto& lane) { return lane->up() && lane->warming; });
}

/// Connections for data are being made, or warmed.
bool TcpChannel::gets_warm() const noexcept {
  return started_ && !over() && options_.tier == Tier::kWan &&
         std::any_of(lanes_.begin(), lanes_.end(), [this](const auto& lane) {
           return lane->dialed() && lane->index() < options_.lanes &&
                  (lane->state() == Lane::State::kNew || lane->warming);
         });
}

/// Padding of all channels, and of this one's lanes for data and for repeats, together stays within the rate of one.
bool TcpChannel::may_pad(const Lane& lane) {
  const bool after_data_lanes =
      is_repair(lane) && (sends_bulk() || std::any_of(lanes_.begin(), lanes_.end(), [this](const auto& each) {
                            return each->warming && !is_repair(*each);
                          }));
  if (!after_data_lanes && endpoint_.may_warm(*this)) return true;
  warm_again_at_ = Clock::now() + kNextTry;
  endpoint_.request_timer(warm_again_at_);
  return false;
}

/// A discardable frame, when nothing else is to be sent and the congestion window is still small: slow start over a
/// long link costs the first messages several round trips (1 MiB at 40 ms: 64 % of the link cold, 90 % warm).
bool TcpChannel::next_pad(Lane& lane, wire::Frame& frame, OutFrame& out) {
  if (!lane.warming || lane.log().unwritten() > 0 || !may_pad(lane)) return false;
  const TimePoint now = Clock::now();
  warm_until_ = std::min(warm_until_, now + kWarmingTime);
  const double rate = lane_rate(lane);
  const LaneInfo info = lane_info(lane.fd());
  const double rtt = std::chrono::duration<double>(options_.rtt.count() > 0 ? options_.rtt : info.rtt).count();
  const double window = static_cast<double>(options_.window_bytes) / options_.lanes;
  const double target = rate > 0 ? 2 * rate * rtt : 2 * window;
  if (static_cast<double>(info.congestion_window_bytes) >= target ||
      static_cast<double>(lane.warmed_bytes) >= 2 * std::max(window, target) || now >= warm_until_) {
    log::debug("tcp: connection {} to {} is warm: a window of {} of {:.0f} bytes, after {} of padding",
               lane.index() + 1, who(), info.congestion_window_bytes, target, lane.warmed_bytes);
    lane.warming = false;
    tune(lane);
    return false;
  }
  // Half a millisecond of the lane's rate: real data, which goes first, never waits longer than that twice.
  const std::size_t bytes = rate > 0
                                ? std::clamp<std::size_t>(static_cast<std::size_t>(rate * 0.5e-3), 4096, padding.size())
                                : padding.size();
  if (lane.warmed_bytes == 0) set_unsent_limit(lane.fd(), bytes);
  lane.warmed_bytes += bytes;
  frame.type = wire::FrameType::kPad;
  frame.payload_bytes = static_cast<std::uint32_t>(bytes);
  out.payload = padding.data();
  out.payload_bytes = bytes;
  return true;
}

}  // namespace longspan::tcp
