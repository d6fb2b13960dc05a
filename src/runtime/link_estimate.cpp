#include "runtime/link_estimate.hpp"

#include <algorithm>

namespace longspan::runtime {
namespace {

using namespace std::chrono_literals;

constexpr double kSlow = 0.97;        // of what is sent arrives: less, and many packets lost, and it is too much
constexpr double kLeast = 0.02;
constexpr double kDeepestCut = 0.35;  // at once; more follows
constexpr double kMoreRoom = 0.15;    // for a drain that showed nothing
constexpr double kUsed = 0.9;         // of what is sent must arrive before more is tried
constexpr double kLeastFound = 0.9;   // of what there was before a probe, when a queue says what the link carries
constexpr double kProbeRoundTrips = 12;  // BBR tries a higher rate in one of eight
constexpr Duration kPatience = 500ms;

}  // namespace

void LinkEstimate::set(double share, TimePoint now) {
  share_ = std::clamp(share, kLeast, 1.0);
  windows_.begin_anew(now);
  losses_.begin_anew();
}

void LinkEstimate::observe(const LinkSample& sample, TimePoint now) {
  if (sample.seconds <= 0 || sample.stated <= 0 || sample.counts.allowed <= 0) return;
  const LinkReading seen = windows_.read(sample, share_);
  rival_.note(seen, share_);
  if (seen.fresh && losses_.too_many(sample.counts, now) && seen.arrives < kSlow) return lost(seen, now);
  switch (state_) {
    case State::kDrain: return drain(seen, now);
    case State::kContended: return contended(seen, now);
    case State::kProbe:
      if (seen.fresh) return probing(seen, now);
      return;
    case State::kClear:
    case State::kHold: break;
  }
  if (windows_.congested(seen, share_)) return cut(seen, seen.carried, now);
  if (state_ == State::kClear || now < until_) return;
  if (seen.waits && seen.arrives >= kUsed && windows_.least_queue() < windows_.high_queue() / 2) probe(now);
}

/// A buffer that overflows, or a link that loses at random.
void LinkEstimate::lost(const LinkReading& seen, TimePoint now) {
  if (!losses_.cut_may_help(share_before_probe(), now)) {
    set(losses_.share(), now);
    return hold(kPatience, now);
  }
  // No queue says that the link was busy all the time, and how much we sent in it.
  cut(seen, std::max(seen.carried, seen.arrives * share_), now);
}

/// Down to what arrives, and below until the queue is gone.
void LinkEstimate::cut(const LinkReading& seen, double carried, TimePoint now, double room) {
  if (rival_.known(now) && state_ != State::kContended) return contend(now);
  const double before = state_ == State::kDrain ? kBelowCarried * drain_.carried() : share_before_probe();
  const double cut_to = std::clamp(carried, kDeepestCut * share_, share_before_probe());
  const bool gradual = rival_.takes_little_by_little(seen, before, cut_to, now);
  if (gradual && kBelowCarried * cut_to < rival_.half()) return contend(now);
  drain_.begin(cut_to, room, gradual ? rival_.least_drained() : kLeast, windows_.queue());
  state_ = State::kDrain;
  until_ = now + windows_.round_trips(2) + drain_.expected(windows_.queue()) + 200ms;
  set(drain_.share(), now);
}

void LinkEstimate::drain(const LinkReading& seen, TimePoint now) {
  // It is still what was sent before, or just now: when this changed says less than when the drain began.
  share_ = drain_.learn(seen, share_);
  switch (drain_.judge(seen, windows_, now)) {
    case LinkDrain::Verdict::kGone:
      set(kBelowCarried * drain_.carried(), now);
      return hold(kPatience, now);
    case LinkDrain::Verdict::kTooShallow: return cut(seen, seen.carried, now, kMoreRoom);
    case LinkDrain::Verdict::kNotOurs: return contend(now);
    case LinkDrain::Verdict::kGoesOn: break;
  }
  if (now >= until_) cut(seen, seen.full ? seen.carried : drain_.carried(), now);
}

void LinkEstimate::contend(TimePoint now) {
  state_ = State::kContended;
  rival_.begin(windows_.queue(), now);
  set(rival_.half(), now);
}

void LinkEstimate::contended(const LinkReading& seen, TimePoint now) {
  switch (rival_.judge(seen, windows_, now)) {
    case LinkRival::Verdict::kGone: return hold(kPatience / 2, now);
    case LinkRival::Verdict::kTooMuch: return contend(now);
    case LinkRival::Verdict::kRoute:
      windows_.take_queue_for_route();
      return hold(kPatience, now);
    case LinkRival::Verdict::kGoesOn: return;
  }
}

void LinkEstimate::hold(Duration patience, TimePoint now) {
  state_ = State::kHold;
  probe_.wait(patience);
  until_ = now + patience;
}

void LinkEstimate::probe(TimePoint now) {
  losses_.more_is_sent(now);
  state_ = State::kProbe;
  until_ = now + windows_.round_trips(kProbeRoundTrips) + 500ms;
  set(probe_.begin(share_, windows_.least_queue()), now);
}

void LinkEstimate::probing(const LinkReading& seen, TimePoint now) {
  if (windows_.congested(seen, share_)) return cut(seen, seen.carried, now);
  switch (probe_.judge(seen, windows_.least_queue())) {
    case LinkProbe::Verdict::kQueues:
      set(std::clamp(kBelowCarried * seen.carried, kLeastFound * probe_.before(), share_), now);
      return hold(probe_.longer_patience(), now);
    case LinkProbe::Verdict::kCarries:
      if (share_ >= 1) {
        state_ = State::kClear;
        return;
      }
      probe_.widen();
      return probe(now);
    case LinkProbe::Verdict::kGoesOn: break;
  }
  // Nothing says that the link carries less; the sender may be slow.
  if (now >= until_) hold(probe_.patience(), now);
}

}  // namespace longspan::runtime
