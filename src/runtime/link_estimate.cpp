#include "runtime/link_estimate.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

namespace longspan::runtime {
namespace {

using namespace std::chrono_literals;

constexpr double kSlow = 0.97;            // of what is sent arrives: less, and a queue, twice: the link carries less
constexpr double kVerySlow = 0.9;         // believed at once
constexpr int kLong = 12;                 // windows with a queue that does not shrink by itself
constexpr double kLossy = 0.02;           // as in BBRv2 (draft-cardwell-iccrg-bbr-congestion-control, BBRLossThresh)
constexpr double kPacketsToTell = 500;
constexpr double kLossHelped = 0.7;       // of what was lost before a cut
constexpr int kInVain = 3;                // cuts
constexpr Duration kLossShows = 1s;       // whether a cut helped
constexpr Duration kRandomLasts = 10s;    // after which loss at random is looked at again
constexpr double kMargin = 0.98;          // of what arrived, so that no queue builds up
constexpr double kLeast = 0.02;
constexpr double kDeepestCut = 0.35;      // at once; more follows
constexpr double kDrainSeconds = 0.3;     // in which a queue is to be gone
constexpr double kDeepestDrain = 0.3;
constexpr double kRoom = 0.15;            // that a drain leaves at least, before a queue is taken for somebody else's
constexpr double kUsed = 0.9;             // of what is sent must arrive before more is tried
constexpr double kFollows = 0.93;         // of a higher rate arrives: the link carries it
constexpr double kProbeQueue = 0.003;     // s that a probe adds to the queue: the link does not carry it
constexpr double kFirstStep = 1.08;
constexpr double kSecondStep = 1.25;
constexpr double kLargestStep = 1.5;
constexpr double kProbeRoundTrips = 12;   // BBR tries a higher rate in one of eight
constexpr double kGradual = 0.85;         // of what is sent arrives, and yet less and less
constexpr double kSudden = 0.8;           // of what was sent arrives
constexpr Duration kSuddenFor = 1500ms;   // after which it is known well what that is
constexpr double kLeastDrained = 0.8;     // of the half that is ours
constexpr double kLoses = 0.7;            // of what is sent arrives, though that is no more than half of what there was
constexpr double kStays = 0.3;            // of what a drain should have emptied is gone: the queue is not ours
constexpr int kAlone = 20;                // windows without a queue, after which what we send is what we have
constexpr int kGone = 4;                  // windows without a queue, after which a competitor has gone
constexpr double kSteady = 0.15;          // of a queue changes: no competitor's
constexpr int kLosing = 20;               // windows
constexpr Duration kPatience = 500ms;
constexpr Duration kMostPatience = 1s;
constexpr Duration kLongerRoute = 3s;     // after which a queue that stays as it is is the link's own
constexpr Duration kCompetitor = 5s;      // after which it is forgotten
constexpr Duration kDrainSeen = 150ms;    // of a drain tell whose queue it is

Duration to_duration(double seconds) {
  return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(seconds));
}

}  // namespace

Duration LinkEstimate::round_trips(double count) const { return to_duration(count * std::max(rtt_, 1e-3)); }

/// Half of the buffer, but more than schedulers add and less than anybody wants to wait: a far end whose cores are all
/// busy answers 20 to 30 ms late, which is no queue of the link.
double LinkEstimate::high_queue() const {
  return std::clamp((options_.buffer_seconds > 0 ? options_.buffer_seconds : rtt_) / 2, 0.004, 0.040);
}

void LinkEstimate::set(double share, TimePoint now) {
  share_ = std::clamp(share, kLeast, 1.0);
  changed_ = now;
  counted_ = {};
  slow_ = full_ = 0;
}

LinkEstimate::Seen LinkEstimate::see(const LinkSample& sample) {
  rtt_ = sample.rtt;
  base_ = std::min(base_, sample.least_queue);
  least_queue_ = sample.least_queue - base_;
  queue_ = std::max(0.0, sample.queue - base_);
  const LinkCounts& counts = sample.counts;
  Seen seen;
  seen.waits = counts.allowed > 0 && counts.waited_allowed > 0.3 * counts.allowed;
  seen.carried = counts.delivered / sample.stated;
  seen.arrives = 1;
  if (seen.waits) seen.arrives = counts.waited_delivered / counts.waited_allowed;
  seen.full = least_queue_ > high_queue();
  seen.empty = queue_ < high_queue() / 2;
  seen.fresh = sample.sent_from >= changed_;
  seen.used = seen.waits && seen.carried >= 0.85 * share_;
  if (!seen.empty) alone_ = 0;
  else if (seen.used && ++alone_ >= kAlone) clear_share_ = share_;
  return seen;
}

