#pragma once

#include "base/clock.hpp"
#include "runtime/link_drain.hpp"
#include "runtime/link_losses.hpp"
#include "runtime/link_probe.hpp"
#include "runtime/link_rival.hpp"
#include "runtime/link_sample.hpp"
#include "runtime/link_windows.hpp"

namespace longspan::runtime {

/// What share of its stated budget a directed WAN link really carries for us, from what arrives at its far end. The
/// lowest rank of the region keeps one for each link; the rates of all flows over the link are multiplied with it. No
/// I/O, no clock of its own.
///
/// - A link behind which a queue stands is busy: what arrives then *is* what it carries, whoever sends what. When that
///   is less than we send, the share falls to it at once, and a little below until the queue is gone (LinkDrain). In a
///   buffer too shallow for a queue that can be seen, many lost packets (many more than at random) say the same
///   (LinkLosses).
/// - Without a queue nothing is known but that the link carries what we send. The share then rises in growing steps,
///   each kept if it brings more and no queue; a queue says exactly what the link carries (LinkProbe).
/// - A queue that does not shrink when we send less is somebody else's (a competitor that fills the buffer), or a
///   longer route: we then keep half of what we had, and after a while its delay counts as the link's own (LinkRival;
///   LEDBAT, RFC 6817, has the same problem; Copa, NSDI 2018, the same answer).
///
/// A sender that is slow (its CPU, random loss, BBR's ProbeRTT) leaves no queue and changes nothing: a truthful link is
/// never touched.
class LinkEstimate {
 public:
  struct Options {
    double buffer_seconds = 0;  ///< of the bottleneck, as stated: bytes / rate; 0: not stated
    double loss = 0;            ///< random, as stated
  };

  LinkEstimate() : LinkEstimate(Options()) {}
  explicit LinkEstimate(Options options) : windows_(options.buffer_seconds), losses_(options.loss) {}

  /// What all senders did in the latest window.
  void observe(const LinkSample& sample, TimePoint now);
  /// 1: as stated.
  double share() const noexcept { return share_; }

 private:
  enum class State { kClear, kDrain, kContended, kHold, kProbe };

  void lost(const LinkReading& seen, TimePoint now);
  void cut(const LinkReading& seen, double carried, TimePoint now, double room = 0.02);
  void drain(const LinkReading& seen, TimePoint now);
  void contend(TimePoint now);
  void contended(const LinkReading& seen, TimePoint now);
  void hold(Duration patience, TimePoint now);
  void probe(TimePoint now);
  void probing(const LinkReading& seen, TimePoint now);
  void set(double share, TimePoint now);
  double share_before_probe() const noexcept { return state_ == State::kProbe ? probe_.before() : share_; }

  LinkWindows windows_;
  LinkLosses losses_;
  LinkDrain drain_;
  LinkRival rival_;
  LinkProbe probe_;
  State state_ = State::kClear;
  double share_ = 1;
  TimePoint until_{};  // the end of a drain, a wait, a probe
};

}  // namespace longspan::runtime
