#include "runtime/link_sample.hpp"

#include <algorithm>

namespace longspan::runtime {
namespace {

using namespace std::chrono_literals;

/// Longer than any round trip with a full queue.
constexpr Duration kRemembered = 3s;
/// More than schedulers and interrupts delay an acknowledgement.
constexpr Duration kQueue = 3ms;

double seconds(Duration duration) { return std::chrono::duration<double>(duration).count(); }

}  // namespace

void LinkSample::beside(const LinkSample& other) {
  seconds = std::max(seconds, other.seconds);
  delivered += other.delivered;
  allowed += other.allowed;
  queued_delivered += other.queued_delivered;
  queued_allowed += other.queued_allowed;
  packets += other.packets;
  retransmits += other.retransmits;
  // A queue that all share delays each of them: the one that waits least shows it best.
  const auto least = [](double a, double b) { return a <= 0 || (b > 0 && b < a) ? b : a; };
  rtt = least(rtt, other.rtt);
  min_rtt = least(min_rtt, other.min_rtt);
}

void LinkSample::then(const LinkSample& next) {
  seconds += next.seconds;
  delivered += next.delivered;
  allowed += next.allowed;
  queued_delivered += next.queued_delivered;
  queued_allowed += next.queued_allowed;
  packets += next.packets;
  retransmits += next.retransmits;
  if (next.rtt > 0) rtt = next.rtt;
  if (next.min_rtt > 0) min_rtt = next.min_rtt;
}

void FlowMeter::paced(double bytes_per_second, TimePoint now) {
  const double sum = allowed_.empty() ? 0 : allowed_.back().second + rate_ * seconds(now - allowed_.back().first);
  allowed_.emplace_back(now, sum);
  while (allowed_.size() > 2 && now - allowed_[1].first > kRemembered) allowed_.pop_front();
  rate_ = bytes_per_second;
}

double FlowMeter::allowed_until(TimePoint when) const {
  if (allowed_.empty() || when <= allowed_.front().first) return 0;
  const auto after = std::find_if(allowed_.begin(), allowed_.end(), [when](const auto& mark) { return mark.first > when; });
  const auto& [at, sum] = *std::prev(after);
  if (after == allowed_.end()) return sum + rate_ * seconds(when - at);
  return sum + (after->second - sum) * (seconds(when - at) / seconds(after->first - at));
}

LinkSample FlowMeter::look(const spi::ChannelStats& stats, TimePoint now) {
  const bool waits = stats.unsent_bytes > 0;
  const bool same_connections = stats.delivered_bytes >= last_.delivered_bytes && stats.reconnects == last_.reconnects;
  const Duration rtt = std::chrono::duration_cast<Duration>(stats.least_rtt);
  const bool follows = same_connections && last_at_ != TimePoint::max();
  arrived_ = follows ? static_cast<double>(stats.delivered_bytes - last_.delivered_bytes) : 0;
  LinkSample seen;
  if (!waits || !same_connections || allowed_.empty()) {
    waiting_since_ = TimePoint::max();
  } else if (waiting_since_ == TimePoint::max()) {
    waiting_since_ = now;
  } else if (waiting_since_ + rtt <= last_at_ && last_at_ - rtt > allowed_.front().first) {
    seen.seconds = seconds(now - last_at_);
    seen.delivered = arrived_;
    seen.allowed = allowed_until(now - rtt) - allowed_until(last_at_ - rtt);
    seen.packets = static_cast<double>(stats.packets_sent - std::min(stats.packets_sent, last_.packets_sent));
    seen.retransmits = static_cast<double>(stats.retransmits - std::min(stats.retransmits, last_.retransmits));
    const auto wait = [&stats](const spi::ChannelStats& at) { return at.least_rtt - stats.min_rtt; };
    if (std::min(wait(stats), wait(last_)) > kQueue) {
      seen.queued_delivered = seen.delivered;
      seen.queued_allowed = seen.allowed;
    }
    seen.rtt = seconds(rtt);
    seen.min_rtt = std::chrono::duration<double>(stats.min_rtt).count();
  }
  last_ = stats;
  last_at_ = now;
  return seen;
}

}  // namespace longspan::runtime
