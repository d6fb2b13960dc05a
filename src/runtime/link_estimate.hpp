#pragma once

#include "base/clock.hpp"
#include "runtime/link_sample.hpp"

namespace longspan::runtime {

/// What share of its stated budget a directed WAN link really carries for us, from what its senders measure. The lowest
/// rank of the region keeps one for each link; the rates of all flows over the link are multiplied with it. No I/O, no
/// clock of its own.
///
/// - Less than was stated, or shared: data arrives slower than it is paced *and* waits in a queue (or many packets are
///   lost, as in a shallow buffer): the share falls to what arrives, and a little below until the queue is gone. Both signs
///   are needed: random loss slows a connection without a queue (Cardwell et al., BBR, ACM Queue 2016), BBR's ProbeRTT too,
///   and a queue in the other direction delays acknowledgements without slowing anything.
/// - More again: the share rises in growing steps, each kept only if what arrives grows with it. A step lasts nine round
///   trips, since BBR tries a higher rate in only one of eight.
/// - A queue that does not shrink when we send less is not ours (a competitor that fills the buffer, or a longer route): its
///   delay then counts as the link's own (LEDBAT, RFC 6817, has the same problem; Copa, NSDI 2018, the same answer), and
///   we give way no further.
///
/// With neither sign, a truthful link is never touched.
class LinkEstimate {
 public:
  struct Options {
    double buffer_seconds = 0;  ///< of the bottleneck, as stated: bytes / rate; 0: not stated
    double loss = 0;            ///< random, as stated
  };

  LinkEstimate() = default;
  explicit LinkEstimate(Options options) : options_(options) {}

  /// What all senders measured since the last call, side by side.
  void observe(const LinkSample& sample, TimePoint now);
  /// 1: as stated.
  double share() const noexcept { return share_; }
  /// What waits in the queue, s.
  double queue_seconds() const noexcept { return queue_; }
  /// The stated budget has changed: the same link as before, in the new unit.
  void rescale(double factor);

 private:
  enum class State { kClear, kDrain, kHold, kProbe };

  bool lossy(const LinkSample& sample);
  void cut(double carried, TimePoint now);
  void creep(TimePoint now);
  void hold(TimePoint now);
  void probe(TimePoint now);
  void probe_ended(double utilisation, TimePoint now);
  Duration round_trips(double count) const;
  double high_queue() const;

  Options options_;
  State state_ = State::kClear;
  double share_ = 1;
  double base_ = 0;   // round trip with an empty queue, s; 0: not known
  double rtt_ = 0;
  double queue_ = 0;
  bool own_base_ = false;    // base_ is what we decided, not the least ever seen
  int slow_rounds_ = 0;      // in a row, with a queue
  LinkSample counted_;       // for loss
  int queued_rounds_ = 0;    // in a row, whatever arrives
  int creeps_ = 0;           // in a row
  double queue_before_ = 0;  // the creeps
  double before_probe_ = 1;
  bool extended_ = false;    // the probe
  double step_ = 0;
  double target_ = 1;        // after the drain
  double clear_share_ = 1;   // with which the queue was last empty
  bool contended_ = false;   // a drain did not empty the queue: somebody else fills it
  Duration patience_{0};     // between probes
  double utilisation_ = 0;   // of the last round: what arrived of what was allowed
  TimePoint until_{};        // the end of a drain, a wait, a probe
  TimePoint cut_again_{};    // in a drain: what arrives was sent after the cut
};

}  // namespace longspan::runtime
