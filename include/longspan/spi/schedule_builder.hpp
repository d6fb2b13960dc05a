#pragma once

#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <vector>

#include "longspan/schedule.hpp"
#include "longspan/topology.hpp"

namespace longspan::spi {

/// Writes one rank's Schedule as if its steps ran one after the other; the dependencies follow from what each step
/// reads and writes (data: last writers; reuse: earlier readers and writers of what is overwritten), with `in` and
/// `out` treated as the same memory wherever an in-place call makes them so. The result is race-free by construction.
///
///     ScheduleBuilder b(shape, cluster, rank, "ring");
///     b.phase("reduce-scatter");
///     auto got = b.scratch(out(0, {1, 4}, {2, 4}));         // an area as long as that slice
///     b.recv(left, stream, got);
///     b.reduce(b.out(0, {1,4}, {2,4}), {b.in(0, {1,4}, {2,4}), got});
class ScheduleBuilder {
 public:
  ScheduleBuilder(const CollectiveShape& shape, const Cluster& cluster, int rank, std::string algorithm);

  /// Starts a phase; later steps belong to it. Phases are the algorithm's stages, in the same order on every rank.
  void phase(std::string name);

  static Slice in(std::uint32_t block = 0, Fraction begin = kZero, Fraction end = kOne) {
    return Slice{BufferKind::kIn, 0, block, 1, begin, end};
  }
  static Slice out(std::uint32_t block = 0, Fraction begin = kZero, Fraction end = kOne) {
    return Slice{BufferKind::kOut, 0, block, 1, begin, end};
  }
  /// Consecutive whole blocks as one slice; makes the schedule not chunkable when blocks > 1.
  static Slice in_blocks(std::uint32_t first, std::uint32_t blocks) {
    return Slice{BufferKind::kIn, 0, first, blocks, kZero, kOne};
  }
  static Slice out_blocks(std::uint32_t first, std::uint32_t blocks) {
    return Slice{BufferKind::kOut, 0, first, blocks, kZero, kOne};
  }
  /// A new scratch area as long as `extent` (in or out), and the slice that covers it whole.
  Slice scratch(const Slice& extent);
  /// The part [begin, end) (chunk coordinates) of block `block` of a slice; same buffer and area.
  static Slice part(const Slice& of, std::uint32_t block, Fraction begin, Fraction end) {
    return Slice{of.buffer, of.area, block, 1, begin, end};
  }

  std::uint32_t send(int peer, std::uint32_t stream, const Slice& source);
  std::uint32_t recv(int peer, std::uint32_t stream, const Slice& destination);
  /// A recv that never leaves its bytes with the sender (Step::view_ok stays false): for exchanges in which both sides
  /// overwrite what they sent with what they got, where each would wait for the other to have read it.
  std::uint32_t recv_copied(int peer, std::uint32_t stream, const Slice& destination);
  /// Says that this schedule must run as one chunk. Ranks must agree: call it on all if a slice of any spans blocks.
  void whole_messages() { schedule_.chunkable = false; }
  /// A message without bytes.
  std::uint32_t send_signal(int peer, std::uint32_t stream, std::span<const std::uint32_t> after);
  std::uint32_t recv_signal(int peer, std::uint32_t stream);
  /// dst = operands in this order (canonical: by rank of the first contributor), one rounding.
  std::uint32_t reduce(const Slice& dst, std::span<const Slice> operands, bool final_value);
  std::uint32_t reduce(const Slice& dst, std::initializer_list<Slice> operands, bool final_value) {
    return reduce(dst, std::span<const Slice>(operands.begin(), operands.size()), final_value);
  }
  std::uint32_t copy(const Slice& dst, const Slice& source);

  int rank() const noexcept { return schedule_.rank; }
  int ranks() const noexcept { return schedule_.ranks; }
  /// The finished schedule; the builder is empty afterwards.
  Schedule finish();

 private:
  struct Access {
    Slice slice;
    std::uint32_t step;
    bool write;
  };
  /// The accesses to one block that later steps may still depend on. Once there are many, those to a small part of it
  /// lie in buckets, one per 64th that they touch, so that an algorithm with thousands of parts is not quadratic.
  struct Accesses {
    std::vector<Access> wide;
    std::vector<std::vector<Access>> buckets;
    void add(const Access& access);
    /// Calls visit(list) for the lists that may hold accesses overlapping `slice`.
    template <class Visit>
    void each_list(const Slice& slice, Visit&& visit);
  };
  std::uint32_t add(Step step, std::span<const Slice> reads, const Slice* write);
  void depend_on(const Slice& slice, bool writes, std::vector<Dependency>& found);
  void record(const Slice& slice, std::uint32_t step, bool write);
  Accesses& accesses_of(BufferKind buffer, std::uint32_t area, std::uint32_t block);
  /// A send or recv, counted on its channel.
  Step message(StepKind kind, int peer, std::uint32_t stream);
  /// Sets from_recv of what `reader` reads from scratch, or marks the recvs that wrote part of it as not viewable.
  void resolve_writers(const Step& reader, std::vector<bool>& viewable);

  const Cluster* cluster_;
  Schedule schedule_;
  std::vector<Accesses> in_, out_, scratch_;  // per block, and per scratch area
  std::vector<std::int32_t> channel_of_;      // per peer; -1: none yet
  std::vector<std::uint32_t> copied_;  ///< recvs that must not be views
};

}  // namespace longspan::spi
