#include "recursive/hypercube.hpp"

#include <algorithm>
#include <bit>

#include "longspan/spi/placement.hpp"

namespace longspan::spi {

Hypercube::Hypercube(const Cluster& cluster, int rank) : order_(ranks_by_place(cluster)) {
  dimensions_ = static_cast<int>(std::bit_width(order_.size())) - 1;
  const int position = static_cast<int>(std::find(order_.begin(), order_.end(), rank) - order_.begin());
  if (position >= 2 * extras()) {
    vertex_ = position - extras();
    return;
  }
  fold_partner_ = order_[static_cast<std::size_t>(position ^ 1)];
  if (position % 2 == 0) vertex_ = position / 2;
}

int Hypercube::rank_of(int vertex) const {
  return order_[static_cast<std::size_t>(vertex < extras() ? 2 * vertex : vertex + extras())];
}

int Hypercube::lowest_of_partner(int round) const {
  // After `round` rounds a vertex has the sum over those that agree with it in all bits from `round` on.
  const int first = (vertex_ ^ (1 << round)) >> round << round;
  int lowest = static_cast<int>(order_.size());
  for (int v = first; v < first + (1 << round); ++v) {
    lowest = std::min(lowest, rank_of(v));
    if (v < extras()) lowest = std::min(lowest, order_[2 * static_cast<std::size_t>(v) + 1]);
  }
  return lowest;
}

std::vector<std::pair<int, int>> Hypercube::folds() const {
  std::vector<std::pair<int, int>> pairs;
  for (int v = 0; v < extras(); ++v) {
    const std::size_t position = 2 * static_cast<std::size_t>(v);
    pairs.emplace_back(order_[position + 1], order_[position]);
  }
  return pairs;
}

}  // namespace longspan::spi
