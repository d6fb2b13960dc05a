#pragma once

#include "base/clock.hpp"
#include "runtime/link_sample.hpp"

namespace longspan::runtime {

/// What share of its stated budget a directed WAN link really carries for us, from what arrives at its far end. The
/// lowest rank of the region keeps one for each link; the rates of all flows over the link are multiplied with it. No
/// I/O, no clock of its own.
///
/// - A link behind which a queue stands is busy: what arrives then *is* what it carries, whoever sends what. When that
/// is
///   less than we send, the share falls to it at once, and a little below until the queue is gone. In a buffer too
///   shallow for a queue that can be seen, many lost packets (many more than at random) say the same.
/// - Without a queue nothing is known but that the link carries what we send. The share then rises in growing steps,
/// each
///   kept if it brings more and no queue; a queue says exactly what the link carries.
/// - A queue that does not shrink when we send less is somebody else's (a competitor that fills the buffer), or a
/// longer
///   route: we then keep half of what we had, and after a while its delay counts as the link's own (LEDBAT, RFC 6817,
///   has the same problem; Copa, NSDI 2018, the same answer).
///
/// A sender that is slow (its CPU, random loss, BBR's ProbeRTT) leaves no queue and changes nothing: a truthful link is
/// never touched.
class LinkEstimate {
 public:
  struct Options {
    double buffer_seconds = 0;  ///< of the bottleneck, as stated: bytes / rate; 0: not stated
    double loss = 0;            ///< random, as stated
  };

  LinkEstimate() = default;
  explicit LinkEstimate(Options options) : options_(options) {}

  /// What all senders did in the latest window.
  void observe(const LinkSample& sample, TimePoint now);
  /// 1: as stated.
  double share() const noexcept { return share_; }

 private:
  enum class State { kClear, kDrain, kContended, kHold, kProbe };

  /// What a window says.
  struct Seen {
    double carried = 0;   // of what is stated
    double arrives = 0;   // of what is sent; 1 if nobody had more to send
    bool waits = false;   // somebody had
    bool used = false;    // what we may send arrives, or nearly
    bool full = false;    // a queue stood throughout
    bool empty = false;   // there is none
    bool fresh = false;   // all of it was sent after the last change
  };
  Seen see(const LinkSample& sample);
  bool lossy(const LinkSample& sample, TimePoint now);
  void lost(const Seen& seen, TimePoint now);
  bool congested(const Seen& seen);
  void cut(const Seen& seen, double carried, TimePoint now, double room = 0.02);
  void drain(const Seen& seen, TimePoint now);
  void contend(TimePoint now);
  void contended(const Seen& seen, TimePoint now);
  void hold(Duration patience, TimePoint now);
  void probe(TimePoint now);
  void probing(const Seen& seen, TimePoint now);
  void set(double share, TimePoint now);
  double high_queue() const;
  Duration round_trips(double count) const;

  Options options_;
  State state_ = State::kClear;
  double share_ = 1;
  TimePoint changed_{};       // share_
  double rtt_ = 0;            // without a queue, s
  double queue_ = 0;          // at the end of the last window, beyond base_
  double least_queue_ = 0;    // in the last window
  double base_ = 0;           // s of queue that counts as the link's own
  int slow_ = 0;              // windows in a row that were full, and less arrived
  int full_ = 0;              // windows in a row that were full, whatever arrived
  LinkSample counted_;        // for loss
  double loss_ = 0;           // as last counted
  double loss_before_ = 0;    // a cut for it
  double before_loss_ = 1;    // the share
  int in_vain_ = 0;           // cuts
  double random_loss_ = 0;    // that stayed when we sent less
  TimePoint random_until_{};
  TimePoint lost_until_{};    // what is lost until then shows whether the cut helped
  double carried_ = 0;        // mean of full windows, since the cut
  int carried_count_ = 0;
  double drained_ = 0;        // part of what is carried that a drain leaves unused
  double least_drained_ = 0;  // the share meanwhile
  TimePoint sudden_until_{};  // much less arrived than was sent, just now
  TimePoint drain_began_{};   // to show; {}: not yet
  double queue_then_ = 0;
  double clear_share_ = 1;    // with which there was lastingly no queue
  int alone_ = 0;             // windows in which we used the link and there was no queue, since there was one
  double contended_least_ = 0;  // of the queue
  double contended_most_ = 0;
  TimePoint competes_until_{};  // somebody does, as far as we know
  int losing_ = 0;            // contended windows in a row in which much less arrived than was sent
  double before_probe_ = 1;
  double queue_before_ = 0;   // the probe
  double step_ = 0;
  int grown_ = 0;             // windows of a probe in which more arrived
  Duration patience_{0};
  TimePoint until_{};         // the end of a drain, a wait, a probe
};

}  // namespace longspan::runtime
