#include "hierarchical/intervals.hpp"

#include <algorithm>
#include <numeric>

namespace longspan::hierarchical {
namespace {

constexpr std::uint64_t kLargestDenominator = std::uint64_t{1} << 32;
constexpr std::uint64_t kGrid = std::uint64_t{1} << 30;
constexpr std::uint64_t kLargestWeight = 4096;

Uint128 common_divisor(Uint128 a, Uint128 b) {
  while (b != 0) {
    const Uint128 rest = a % b;
    a = b;
    b = rest;
  }
  return a;
}

Fraction reduced(Uint128 num, Uint128 den) {
  const Uint128 divisor = common_divisor(num, den);
  num /= divisor;
  den /= divisor;
  if (den <= kLargestDenominator) return Fraction{static_cast<std::uint64_t>(num), static_cast<std::uint64_t>(den)};
  return Fraction{static_cast<std::uint64_t>(num * kGrid / den), kGrid};
}

void append(Partition& partition, const Interval& span, int rank) {
  if (span.empty()) return;
  if (!partition.empty() && partition.back().rank == rank && partition.back().span.end == span.begin) {
    partition.back().span.end = span.end;
  } else {
    partition.push_back(Segment{span, rank});
  }
}

void deal_into(Partition& partition, const Interval& span, std::span<const int> ranks,
               std::span<const std::uint64_t> weights) {
  const std::uint64_t total = std::accumulate(weights.begin(), weights.end(), std::uint64_t{0});
  std::uint64_t sum = 0;
  Fraction begin = span.begin;
  for (std::size_t i = 0; i < ranks.size(); ++i) {
    sum += weights[i];
    const Fraction end = sum == total ? span.end : point_in(span, sum, total);
    append(partition, Interval{begin, end}, ranks[i]);
    begin = end;
  }
}

}  // namespace

Partition whole(int rank) { return Partition{Segment{Interval{}, rank}}; }

Fraction point_in(const Interval& span, std::uint64_t a, std::uint64_t b) {
  const auto [p, q] = span.begin;
  const auto [r, s] = span.end;
  const Uint128 num = static_cast<Uint128>(p) * s * (b - a) + static_cast<Uint128>(r) * q * a;
  const Fraction point = reduced(num, static_cast<Uint128>(q) * s * b);
  return std::max(point, span.begin);
}

Interval intersection(const Interval& a, const Interval& b) {
  return Interval{std::max(a.begin, b.begin), std::min(a.end, b.end)};
}

Interval zoom(const Interval& span, std::uint64_t index, std::uint64_t count) {
  const Interval window{Fraction{index, count}, Fraction{index + 1, count}};
  const Interval cut = intersection(span, window);
  if (cut.empty()) return Interval{kZero, kZero};
  const auto scaled = [&](Fraction f) {
    const Uint128 den = f.den;
    return reduced(static_cast<Uint128>(f.num) * count - den * index, den);
  };
  return Interval{cut.begin == window.begin ? kZero : scaled(cut.begin),
                  cut.end == window.end ? kOne : scaled(cut.end)};
}

Partition deal(std::span<const int> ranks, std::span<const std::uint64_t> weights) {
  Partition partition;
  deal_into(partition, Interval{}, ranks, weights);
  return partition;
}

Partition nest(std::span<const Partition* const> parts, std::span<const std::uint64_t> weights) {
  std::vector<Fraction> edges;
  for (const Partition* part : parts) {
    for (const Segment& segment : *part) edges.push_back(segment.span.begin);
  }
  std::sort(edges.begin(), edges.end());
  edges.erase(std::unique(edges.begin(), edges.end()), edges.end());
  Partition nested;
  std::vector<std::size_t> at(parts.size(), 0);
  std::vector<int> owners(parts.size());
  for (std::size_t e = 0; e < edges.size(); ++e) {
    const Interval atom{edges[e], e + 1 < edges.size() ? edges[e + 1] : kOne};
    for (std::size_t i = 0; i < parts.size(); ++i) {
      while ((*parts[i])[at[i]].span.end <= atom.begin) ++at[i];
      owners[i] = (*parts[i])[at[i]].rank;
    }
    deal_into(nested, atom, owners, weights);
  }
  return nested;
}

std::vector<Piece> transfers(const Partition& holders, const Partition& owners) {
  std::vector<Piece> pieces;
  std::size_t h = 0;
  std::size_t o = 0;
  while (h < holders.size() && o < owners.size()) {
    const Interval span = intersection(holders[h].span, owners[o].span);
    if (!span.empty()) pieces.push_back(Piece{holders[h].rank, owners[o].rank, span});
    const bool holder_ends = holders[h].span.end <= owners[o].span.end;
    const bool owner_ends = owners[o].span.end <= holders[h].span.end;
    h += holder_ends ? 1 : 0;
    o += owner_ends ? 1 : 0;
  }
  return pieces;
}

std::vector<Piece> transfers_to(const Partition& holders, const Partition& owners, int rank) {
  std::vector<Piece> pieces;
  auto from = holders.begin();
  for (const Segment& owned : owners) {
    if (owned.rank != rank) continue;
    from = std::partition_point(from, holders.end(), [&](const Segment& s) { return s.span.end <= owned.span.begin; });
    for (auto it = from; it != holders.end() && it->span.begin < owned.span.end; ++it) {
      pieces.push_back(Piece{it->rank, rank, intersection(it->span, owned.span)});
    }
  }
  return pieces;
}

void normalise(std::vector<std::uint64_t>& weights) {
  const auto divide = [&] {
    std::uint64_t divisor = 0;
    for (const std::uint64_t w : weights) divisor = std::gcd(divisor, w);
    for (std::uint64_t& w : weights) w = divisor == 0 ? 1 : w / divisor;
  };
  divide();
  if (weights.empty()) return;
  const std::uint64_t most = *std::max_element(weights.begin(), weights.end());
  if (most <= kLargestWeight) return;
  for (std::uint64_t& w : weights) {
    if (w > 0)
      w = std::max<std::uint64_t>(1, static_cast<std::uint64_t>(static_cast<Uint128>(w) * kLargestWeight / most));
  }
  divide();
}

}  // namespace longspan::hierarchical
