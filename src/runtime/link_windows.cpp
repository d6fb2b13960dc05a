#include "runtime/link_windows.hpp"

#include <algorithm>

namespace longspan::runtime {
namespace {

constexpr double kSlow = 0.97;      // of what is sent arrives: less, and a queue, three times: the link carries less
constexpr double kVerySlow = 0.9;   // believed at once
constexpr int kLong = 12;           // windows with a queue that does not shrink by itself

}  // namespace

Duration LinkWindows::round_trips(double count) const { return to_duration(count * std::max(rtt_, 1e-3)); }

/// Half of the buffer, but more than schedulers add and less than anybody wants to wait: a far end whose cores are all
/// busy answers 20 to 30 ms late, which is no queue of the link.
double LinkWindows::high_queue() const {
  return std::clamp((buffer_seconds_ > 0 ? buffer_seconds_ : rtt_) / 2, 0.004, 0.040);
}

void LinkWindows::begin_anew(TimePoint now) noexcept {
  changed_ = now;
  slow_ = full_ = 0;
}

LinkReading LinkWindows::read(const LinkSample& sample, double share) {
  rtt_ = sample.rtt;
  base_ = std::min(base_, sample.least_queue);
  least_queue_ = sample.least_queue - base_;
  queue_ = std::max(0.0, sample.queue - base_);
  const LinkCounts& counts = sample.counts;
  LinkReading reading;
  reading.waits = counts.allowed > 0 && counts.waited_allowed > 0.3 * counts.allowed;
  reading.carried = counts.delivered / sample.stated;
  reading.arrives = 1;
  if (reading.waits) reading.arrives = counts.waited_delivered / counts.waited_allowed;
  reading.full = least_queue_ > high_queue();
  reading.empty = queue_ < high_queue() / 2;
  reading.fresh = sample.sent_from >= changed_;
  reading.used = reading.waits && reading.carried >= 0.85 * share;
  return reading;
}

bool LinkWindows::congested(const LinkReading& reading, double share) {
  if (!reading.fresh) return false;
  full_ = reading.full ? full_ + 1 : 0;
  const bool slow = reading.full && reading.waits && std::min(reading.arrives, reading.carried / share) < kSlow;
  slow_ = slow ? slow_ + 1 : 0;
  return slow_ >= 3 || (slow_ >= 1 && reading.arrives < kVerySlow) || (reading.waits && full_ >= kLong);
}

}  // namespace longspan::runtime
