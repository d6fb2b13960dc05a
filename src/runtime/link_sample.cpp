#include "runtime/link_sample.hpp"

#include <algorithm>

namespace longspan::runtime {
namespace {

using namespace std::chrono_literals;

/// Longer than any round trip with a full queue.
constexpr Duration kRemembered = 3s;
/// More than schedulers and interrupts delay an acknowledgement.
constexpr Duration kQueue = 3ms;
/// While a message begins its connections may still grow.
constexpr Duration kBegins = 50ms;

double seconds(Duration duration) { return std::chrono::duration<double>(duration).count(); }

}  // namespace

void LinkSample::beside(const LinkSample& other) {
  seconds = std::max(seconds, other.seconds);
  delivered += other.delivered;
  allowed += other.allowed;
  queued_delivered += other.queued_delivered;
  queued_allowed += other.queued_allowed;
  queued_stated += other.queued_stated;
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
  queued_stated += next.queued_stated;
  packets += next.packets;
  retransmits += next.retransmits;
  if (next.rtt > 0) rtt = next.rtt;
  if (next.min_rtt > 0) min_rtt = next.min_rtt;
}

void FlowMeter::paced(double bytes_per_second, double stated, TimePoint now) {
  Mark mark = until(now);
  mark.at = now;
  marks_.push_back(mark);
  while (marks_.size() > 2 && now - marks_[1].at > kRemembered) marks_.pop_front();
  rate_ = bytes_per_second;
  stated_rate_ = stated;
}

FlowMeter::Mark FlowMeter::until(TimePoint when) const {
  if (marks_.empty() || when <= marks_.front().at) return {};
  const auto after = std::find_if(marks_.begin(), marks_.end(), [when](const Mark& mark) { return mark.at > when; });
  const Mark& before = *std::prev(after);
  const double passed = seconds(when - before.at);
  if (after == marks_.end()) return {when, before.allowed + rate_ * passed, before.stated + stated_rate_ * passed};
  const double part = passed / seconds(after->at - before.at);
  return {when, before.allowed + (after->allowed - before.allowed) * part, before.stated + (after->stated - before.stated) * part};
}

LinkSample FlowMeter::look(const spi::ChannelStats& stats, TimePoint now) {
  const bool waits = stats.unsent_bytes > 0;
  const bool same_connections = stats.delivered_bytes >= last_.delivered_bytes && stats.reconnects == last_.reconnects;
  const Duration rtt = std::chrono::duration_cast<Duration>(stats.least_rtt);
  const bool follows = same_connections && last_at_ != TimePoint::max();
  arrived_ = follows ? static_cast<double>(stats.delivered_bytes - last_.delivered_bytes) : 0;
  LinkSample seen;
  if (!waits || !same_connections || marks_.empty()) {
    waiting_since_ = TimePoint::max();
  } else if (waiting_since_ == TimePoint::max()) {
    waiting_since_ = now;
  } else if (waiting_since_ + rtt + kBegins <= last_at_ && last_at_ - rtt > marks_.front().at) {
    seen.seconds = seconds(now - last_at_);
    seen.delivered = arrived_;
    const Mark begin = until(last_at_ - rtt);
    const Mark end = until(now - rtt);
    seen.allowed = end.allowed - begin.allowed;
    seen.packets = static_cast<double>(stats.packets_sent - std::min(stats.packets_sent, last_.packets_sent));
    seen.retransmits = static_cast<double>(stats.retransmits - std::min(stats.retransmits, last_.retransmits));
    const auto wait = [&stats](const spi::ChannelStats& at) { return at.least_rtt - stats.min_rtt; };
    if (std::min(wait(stats), wait(last_)) > kQueue) {
      seen.queued_delivered = seen.delivered;
      seen.queued_allowed = seen.allowed;
      seen.queued_stated = end.stated - begin.stated;
    }
    seen.rtt = seconds(rtt);
    seen.min_rtt = std::chrono::duration<double>(stats.min_rtt).count();
  }
  last_ = stats;
  last_at_ = now;
  return seen;
}

}  // namespace longspan::runtime
