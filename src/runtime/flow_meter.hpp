#pragma once

#include <deque>
#include <optional>

#include "longspan/spi/transport.hpp"
#include "runtime/link_sample.hpp"

namespace longspan::runtime {

/// What the far end of a channel said when it was asked.
struct FarCount {
  TimePoint asked{};    ///< our clock
  TimePoint seen{};     ///< its clock, when the question came
  double bytes = 0;     ///< in order
  double packets = 0;
};

/// Watches one channel over a WAN link by asking the far end what has arrived. Acknowledgements would say it too, but
/// come back through the queue of the other direction: while that grows they come slower than the data arrives, so a
/// link whose both directions are overrun seems to carry half of what it does (measured: 36 % instead of 60). A
/// question travels with the data, so what arrived between two of them is what was sent between them, whatever the
/// queue; and how long it took, beyond the least that any took, is what waits in this direction.
class FlowMeter {
 public:
  /// The pace from now on, and what it would be if the link were as stated, bytes/s.
  void paced(double bytes_per_second, double stated, TimePoint now);
  /// A question goes out.
  void asks(const spi::ChannelStats& stats, TimePoint now);
  /// An answer came. Nothing, where it does not follow on.
  std::optional<LinkPoint> told(const FarCount& count, const spi::ChannelStats& stats, TimePoint now);
  double delivered() const noexcept { return counts_.delivered; }
  /// Questions without an answer.
  std::size_t open() const noexcept { return questions_.size(); }

 private:
  struct Mark {
    TimePoint at{};
    double allowed = 0;  // bytes let through until then, since the beginning
    double stated = 0;
  };
  struct Question {
    TimePoint at{};
    bool waits = false;
    double packets = 0;
    double retransmits = 0;
  };
  Mark until(TimePoint when) const;
  double waited(const FarCount& count, const spi::ChannelStats& stats, TimePoint now);

  std::deque<Mark> marks_;  // where the pace changed
  double rate_ = 0;
  double stated_rate_ = 0;
  std::deque<Question> questions_;
  std::optional<Question> last_;  // that was answered
  Mark last_mark_;
  FarCount last_count_;
  LinkCounts counts_;
  // The least time a question took, of this period and the one before: clocks differ, and drift apart.
  Duration least_ = Duration::max();
  Duration least_before_ = Duration::max();
  TimePoint period_ends_{};
  TimePoint last_at_{};
};

}  // namespace longspan::runtime
