#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "longspan/schedule.hpp"
#include "longspan/spi/algorithm.hpp"
#include "longspan/status.hpp"
#include "longspan/topology.hpp"

namespace longspan {

struct CheckOptions {
  std::vector<std::uint32_t> chunks{1, 3};  ///< chunk counts that the deadlock check runs (1 if not chunkable)
  std::uint32_t window = 2;                 ///< chunks of one collective in flight on a rank
  std::uint32_t credits = 1;                ///< messages per directed pair that may go before their receive is posted
  /// Block lengths in elements for the concrete check; empty: 0, 1, N-1, N, N+1, primes.
  std::vector<std::size_t> counts;
  bool deadlocks = true;
};

/// Proves that the schedules of all ranks do the collective, for every size, by running them on symbols instead of
/// numbers. Success means:
///
/// - every message has one send and one receive, of the same elements; dependencies point backwards; chunking agrees
/// - no two steps of a rank touch the same memory unordered, out of place and in place (in_place_alias)
/// - nothing is read before it was written; every output holds every contribution exactly once, scaled once
/// - all ranks hold the same expression in the same place, so results are bit-identical; the operands of every reduce
///   are in increasing order of their lowest contributing rank ("never mine first")
/// - nobody leaves a barrier before everybody came
/// - no deadlock with `credits` and `window`, also with two collectives in flight in opposite orders, and also when
///   receivers read from the sender's memory (peer views)
/// - for `counts` and several chunk counts and element sizes, the parts cover every element exactly once
///
/// The error names rank, step and slice. Cost: about the number of steps times the pieces that the slices cut a block
/// in.
Status check(std::span<const Schedule> all_ranks, const Cluster& cluster, const CheckOptions& options = {});

/// Checks that an algorithm's stages say what its schedules do: the same phases, bytes for every pair of ranks, rounds
/// (longest chain of messages), and what the busiest rank reads to reduce.
Status check_stages(std::span<const Schedule> all_ranks, std::span<const spi::Stage> stages);

}  // namespace longspan
