#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "longspan/schedule.hpp"

namespace longspan::hierarchical {

/// A part [begin, end) of a chunk, in exact fractions: both ends of a message compute the same edges.
struct Interval {
  Fraction begin = kZero;
  Fraction end = kOne;

  bool empty() const noexcept { return begin >= end; }
  bool contains(const Interval& inner) const noexcept { return begin <= inner.begin && inner.end <= end; }
  double length() const noexcept { return end.value() - begin.value(); }
  friend bool operator==(const Interval&, const Interval&) = default;
};

struct Segment {
  Interval span;
  int rank = 0;
};

/// Who owns which part of [0, 1): sorted, without gaps or overlaps; neighbours have different owners. A rank may own
/// several intervals.
using Partition = std::vector<Segment>;

/// A part that the holder `from` hands to the owner `to`; from == to when it need not move.
struct Piece {
  int from = 0;
  int to = 0;
  Interval span;
};

/// One rank owns everything.
Partition whole(int rank);

/// The point a / b of the way from begin to end of `span`, exact while denominators stay below 2^32, else rounded down
/// to a grid (monotone in `a`, never outside of `span`).
Fraction point_in(const Interval& span, std::uint64_t a, std::uint64_t b);

/// `span` as seen when [index / count, (index + 1) / count) becomes [0, 1), cut to it; empty when outside.
Interval zoom(const Interval& span, std::uint64_t index, std::uint64_t count);

Interval intersection(const Interval& a, const Interval& b);

/// [0, 1) dealt to `ranks` in order, in proportion to `weights`.
Partition deal(std::span<const int> ranks, std::span<const std::uint64_t> weights);

/// Cuts [0, 1) where any of `parts` changes its owner, and deals each such atom to the atom's owners in proportion to
/// `weights`. So every owner's new share lies inside what it owned before, and what it takes over from the others is
/// the same part of theirs: no byte moves twice.
Partition nest(std::span<const Partition* const> parts, std::span<const std::uint64_t> weights);

/// Everything that must go from its holder to its owner, in ascending order, each piece as long as possible.
std::vector<Piece> transfers(const Partition& holders, const Partition& owners);

/// As `transfers`, only what `rank` owns (its own included).
std::vector<Piece> transfers_to(const Partition& holders, const Partition& owners, int rank);

/// Divides by the common divisor, and scales down where one is far over the others (denominators stay small).
void normalise(std::vector<std::uint64_t>& weights);

}  // namespace longspan::hierarchical
