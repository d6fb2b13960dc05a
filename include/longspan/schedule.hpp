#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "longspan/collective.hpp"
#include "longspan/types.hpp"

namespace longspan {

/// An exact position inside a chunk of a block: num / den of its elements, 0 <= num <= den.
struct Fraction {
  std::uint64_t num = 0;
  std::uint64_t den = 1;

  friend bool operator==(const Fraction& a, const Fraction& b) noexcept { return (a <=> b) == 0; }
  friend std::strong_ordering operator<=>(const Fraction& a, const Fraction& b) noexcept {
    if (a.den == b.den) return a.num <=> b.num;
    return static_cast<Uint128>(a.num) * b.den <=> static_cast<Uint128>(b.num) * a.den;
  }
  double value() const noexcept { return static_cast<double>(num) / static_cast<double>(den); }
};
inline constexpr Fraction kZero{0, 1};
inline constexpr Fraction kOne{1, 1};

enum class BufferKind : std::uint8_t { kIn, kOut, kScratch };

/// A size-free range: blocks [block, block + blocks) of a buffer, and in the current chunk of each the elements from
/// `begin` to `end`. Several blocks only in schedules that are not `chunkable` (and then 0 to 1, so contiguous).
///
/// In scratch, `area` names the ScratchArea and (block, begin, end) are coordinates of that area's extent.
struct Slice {
  BufferKind buffer = BufferKind::kIn;
  std::uint32_t area = 0;
  std::uint32_t block = 0;
  std::uint32_t blocks = 1;
  Fraction begin = kZero;
  Fraction end = kOne;

  friend bool operator==(const Slice&, const Slice&) = default;
};

/// Temporary memory as large as `extent` (a slice of in or out; only the lengths of its blocks matter) in the largest
/// chunk; the executor keeps one per chunk in flight.
struct ScratchArea {
  Slice extent;
};

enum class StepKind : std::uint8_t { kSend, kRecv, kReduce, kCopy };

enum class DependencyKind : std::uint8_t {
  kData,   ///< the bytes that this step reads are there
  kReuse,  ///< the bytes that this step overwrites have been consumed, or retained by the transport
};

struct Dependency {
  std::uint32_t step = 0;
  DependencyKind kind = DependencyKind::kData;
};

/// What a reduce or copy reads. `from_recv` is the recv step that wrote it when that one recv covers it whole, else -1:
/// then the bytes may stay where the sender has them (a peer view).
struct Operand {
  Slice slice;
  std::int32_t from_recv = -1;
};

/// One node of a rank's DAG, a template instantiated for every chunk.
///
/// - kSend: operand 0 -> peer. kRecv: peer -> dst. A message is named by (source, destination, stream); stream is
///   unique among a pair's messages in one direction. A signal is a send or recv with `signal` set and no bytes.
/// - kReduce: dst = operand 0 op operand 1 op ..., in that order, one rounding at the end. dst may equal an operand.
/// - kCopy: dst = operand 0; a no-op where both are the same memory (in place).
struct Step {
  StepKind kind = StepKind::kCopy;
  Tier tier = Tier::kSelf;
  std::uint16_t phase = 0;  ///< index into the algorithm's stages
  bool signal = false;
  bool post_scale = false;  ///< kReduce: this makes the final value; avg divides here, before rounding
  bool view_ok = false;     ///< kRecv inside a host: only reduces and copies read it, so a peer view serves
  std::int32_t peer = -1;
  std::uint32_t stream = 0;
  std::uint32_t channel = 0;  ///< kSend, kRecv: index into Schedule::channels
  Slice dst;
  std::uint32_t operands_begin = 0, operands_count = 0;          ///< range of Schedule::operands
  std::uint32_t dependencies_begin = 0, dependencies_count = 0;  ///< range of Schedule::dependencies
};

/// A rank's traffic with one peer. `order` is when this rank first sends on it (0 first).
struct ScheduleChannel {
  std::int32_t peer = -1;
  Tier tier = Tier::kSelf;
  std::uint32_t order = 0;
  double send_share = 0;  ///< bytes sent on it over the whole collective, in blocks
  double recv_share = 0;
  std::uint32_t sends = 0;  ///< messages, those without bytes too: a barrier's signals
  std::uint32_t recvs = 0;
};

/// One rank's part of a collective, free of sizes: the DAG that the checker proves, the simulator times and the
/// executor runs. Steps are in an order in which they can run one after the other.
struct Schedule {
  CollectiveShape shape;
  std::string algorithm;  ///< "hierarchical:one-shot"
  int ranks = 1;
  int rank = 0;
  bool chunkable = true;  ///< may be cut into several chunks; false when a slice spans several blocks
  std::vector<std::string> phases;
  std::vector<Step> steps;
  std::vector<Operand> operands;
  std::vector<Dependency> dependencies;
  std::vector<ScratchArea> scratch;
  std::vector<ScheduleChannel> channels;
};

/// The slice of `in` that is the same memory as `slice` of `out` when the call is in place, as NCCL and MPI define it
/// (docs/algorithms.md); false when there is none. One rank's view: a slice it has no buffer for aliases nothing.
bool in_place_alias(const CollectiveShape& shape, int ranks, int rank, const Slice& slice, Slice& alias) noexcept;

/// Length in elements, and first element relative to the start of its block, of [begin, end) in chunk `chunk` of a
/// block of `count` elements. Inner edges fall on multiples of 64 bytes (relative to the block), the same on both ends.
struct ElementRange {
  std::size_t offset = 0;
  std::size_t length = 0;
};
ElementRange elements_of(Fraction begin, Fraction end, std::size_t count, std::uint32_t chunk, std::uint32_t chunks,
                         std::size_t element_size) noexcept;

}  // namespace longspan
