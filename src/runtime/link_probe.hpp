#pragma once

#include "base/clock.hpp"
#include "runtime/link_windows.hpp"

namespace longspan::runtime {

/// Finds out whether a link carries more: after a wait it sends more, in growing steps, each kept if more arrives and
/// no queue grows.
class LinkProbe {
 public:
  enum class Verdict {
    kGoesOn,
    kCarries,  ///< what is sent arrives
    kQueues,   ///< a queue grows, so what arrives is what it carries
  };

  /// Before the next step: how long; the steps begin small again.
  void wait(Duration patience) noexcept;
  Duration patience() const noexcept { return patience_; }
  Duration longer_patience() const noexcept;
  /// The share of the next step, up from `share`.
  double begin(double share, double least_queue) noexcept;
  /// The next step is larger.
  void widen() noexcept;
  /// The share before the step.
  double before() const noexcept { return before_; }
  Verdict judge(const LinkReading& reading, double least_queue) noexcept;

 private:
  double before_ = 1;
  double queue_before_ = 0;
  double step_ = 0;
  int grown_ = 0;  // windows in which more arrived
  Duration patience_{0};
};

}  // namespace longspan::runtime
