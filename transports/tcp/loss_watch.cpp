#include "tcp/loss_watch.hpp"

#include <algorithm>

namespace longspan::tcp {
namespace {

constexpr std::uint64_t kFewPackets = 100;  // say nothing
constexpr std::uint64_t kFewLosses = 8;
constexpr std::size_t kFewIntervals = 4;    // with losses

}  // namespace

void LossWatch::take(const Sample& sample) noexcept {
  if (sample.packets < kFewPackets) return;
  if (sample.queue_delay > std::max<Duration>(sample.min_rtt / 8, std::chrono::milliseconds(2))) return;
  intervals_[next_++ % intervals_.size()] = {sample.packets, sample.lost};
}

double LossWatch::loss() const noexcept {
  Interval sum;
  std::size_t with_losses = 0;
  for (const Interval& each : intervals_) {
    sum.packets += each.packets;
    sum.lost += each.lost;
    if (each.lost > 0) ++with_losses;
  }
  if (sum.lost < kFewLosses || with_losses < kFewIntervals) return 0;
  return std::min(1.0, static_cast<double>(sum.lost) / static_cast<double>(sum.packets));
}

}  // namespace longspan::tcp
