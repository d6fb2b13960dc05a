#include "runtime/link_drain.hpp"

#include <algorithm>
#include <cmath>

namespace longspan::runtime {
namespace {

using namespace std::chrono_literals;

constexpr double kSeconds = 0.3;      // in which a queue is to be gone
constexpr double kDeepest = 0.3;
constexpr double kRoom = 0.15;        // that is left at least, before a queue is taken for somebody else's
constexpr double kStays = 0.3;        // of what should be emptied is gone: the queue is not ours
constexpr Duration kSeen = 150ms;     // of a drain tell whose queue it is
constexpr int kWindowsToLearn = 10;

}  // namespace

void LinkDrain::begin(double carried, double room, double least, double queue) {
  carried_ = carried;
  windows_ = 1;
  began_ = TimePoint{};
  part_ = std::clamp(queue / kSeconds, room, kDeepest);
  least_ = least;
}

Duration LinkDrain::expected(double queue) const { return to_duration(queue + 1.3 * queue / part_); }

double LinkDrain::share() const { return std::max(least_, kBelowCarried * carried_ * (1 - part_)); }

double LinkDrain::learn(const LinkReading& reading, double share) {
  if (!reading.full || !reading.waits || windows_ >= kWindowsToLearn) return share;
  carried_ += (reading.carried - carried_) / ++windows_;
  const double better = kBelowCarried * carried_ * (1 - part_);
  return std::abs(better - share) > 0.03 * share ? std::clamp(better, least_, 1.0) : share;
}

LinkDrain::Verdict LinkDrain::judge(const LinkReading& reading, const LinkWindows& windows, TimePoint now) {
  if (reading.empty && (reading.fresh || windows.least_queue() <= 0)) return Verdict::kGone;
  if (!reading.fresh || !reading.used) {
    began_ = TimePoint{};
    return Verdict::kGoesOn;
  }
  if (began_ == TimePoint{}) {
    began_ = now;
    queue_then_ = windows.queue();
  }
  const double passed = std::chrono::duration<double>(now - began_).count();
  const bool stays = now - began_ >= kSeen && reading.full && queue_then_ - windows.queue() < kStays * part_ * passed;
  if (!stays) return Verdict::kGoesOn;
  return part_ < kRoom ? Verdict::kTooShallow : Verdict::kNotOurs;
}

}  // namespace longspan::runtime
