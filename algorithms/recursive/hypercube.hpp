#pragma once

#include <string>
#include <utility>
#include <vector>

#include "longspan/topology.hpp"

namespace longspan::spi {

/// N ranks on the vertices of a hypercube of P = 2^d vertices, P <= N < 2P. The N-P extra ranks each belong to a
/// partner, their neighbour by place, that stands for both. Round k joins the vertices that differ in bit k, so the
/// first rounds, which in recursive halving carry the most, stay nearest.
class Hypercube {
 public:
  Hypercube(const Cluster& cluster, int rank);

  int vertices() const { return 1 << dimensions_; }
  int dimensions() const { return dimensions_; }
  int extras() const { return static_cast<int>(order_.size()) - vertices(); }
  int rank_of(int vertex) const;

  bool is_extra() const { return vertex_ < 0; }
  /// Of an extra rank: the one that stands for it. Of a vertex: the extra rank that it stands for, or -1.
  int fold_partner() const { return fold_partner_; }
  int partner(int round) const { return rank_of(vertex_ ^ (1 << round)); }
  bool upper(int round) const { return (vertex_ >> round & 1) != 0; }
  /// Lowest rank among those whose inputs the partner's partial sum holds in that round.
  int lowest_of_partner(int round) const;
  /// All (extra rank, partner).
  std::vector<std::pair<int, int>> folds() const;

  /// "allgather 3".
  static std::string phase_name(const char* what, int round) {
    return std::string(what) + " " + std::to_string(round + 1);
  }

 private:
  std::vector<int> order_;  ///< ranks by place; of the first 2 x extras, the odd ones are extra
  int dimensions_ = 0;
  int vertex_ = -1;
  int fold_partner_ = -1;
};

}  // namespace longspan::spi
