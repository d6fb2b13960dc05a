#include "runtime/flow_meter.hpp"

#include <algorithm>

namespace longspan::runtime {
namespace {

using namespace std::chrono_literals;

constexpr Duration kRemembered = 10s;     // of paces
constexpr std::size_t kMostQuestions = 400;
constexpr Duration kPeriod = 20s;         // clocks of two hosts drift by about 1 ms in that time
/// What the far end's process adds by waking up late is no queue: the kernel's round trip does not contain it.
constexpr double kLate = 0.001;

double seconds(Duration duration) { return std::chrono::duration<double>(duration).count(); }
double seconds(std::chrono::nanoseconds duration, int /*ns*/) {
  return std::chrono::duration<double>(duration).count();
}

}  // namespace

void FlowMeter::paced(double bytes_per_second, double stated, TimePoint now) {
  Mark mark = until(now);
  mark.at = now;
  marks_.push_back(mark);
  while (marks_.size() > 2 && now - marks_[1].at > kRemembered) marks_.pop_front();
  rate_ = bytes_per_second;
  stated_rate_ = stated;
}

FlowMeter::Mark FlowMeter::until(TimePoint when) const {
  if (marks_.empty()) return {};
  if (when <= marks_.front().at) return marks_.front();
  const auto after = std::find_if(marks_.begin(), marks_.end(), [when](const Mark& mark) { return mark.at > when; });
  const Mark& before = *std::prev(after);
  const double passed = seconds(when - before.at);
  if (after == marks_.end()) return {when, before.allowed + rate_ * passed, before.stated + stated_rate_ * passed};
  const double part = passed / seconds(after->at - before.at);
  return {when, before.allowed + (after->allowed - before.allowed) * part,
          before.stated + (after->stated - before.stated) * part};
}

void FlowMeter::asks(const spi::ChannelStats& stats, TimePoint now) {
  questions_.push_back(
      {now, stats.unsent_bytes > 0, static_cast<double>(stats.packets_sent), static_cast<double>(stats.retransmits)});
  if (questions_.size() > kMostQuestions) questions_.pop_front();
}

/// Seconds that a question waited in queues on its way.
double FlowMeter::waited(const FarCount& count, const spi::ChannelStats& stats, TimePoint now) {
  const Duration took = count.seen - count.asked;  // and how much the clocks differ
  if (now >= period_ends_) {
    period_ends_ = now + kPeriod;
    least_before_ = least_;
    least_ = Duration::max();
  }
  least_ = std::min(least_, took);
  const double beyond = seconds(took - std::min(least_, least_before_));
  return std::clamp(beyond, 0.0, std::max(0.0, seconds(stats.rtt - stats.min_rtt, 0)) + kLate);
}

std::optional<LinkPoint> FlowMeter::told(const FarCount& count, const spi::ChannelStats& stats, TimePoint now) {
  while (!questions_.empty() && questions_.front().at < count.asked) questions_.pop_front();
  if (questions_.empty() || questions_.front().at != count.asked) return std::nullopt;
  const Question question = questions_.front();
  questions_.pop_front();
  LinkPoint point;
  point.queue = waited(count, stats, now);
  point.at = std::max(last_at_,
                      count.asked + std::chrono::duration_cast<Duration>(std::chrono::duration<double>(point.queue)));
  point.rtt = std::chrono::duration<double>(stats.min_rtt).count();
  const Mark mark = until(count.asked);
  // A connection that was replaced counts from the beginning.
  const bool follows = last_ && count.packets >= last_count_.packets && count.bytes >= last_count_.bytes;
  if (follows && count.packets > 0) {
    LinkCounts passed;
    // Packets, since bytes behind one that was lost count only when that one has come again.
    passed.delivered = (count.packets - last_count_.packets) * count.bytes / count.packets;
    passed.allowed = mark.allowed - last_mark_.allowed;
    if (last_->waits && question.waits) {
      passed.waited_delivered = passed.delivered;
      passed.waited_allowed = passed.allowed;
      passed.waited_stated = mark.stated - last_mark_.stated;
    }
    passed.packets = std::max(0.0, question.packets - last_->packets);
    passed.retransmits = std::max(0.0, question.retransmits - last_->retransmits);
    counts_ += passed;
  }
  last_ = question;
  last_mark_ = mark;
  last_count_ = count;
  last_at_ = point.at;
  point.counts = counts_;
  return point;
}

}  // namespace longspan::runtime
