#include "runtime/link_rival.hpp"

#include <algorithm>

namespace longspan::runtime {
namespace {

using namespace std::chrono_literals;

constexpr double kGradual = 0.85;        // of what is sent arrives, and yet less and less
constexpr double kSudden = 0.8;          // of what was sent arrives
constexpr Duration kSuddenFor = 1500ms;  // after which it is known well what that is
constexpr double kLeastDrained = 0.8;    // of the half that is ours
constexpr double kLoses = 0.7;           // of what is sent arrives, though that is no more than half of what there was
constexpr int kLosing = 20;              // windows
constexpr int kAlone = 20;               // windows without a queue, after which what we send is what we have
constexpr int kGone = 4;                 // windows without a queue, after which a competitor has gone
constexpr double kSteady = 0.15;         // of a queue changes: no competitor's
constexpr double kSteadySeconds = 0.003;
constexpr Duration kLongerRoute = 3s;    // after which a queue that stays as it is is the link's own
constexpr Duration kForgotten = 5s;

}  // namespace

void LinkRival::note(const LinkReading& reading, double share) {
  if (!reading.empty) alone_ = 0;
  else if (reading.used && ++alone_ >= kAlone) clear_share_ = share;
}

bool LinkRival::takes_little_by_little(const LinkReading& reading, double before, double carried, TimePoint now) {
  if (carried < kSudden * before) sudden_until_ = now + kSuddenFor;
  return reading.arrives > kGradual && before >= half() && now >= sudden_until_;
}

double LinkRival::least_drained() const noexcept { return kLeastDrained * half(); }

void LinkRival::begin(double queue, TimePoint now) {
  losing_ = alone_ = 0;
  least_ = most_ = queue;
  look_at_ = now + kLongerRoute;
  known_until_ = now + kForgotten;
}

LinkRival::Verdict LinkRival::judge(const LinkReading& reading, const LinkWindows& windows, TimePoint now) {
  known_until_ = now + kForgotten;
  // Between two operations the queue is short, too.
  if (alone_ >= kGone) return Verdict::kGone;
  if (!reading.fresh || !reading.used) return Verdict::kGoesOn;
  least_ = std::min(least_, windows.least_queue());
  most_ = std::max(most_, windows.queue());
  losing_ = reading.full && reading.arrives < kLoses ? losing_ + 1 : 0;
  // With half of what we had we do not give way; but this is more than the link has left.
  if (losing_ >= kLosing) {
    clear_share_ = 2 * reading.carried;
    return Verdict::kTooMuch;
  }
  if (now < look_at_) return Verdict::kGoesOn;
  const bool steady = most_ - least_ < std::max(kSteadySeconds, kSteady * most_);
  least_ = most_ = windows.queue();
  look_at_ = now + kLongerRoute;
  if (!steady) return Verdict::kGoesOn;
  known_until_ = now;
  return Verdict::kRoute;
}

}  // namespace longspan::runtime
