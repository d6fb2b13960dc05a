#pragma once

#include <deque>

#include "base/clock.hpp"
#include "longspan/spi/transport.hpp"

namespace longspan::runtime {

/// What one rank saw of a WAN link while its data waited for the pace. Bytes are of IP packets.
struct LinkSample {
  double seconds = 0;    ///< for how long; the rest is about that time
  double delivered = 0;  ///< bytes that arrived
  double allowed = 0;    ///< bytes that its pace would have let through
  double queued_delivered = 0;  ///< of these, while packets also waited in the network: what it can carry
  double queued_allowed = 0;
  double queued_stated = 0;     ///< what the pace would have let through then, if the link were as stated
  double packets = 0;
  double retransmits = 0;
  double rtt = 0;        ///< s, as last measured
  double min_rtt = 0;

  /// What another flow or rank saw at the same time.
  void beside(const LinkSample& other);
  /// What the same ones saw after that.
  void then(const LinkSample& next);
};

/// Watches one channel over a WAN link. What arrives was sent a round trip earlier, so it is compared with the pace of
/// that time: a pace that changes often is no obstacle.
class FlowMeter {
 public:
  /// The pace from now on, and what it would be if the link were as stated, bytes/s.
  void paced(double bytes_per_second, double stated, TimePoint now);
  /// What happened since the last look; nothing, where no data waited to be sent for longer than a round trip.
  LinkSample look(const spi::ChannelStats& stats, TimePoint now);
  /// Bytes that arrived between the last two looks.
  double arrived() const noexcept { return arrived_; }
  /// Nothing uses it any more: what comes next does not follow on.
  void pause() noexcept {
    waiting_since_ = last_at_ = TimePoint::max();
    arrived_ = 0;
  }

 private:
  struct Mark {
    TimePoint at{};
    double allowed = 0;  // bytes let through until then, since the beginning
    double stated = 0;
  };
  Mark until(TimePoint when) const;

  std::deque<Mark> marks_;  // where the pace changed
  double rate_ = 0;
  double stated_rate_ = 0;
  TimePoint waiting_since_ = TimePoint::max();  // data waits without a pause
  TimePoint last_at_ = TimePoint::max();
  double arrived_ = 0;
  spi::ChannelStats last_;
};

}  // namespace longspan::runtime
