#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "longspan/schedule.hpp"
#include "longspan/spi/schedule_builder.hpp"
#include "longspan/topology.hpp"

namespace longspan::spi {

/// Bytes that one rank sends another in a stage, in units of one block (allreduce: the whole buffer; allgather: one
/// rank's contribution).
struct StageFlow {
  int from = 0;
  int to = 0;
  double share = 0;
};

/// One stage of an algorithm, for pricing: what crosses which link and how often a latency is paid. The steps of
/// `build` with the same phase index move exactly these bytes (a test sums them up).
struct Stage {
  std::string name;
  std::vector<StageFlow> flows;  ///< over all rounds
  int rounds = 1;                ///< messages that must follow one another
  /// Round k+1 of a rank forwards what it got in round k, so the latencies of successive flows add up. Flows that close
  /// circles (rings) carry a message in every round; flows that form chains, one message each.
  /// Otherwise all flows of a round start together and the stage pays `rounds` times the longest latency.
  bool chained = false;
  double reduce_share = 0;  ///< blocks that the busiest rank reads to reduce
};

/// A way to do a collective: a pure function from shape and cluster to schedules. No I/O, no clock, no threads;
/// stateless and safe from any thread. Each algorithm states its steps and bytes in its folder's README.
///
/// Streams: (sender, receiver, stream) must be unique within a collective and known to both without talking.
class Algorithm {
 public:
  virtual ~Algorithm() = default;
  virtual std::string_view name() const = 0;
  /// The variants it offers for this shape on this cluster ("" = the only one); empty when it does not apply.
  virtual std::vector<std::string> variants(const CollectiveShape& shape, const Cluster& cluster) const = 0;
  /// About how many flows `stages` would list, where that grows faster than the number of ranks; 0: not that many. The
  /// planner leaves a candidate out before listing millions.
  virtual std::size_t flow_count(const CollectiveShape& /*shape*/, const Cluster& /*cluster*/,
                                 std::string_view /*variant*/) const {
    return 0;
  }
  /// Its stages, in the order of the phases of `build`.
  virtual std::vector<Stage> stages(const CollectiveShape& shape, const Cluster& cluster,
                                    std::string_view variant) const = 0;
  /// One rank's schedule, without building anybody else's. Variants that were not offered must not be asked for.
  virtual Schedule build(const CollectiveShape& shape, const Cluster& cluster, std::string_view variant,
                         int rank) const = 0;
};

}  // namespace longspan::spi
