#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "base/clock.hpp"

namespace longspan::lab {

/// The times at which the emulator should have looked at its packets and did not.
struct Stalls {
  std::uint64_t count = 0;
  Duration total{0};
  Duration longest{0};

  void add(Duration stall) {
    ++count;
    total += stall;
    longest = std::max(longest, stall);
  }
  void merge(const Stalls& other) {
    count += other.count;
    total += other.total;
    longest = std::max(longest, other.longest);
  }
};

/// How late packets were delivered: a histogram of microseconds, without allocation.
class Lateness {
 public:
  void add(Duration late) {
    const auto microseconds = std::chrono::duration_cast<std::chrono::microseconds>(late).count();
    const auto bucket = std::clamp<std::int64_t>(microseconds, 0, kBuckets - 1);
    ++counts_[static_cast<std::size_t>(bucket)];
    ++total_;
    max_ = std::max(max_, late);
  }

  /// Several packets handed over together, `late` after the last was due; they took the time `spread` on the link.
  void add_together(Duration late, std::uint32_t packets, Duration spread) {
    for (std::uint32_t i = 0; i < packets; ++i) add(late + spread * i / packets);
  }

  void merge(const Lateness& other) {
    for (std::size_t i = 0; i < counts_.size(); ++i) counts_[i] += other.counts_[i];
    total_ += other.total_;
    max_ = std::max(max_, other.max_);
  }

  std::uint64_t samples() const noexcept { return total_; }
  Duration max() const noexcept { return max_; }

  /// The share of packets that were later than this, to the microsecond.
  double share_over(Duration limit) const {
    const auto first = std::chrono::duration_cast<std::chrono::microseconds>(limit).count();
    std::uint64_t over = 0;
    for (std::int64_t i = std::clamp<std::int64_t>(first, 0, kBuckets); i < kBuckets; ++i) {
      over += counts_[static_cast<std::size_t>(i)];
    }
    return total_ == 0 ? 0 : static_cast<double>(over) / static_cast<double>(total_);
  }

  /// The least lateness that the given share of packets did not exceed, rounded up to a microsecond.
  Duration quantile(double share) const {
    const double target = share * static_cast<double>(total_);
    double seen = 0;
    for (std::size_t i = 0; i + 1 < counts_.size(); ++i) {
      seen += static_cast<double>(counts_[i]);
      if (seen >= target) return total_ == 0 ? Duration{0} : std::min<Duration>(max_, std::chrono::microseconds(i + 1));
    }
    return max_;
  }

 private:
  static constexpr std::int64_t kBuckets = 4096;
  std::array<std::uint64_t, static_cast<std::size_t>(kBuckets)> counts_{};
  std::uint64_t total_ = 0;
  Duration max_{0};
};

}  // namespace longspan::lab