void LinkEstimate::observe(const LinkSample& sample, TimePoint now) {
  if (sample.seconds <= 0 || sample.stated <= 0 || sample.counts.allowed <= 0) return;
  const Seen seen = see(sample);
  if (seen.fresh && lossy(sample, now) && seen.arrives < kSlow) return lost(seen, now);
  switch (state_) {
    case State::kDrain: return drain(seen, now);
    case State::kContended: return contended(seen, now);
    case State::kProbe:
      if (seen.fresh) return probing(seen, now);
      return;
    case State::kClear:
    case State::kHold: break;
  }
  if (congested(seen)) return cut(seen, seen.carried, now);
  if (state_ == State::kClear || now < until_) return;
  if (seen.waits && seen.arrives >= kUsed && least_queue_ < high_queue() / 2) probe(now);
}

/// Whether a queue stands and we are the reason.
bool LinkEstimate::congested(const Seen& seen) {
  if (!seen.fresh) return false;
  full_ = seen.full ? full_ + 1 : 0;
  slow_ = seen.full && seen.waits && std::min(seen.arrives, seen.carried / share_) < kSlow ? slow_ + 1 : 0;
  return slow_ >= 3 || (slow_ >= 1 && seen.arrives < kVerySlow) || (seen.waits && full_ >= kLong);
}

/// Whether far more packets are lost than at random, over enough of them to tell.
bool LinkEstimate::lossy(const LinkSample& sample, TimePoint now) {
  counted_.counts += sample.counts;
  if (counted_.counts.packets < kPacketsToTell) return false;
  const LinkCounts all = std::exchange(counted_, {}).counts;
  loss_ = all.retransmits / all.packets;
  const double random = std::max(3 * options_.loss, now < random_until_ ? 2 * random_loss_ : 0);
  const double expected = std::max(kLossy, random) * all.packets;
  return all.retransmits > expected + 4 * std::sqrt(expected);
}

/// A buffer that overflows, or a link that loses at random: the former ends when we send no more than what arrived.
void LinkEstimate::lost(const Seen& seen, TimePoint now) {
  const bool again = now < lost_until_;
  const bool helped = !again || loss_ < kLossHelped * loss_before_;
  if (!again) before_loss_ = state_ == State::kProbe ? before_probe_ : share_;
  in_vain_ = helped ? 0 : in_vain_ + 1;
  loss_before_ = loss_;
  lost_until_ = now + kLossShows;
  if (in_vain_ >= kInVain) {
    random_loss_ = loss_;
    random_until_ = now + kRandomLasts;
    lost_until_ = now;
    set(before_loss_, now);
    return hold(kPatience, now);
  }
  // No queue says that the link was busy all the time, and how much we sent in it.
  cut(seen, std::max(seen.carried, seen.arrives * share_), now);
}

/// Down to what arrives, and below until the queue is gone.
void LinkEstimate::cut(const Seen& seen, double carried, TimePoint now, double room) {
  if (now < competes_until_ && state_ != State::kContended) return contend(now);
  const double before = state_ == State::kProbe ? before_probe_ : state_ == State::kDrain ? kMargin * carried_ : share_;
  carried_ = std::clamp(carried, kDeepestCut * share_, state_ == State::kProbe ? before_probe_ : share_);
  // A link that carries less says so at once. One that carries less whenever we send less is shared.
  const double half = clear_share_ / 2;
  if (carried_ < kSudden * before) sudden_until_ = now + kSuddenFor;
  const bool gradual = seen.arrives > kGradual && before >= half && now >= sudden_until_;
  if (gradual && kMargin * carried_ < half) return contend(now);
  carried_count_ = 1;
  drain_began_ = TimePoint{};
  drained_ = std::clamp(queue_ / kDrainSeconds, room, kDeepestDrain);
  state_ = State::kDrain;
  patience_ = kPatience;
  until_ = now + round_trips(2) + to_duration(queue_ + 1.3 * queue_ / drained_) + 200ms;
  least_drained_ = gradual ? kLeastDrained * half : kLeast;
  set(std::max(least_drained_, kMargin * carried_ * (1 - drained_)), now);
}

