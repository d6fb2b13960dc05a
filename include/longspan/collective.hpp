#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "longspan/export.hpp"
#include "longspan/types.hpp"

namespace longspan {

/// What a group of ranks does together. `in` and `out` are made of blocks (see `blocks_in`, `blocks_out`).
enum class Collective : std::uint8_t {
  kAllReduce,      ///< in: 1 block, out: 1 block on every rank
  kAllGather,      ///< in: 1 block, out: N blocks, block r is rank r's input
  kReduceScatter,  ///< in: N blocks, out: 1 block, the reduction of everyone's block r
  kBroadcast,      ///< in: 1 block at root, out: 1 block
  kReduce,         ///< in: 1 block, out: 1 block at root
  kGather,         ///< in: 1 block, out: N blocks at root
  kScatter,        ///< in: N blocks at root, out: 1 block
  kAllToAll,       ///< in: N blocks, out: N blocks; in block j of rank i becomes out block i of rank j
  kBarrier,        ///< no data; nobody leaves before everybody came
};
inline constexpr int kCollectiveCount = 9;

/// "allreduce", "allgather", "reduce_scatter", ...
LONGSPAN_API std::string_view name_of(Collective collective) noexcept;
/// Also accepts "all_reduce" and "all-reduce".
LONGSPAN_API std::optional<Collective> parse_collective(std::string_view name) noexcept;

/// What planning knows of a collective besides its size.
struct CollectiveShape {
  Collective kind = Collective::kAllReduce;
  int root = 0;
  /// Blocks differ in length (allgatherv, reduce_scatterv): known to all ranks.
  bool uneven = false;
  /// Lengths are known only to the two ranks that exchange a block (gatherv, scatterv, alltoallv): blocks must go
  /// straight from their owner to their reader.
  bool private_lengths = false;

  friend bool operator==(const CollectiveShape&, const CollectiveShape&) = default;
};

/// Blocks of the input and output buffer of one rank (0 where that rank has none).
int blocks_in(const CollectiveShape& shape, int ranks, int rank) noexcept;
int blocks_out(const CollectiveShape& shape, int ranks, int rank) noexcept;
bool has_root(Collective kind) noexcept;
bool reduces(Collective kind) noexcept;

/// First element of chunk `chunk` of `chunks` in a block of `count` elements; chunk == chunks gives `count`.
/// Edges fall on multiples of 64 bytes, and are the same on both ends of a transfer.
std::size_t chunk_edge(std::size_t count, std::uint32_t chunk, std::uint32_t chunks, std::size_t element_size) noexcept;

}  // namespace longspan
