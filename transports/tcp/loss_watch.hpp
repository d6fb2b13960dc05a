#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "base/clock.hpp"

namespace longspan::tcp {

/// Tells random loss from what a full queue drops, by the connections' own counts: random loss comes in most of the
/// intervals in which much was sent while no queue stood. What was lost beside a queue is left out, and so is one
/// burst.
class LossWatch {
 public:
  static constexpr std::chrono::milliseconds kInterval{500};

  struct Sample {
    std::uint64_t packets = 0;  ///< with data, since the last sample
    std::uint64_t lost = 0;     ///< of these
    Duration queue_delay{0};
    Duration min_rtt{0};
  };
  void take(const Sample& sample) noexcept;
  /// Share of packets over the last intervals that count; 0: none, or too few to say.
  double loss() const noexcept;

 private:
  struct Interval {
    std::uint64_t packets = 0;
    std::uint64_t lost = 0;
  };
  std::array<Interval, 24> intervals_{};  // 12 s of sending
  std::size_t next_ = 0;
};

}  // namespace longspan::tcp
