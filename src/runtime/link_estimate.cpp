#include "runtime/link_estimate.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

namespace longspan::runtime {
namespace {

using namespace std::chrono_literals;

constexpr double kEnoughSeconds = 0.04;  // of a sample, below which it says nothing
constexpr double kSlow = 0.95;           // of what is allowed arrives: less, and a queue, is congestion
constexpr double kFullShare = 0.2;       // of what was allowed, for which a queue must have stood
constexpr double kMuchSlower = 0.9;      // in two rounds: a link that carries less, and no matter of sharing
constexpr double kVerySlow = 0.8;        // believed at once
constexpr double kFollows = 0.95;        // of a higher rate arrives: the link carries it
constexpr double kLossy = 0.02;          // as in BBRv2 (draft-cardwell-iccrg-bbr-congestion-control, BBRLossThresh)
constexpr double kLossySlow = 0.9;
constexpr double kPacketsToTell = 1000;
constexpr double kMargin = 0.98;         // of what arrived, so that no queue builds up
constexpr double kLeast = 0.02;
constexpr double kNoLess = 0.85;         // of what was before a step that brought nothing
constexpr double kDeepestCut = 0.5;      // at once: what a connection that has just begun delivers says little; more follows
constexpr double kDeepestAgain = 0.65;   // a full queue in the other direction delays acknowledgements and slows BBR, too
constexpr double kCreep = 0.97;
constexpr int kCreepAfter = 4;           // rounds with a queue that did not slow us
constexpr int kCreeps = 3;
constexpr double kFirstStep = 1.03;
constexpr double kSecondStep = 1.1;
constexpr double kLargestStep = 1.25;    // what BBR can follow
constexpr double kProbeRoundTrips = 9;
constexpr Duration kLeastPatience = 500ms;
constexpr Duration kMostPatience = 4s;

}  // namespace

Duration LinkEstimate::round_trips(double count) const {
  return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(count * std::max(rtt_, 1e-3)));
}

/// A quarter of the buffer, but more than schedulers add and less than anybody wants to wait.
double LinkEstimate::high_queue() const {
  return std::clamp((options_.buffer_seconds > 0 ? options_.buffer_seconds : base_) / 4, 0.005, 0.020);
}

void LinkEstimate::rescale(double factor) {
  for (double* each : {&share_, &target_, &before_probe_}) *each = std::min(1.0, *each * factor);
  if (share_ >= 1) state_ = State::kClear;
}

void LinkEstimate::observe(const LinkSample& sample, TimePoint now) {
  if (sample.seconds < kEnoughSeconds || sample.allowed <= 0) return;
  rtt_ = sample.rtt;
  const double least = own_base_ ? sample.rtt : sample.min_rtt > 0 ? std::min(sample.min_rtt, sample.rtt) : sample.rtt;
  if (base_ <= 0 || least < base_) base_ = least;
  queue_ = std::max(0.0, rtt_ - base_);
  const double utilisation = sample.delivered / sample.allowed;
  const double before = std::exchange(utilisation_, utilisation);
  const bool queued = queue_ > high_queue();
  // While a connection starts it sends less than it may, and fills a queue all the same in the end: only what arrived
  // behind a queue says what the link carries.
  const bool full = sample.queued_allowed > kFullShare * sample.allowed;
  const double behind_queue = full ? sample.queued_delivered / sample.queued_allowed : 1;
  // In terms of what is stated, since the pace that let it through may have changed meanwhile.
  const double carried = full && sample.queued_stated > 0 ? sample.queued_delivered / sample.queued_stated : share_ * utilisation;
  slow_rounds_ = queued && behind_queue < kSlow ? slow_rounds_ + 1 : 0;
  queued_rounds_ = queued ? queued_rounds_ + 1 : 0;
  const bool congested = slow_rounds_ >= 2 || (slow_rounds_ == 1 && behind_queue < kVerySlow) || lossy(sample);
  // What was sent before the last cut still arrives: a drain is given its time.
  if (state_ == State::kDrain) {
    if (congested && now >= cut_again_ && carried < kSlow * share_) return cut(carried, now);
    const bool drained = queue_ <= high_queue() / 2;
    if (!drained && now < until_) return;
    if (drained) share_ = target_;
    else contended_ = behind_queue >= kMuchSlower;
    return hold(now);
  }
  if (queue_ < high_queue() / 2) {
    contended_ = false;
    if (utilisation >= kSlow) clear_share_ = share_;
  }
  // Half is what one flow has beside another: with no more than that we do not give way to one that fills the buffer.
  const bool sharing = contended_ && share_ <= clear_share_ / 2 && std::max(behind_queue, before) >= kMuchSlower;
  if (congested && !sharing) return cut(carried, now);
  if (queued_rounds_ >= kCreepAfter) return creep(now);
  if (state_ == State::kClear || now < until_) return;
  if (state_ == State::kProbe) return probe_ended(std::max(utilisation, before), now);
  if (!queued) probe(now);
}

