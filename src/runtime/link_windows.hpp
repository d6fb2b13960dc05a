#pragma once

#include "base/clock.hpp"
#include "runtime/link_sample.hpp"

namespace longspan::runtime {

/// Of what arrived, so that no queue builds up.
inline constexpr double kBelowCarried = 0.98;

/// What a window says of a link.
struct LinkReading {
  double carried = 0;   ///< of what is stated
  double arrives = 0;   ///< of what is sent; 1 if nobody had more to send
  bool waits = false;   ///< somebody had
  bool used = false;    ///< what we may send arrives, or nearly
  bool full = false;    ///< a queue stood throughout
  bool empty = false;   ///< there is none
  bool fresh = false;   ///< all of it was sent after the last change
};

/// Reads the windows of a link: its queue beyond what counts as the link's own, and for how many windows it stood.
class LinkWindows {
 public:
  explicit LinkWindows(double buffer_seconds) : buffer_seconds_(buffer_seconds) {}

  LinkReading read(const LinkSample& sample, double share);
  /// Another share is sent from `now` on: what was sent before says nothing of it.
  void begin_anew(TimePoint now) noexcept;
  /// Whether a queue stands and we are the reason; to be asked once for each window.
  bool congested(const LinkReading& reading, double share);
  /// What waits now waits for ever: a longer route.
  void take_queue_for_route() noexcept { base_ += least_queue_; }

  double queue() const noexcept { return queue_; }
  double least_queue() const noexcept { return least_queue_; }
  double high_queue() const;
  Duration round_trips(double count) const;

 private:
  double buffer_seconds_;   // 0: not stated
  TimePoint changed_{};     // what is sent
  double rtt_ = 0;          // without a queue, s
  double queue_ = 0;        // at the end of the last window, beyond base_
  double least_queue_ = 0;  // in the last window
  double base_ = 0;         // s of queue that counts as the link's own
  int slow_ = 0;            // windows in a row that were full, and less arrived
  int full_ = 0;            // windows in a row that were full, whatever arrived
};

}  // namespace longspan::runtime
