#include "longspan/collective.hpp"

#include <array>
#include <string>

#include "longspan/schedule.hpp"

namespace longspan {
namespace {

constexpr std::array<std::string_view, kCollectiveCount> kNames{
    "allreduce", "allgather", "reduce_scatter", "broadcast", "reduce", "gather", "scatter", "alltoall", "barrier"};

// Cache-line multiples keep the parts of different owners off each other's lines and the kernels aligned.
constexpr std::size_t kEdgeBytes = 64;

std::size_t scaled(std::size_t count, std::uint64_t num, std::uint64_t den, std::size_t element_size) noexcept {
  if (num == 0) return 0;
  // A division of 128 bits is a function call of its own, and only counts beyond the reach of memory need it.
  const bool narrow = count <= UINT64_MAX / num;
  const auto exact = narrow ? static_cast<std::size_t>(count * num / den)
                            : static_cast<std::size_t>(static_cast<Uint128>(count) * num / den);
  const std::size_t step = kEdgeBytes / element_size;
  return exact / step * step;
}

}  // namespace

std::string_view name_of(Collective collective) noexcept { return kNames[static_cast<std::size_t>(collective)]; }

std::optional<Collective> parse_collective(std::string_view name) noexcept {
  const auto squeezed = [](std::string_view text) {
    std::string kept;
    for (const char c : text) {
      if (c != '_' && c != '-') kept.push_back(c);
    }
    return kept;
  };
  const std::string wanted = squeezed(name);
  for (std::size_t i = 0; i < kNames.size(); ++i) {
    if (squeezed(kNames[i]) == wanted) return static_cast<Collective>(i);
  }
  return std::nullopt;
}

int blocks_in(const CollectiveShape& shape, int ranks, int rank) noexcept {
  switch (shape.kind) {
    case Collective::kBarrier: return 0;
    case Collective::kScatter: return rank == shape.root ? ranks : 0;
    case Collective::kReduceScatter:
    case Collective::kAllToAll: return ranks;
    case Collective::kBroadcast: return rank == shape.root ? 1 : 0;
    default: return 1;
  }
}

int blocks_out(const CollectiveShape& shape, int ranks, int rank) noexcept {
  switch (shape.kind) {
    case Collective::kBarrier: return 0;
    case Collective::kGather: return rank == shape.root ? ranks : 0;
    case Collective::kReduce: return rank == shape.root ? 1 : 0;
    case Collective::kAllGather:
    case Collective::kAllToAll: return ranks;
    default: return 1;
  }
}

bool has_root(Collective kind) noexcept {
  return kind == Collective::kBroadcast || kind == Collective::kReduce || kind == Collective::kGather ||
         kind == Collective::kScatter;
}

bool reduces(Collective kind) noexcept {
  return kind == Collective::kAllReduce || kind == Collective::kReduce || kind == Collective::kReduceScatter;
}

std::size_t chunk_edge(std::size_t count, std::uint32_t chunk, std::uint32_t chunks,
                       std::size_t element_size) noexcept {
  if (chunk >= chunks) return count;
  if (chunk == 0) return 0;
  return scaled(count, chunk, chunks, element_size);
}

bool in_place_alias(const CollectiveShape& shape, int ranks, int rank, const Slice& slice, Slice& alias) noexcept {
  if (slice.buffer != BufferKind::kOut || blocks_in(shape, ranks, rank) == 0) return false;
  const auto own = static_cast<std::uint32_t>(rank);
  alias = slice;
  alias.buffer = BufferKind::kIn;
  switch (shape.kind) {
    case Collective::kAllReduce:
    case Collective::kReduce:
    case Collective::kBroadcast: return true;
    case Collective::kAllGather:
    case Collective::kGather:
      if (slice.block > own || own >= slice.block + slice.blocks) return false;
      alias.block = 0;
      alias.blocks = 1;
      return true;
    case Collective::kReduceScatter:
    case Collective::kScatter:
      alias.block = own;
      alias.blocks = 1;
      return true;
    // Both sides overwrite what they send, and a large send ends only when it was received: each would wait for the
    // other. The runtime gives an in-place call a copy of its input instead.
    case Collective::kAllToAll:
    case Collective::kBarrier: break;
  }
  return false;
}

ElementRange elements_of(Fraction begin, Fraction end, std::size_t count, std::uint32_t chunk, std::uint32_t chunks,
                         std::size_t element_size) noexcept {
  const std::size_t low = chunk_edge(count, chunk, chunks, element_size);
  const std::size_t length = chunk_edge(count, chunk + 1, chunks, element_size) - low;
  const auto edge = [&](Fraction f) {
    return f.num == f.den ? length : scaled(length, f.num, f.den, element_size);
  };
  const std::size_t first = edge(begin);
  return ElementRange{low + first, edge(end) - first};
}

}  // namespace longspan