/// Whether far more packets are lost than at random, over enough of them to tell.
bool LinkEstimate::lossy(const LinkSample& sample) {
  counted_.then(sample);
  if (counted_.packets < kPacketsToTell) return false;
  const LinkSample all = std::exchange(counted_, {});
  const double expected = std::max(kLossy, 3 * options_.loss) * all.packets;
  return all.retransmits > expected + 4 * std::sqrt(expected) && all.delivered < kLossySlow * all.allowed;
}

/// Down to what arrives.
void LinkEstimate::cut(double carried, TimePoint now) {
  const bool changed = carried < kLossySlow * share_;
  patience_ = state_ == State::kClear || (changed && state_ != State::kProbe) ? kLeastPatience : std::min(2 * patience_, kMostPatience);
  const double most = state_ == State::kProbe ? before_probe_ : share_;
  target_ = std::max(kLeast, kMargin * std::clamp(carried, (state_ == State::kDrain ? kDeepestAgain : kDeepestCut) * share_, most));
  // The queue is to be gone in about ten round trips, but nobody is to starve for it.
  const double drain = std::min(0.25, queue_ / (10 * std::max(rtt_, 0.02)));
  if (carried < kMuchSlower * share_) contended_ = false;
  if (contended_) target_ = std::max(target_, std::min(share_, clear_share_ / 2));
  share_ = std::max(kLeast, contended_ ? target_ : target_ * (1 - drain));
  slow_rounds_ = queued_rounds_ = 0;
  state_ = State::kDrain;
  until_ = now + round_trips(12);
  cut_again_ = now + round_trips(1.5);
}

/// A queue stays though all that is sent arrives: the link is a little slower than we think, or the queue is not ours.
void LinkEstimate::creep(TimePoint now) {
  queued_rounds_ = 0;
  if (creeps_ > 0 && queue_ < 0.8 * queue_before_) creeps_ = 0;
  if (creeps_ == 0) queue_before_ = queue_;
  if (++creeps_ > kCreeps) {
    creeps_ = 0;
    base_ = rtt_;
    own_base_ = true;
    queue_ = 0;
    return;
  }
  if (state_ == State::kClear) patience_ = kLeastPatience;
  share_ = std::max(kLeast, share_ * kCreep);
  hold(now);
}

void LinkEstimate::hold(TimePoint now) {
  state_ = State::kHold;
  patience_ = std::max(patience_, kLeastPatience);
  until_ = now + std::max(patience_, round_trips(4));
  step_ = kFirstStep;
}

void LinkEstimate::probe(TimePoint now) {
  before_probe_ = share_;
  extended_ = false;
  state_ = State::kProbe;
  share_ = std::min(1.0, share_ * step_);
  until_ = now + round_trips(kProbeRoundTrips) + 100ms;
}

void LinkEstimate::probe_ended(double utilisation, TimePoint now) {
  creeps_ = 0;
  if (utilisation < kVerySlow && !std::exchange(extended_, true)) {
    until_ = now + round_trips(kProbeRoundTrips / 2);  // BBR's ProbeRTT, or a sender that was held up: look again
    return;
  }
  // Had the link been full before, the inverse of the step would arrive.
  if (utilisation < std::min(kFollows, (1 + before_probe_ / share_) / 2)) {
    // Nothing says that the link is full (the sender may be slow, or BBR measures its round trip), but nothing says that
    // it carries more.
    share_ = std::max(kLeast, std::clamp(share_ * utilisation * kMargin, kNoLess * before_probe_, before_probe_));
    patience_ = std::min(2 * patience_, kMostPatience / 2);
    return hold(now);
  }
  if (share_ >= 1) {
    state_ = State::kClear;
    patience_ = Duration{0};
    return;
  }
  step_ = step_ < kSecondStep ? kSecondStep : kLargestStep;
  probe(now);
}

}  // namespace longspan::runtime
