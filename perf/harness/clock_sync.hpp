#pragma once

#include <cstdint>

#include "longspan/communicator.hpp"

namespace longspan::perf {

/// Rank 0's monotonic clock as seen here, from the exchange with the least round-trip time of many (Cristian 1989). The
/// error is half the spread of the offsets among the quickest exchanges; asymmetric paths add half their asymmetry.
class AlignedClock {
 public:
  /// Collective.
  static Result<AlignedClock> synchronise(Communicator& comm);

  std::int64_t now_ns() const;  ///< rank 0's clock, now
  void sleep_until(std::int64_t aligned_ns) const;
  std::int64_t error_ns() const noexcept { return error_ns_; }
  /// The largest round-trip time between rank 0 and any rank.
  std::int64_t longest_rtt_ns() const noexcept { return longest_rtt_ns_; }

 private:
  std::int64_t offset_ns_ = 0;  // aligned = local + offset
  std::int64_t error_ns_ = 0;
  std::int64_t longest_rtt_ns_ = 0;
};

}  // namespace longspan::perf