void LinkEstimate::drain(const Seen& seen, TimePoint now) {
  if (seen.full && seen.waits && carried_count_ < 10) {
    carried_ += (seen.carried - carried_) / ++carried_count_;
    const double better = kMargin * carried_ * (1 - drained_);
    // It is still what was sent before, or just now: when this changed says less than when the drain began.
    if (std::abs(better - share_) > 0.03 * share_) share_ = std::clamp(better, least_drained_, 1.0);
  }
  if (seen.empty && (seen.fresh || least_queue_ <= 0)) {
    set(kMargin * carried_, now);
    return hold(kPatience, now);
  }
  // We left it room, and it is still there?
  if (seen.fresh && seen.used) {
    if (drain_began_ == TimePoint{}) {
      drain_began_ = now;
      queue_then_ = queue_;
    }
    const double passed = std::chrono::duration<double>(now - drain_began_).count();
    if (now - drain_began_ >= kDrainSeen && seen.full && queue_then_ - queue_ < kStays * drained_ * passed) {
      // Only where we leave enough room it must shrink.
      if (drained_ < kRoom) return cut(seen, seen.carried, now, kRoom);
      return contend(now);
    }
  } else {
    drain_began_ = TimePoint{};
  }
  if (now >= until_) cut(seen, seen.full ? seen.carried : carried_, now);
}

/// Somebody else fills the buffer, and takes what we leave: half of what we had is ours.
void LinkEstimate::contend(TimePoint now) {
  state_ = State::kContended;
  losing_ = 0;
  alone_ = 0;
  contended_least_ = contended_most_ = queue_;
  until_ = now + kLongerRoute;
  competes_until_ = now + kCompetitor;
  set(clear_share_ / 2, now);
}

void LinkEstimate::contended(const Seen& seen, TimePoint now) {
  competes_until_ = now + kCompetitor;
  // Between two operations the queue is short, too.
  if (alone_ >= kGone) return hold(kPatience / 2, now);
  if (!seen.fresh || !seen.used) return;
  contended_least_ = std::min(contended_least_, least_queue_);
  contended_most_ = std::max(contended_most_, queue_);
  losing_ = seen.full && seen.arrives < kLoses ? losing_ + 1 : 0;
  // With half of what we had we do not give way; but this is more than the link has left.
  if (losing_ >= kLosing) {
    clear_share_ = 2 * seen.carried;
    return contend(now);
  }
  if (now < until_) return;
  const bool steady = contended_most_ - contended_least_ < std::max(kProbeQueue, kSteady * contended_most_);
  contended_least_ = contended_most_ = queue_;
  until_ = now + kLongerRoute;
  if (!steady) return;
  base_ += least_queue_;
  competes_until_ = now;
  hold(kPatience, now);
}

void LinkEstimate::hold(Duration patience, TimePoint now) {
  state_ = State::kHold;
  patience_ = patience;
  until_ = now + patience;
  step_ = kFirstStep;
}

void LinkEstimate::probe(TimePoint now) {
  before_probe_ = share_;
  queue_before_ = least_queue_;
  grown_ = 0;
  in_vain_ = 0;
  lost_until_ = now;  // what is lost from now on is lost because more is sent
  state_ = State::kProbe;
  until_ = now + round_trips(kProbeRoundTrips) + 500ms;
  set(share_ * step_, now);
}

void LinkEstimate::probing(const Seen& seen, TimePoint now) {
  if (congested(seen)) return cut(seen, seen.carried, now);
  if (seen.waits && least_queue_ > queue_before_ + kProbeQueue) {
    // The queue grows, so what arrives is what it carries.
    const double carries = std::clamp(kMargin * seen.carried, kVerySlow * before_probe_, share_);
    const Duration next = std::min(2 * patience_, kMostPatience);
    set(carries, now);
    return hold(next, now);
  }
  grown_ += seen.waits && seen.arrives >= kFollows ? 1 : 0;
  if (grown_ >= 3) {
    if (share_ >= 1) {
      state_ = State::kClear;
      return;
    }
    step_ = step_ < kSecondStep ? kSecondStep : kLargestStep;
    return probe(now);
  }
  // Nothing says that the link carries less; the sender may be slow.
  if (now >= until_) hold(patience_, now);
}

}  // namespace longspan::runtime
