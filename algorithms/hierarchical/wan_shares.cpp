#include "hierarchical/wan_shares.hpp"

#include <algorithm>
#include <cmath>

namespace longspan::hierarchical {
namespace {

constexpr double kBytesPerMegabit = 125000;

// The simplex method on a dense tableau: rows are constraints (slack basis first), the last column the limits, the last
// row the gains. The rows are edges of a graph, so a basis splits into parts with one odd cycle at most and its inverse
// holds only 0, 1 and 1/2: with whole limits doubles are exact, and all ranks find the same shares.
class Simplex {
 public:
  explicit Simplex(std::size_t variables) : variables_(variables), gains_(variables + 1, -1.0) { gains_.back() = 0; }

  void at_most(std::size_t a, std::size_t b, double limit) {
    std::vector<double> row(variables_ + 1, 0.0);
    row[a] = row[b] = 1;
    row.back() = limit;
    rows_.push_back(std::move(row));
  }

  std::vector<double> maximise_sum() {
    // Column j stands for variable names_[j]; row i for variable basis_[i]. Slacks come after the y.
    for (std::size_t j = 0; j < variables_; ++j) names_.push_back(j);
    for (std::size_t i = 0; i < rows_.size(); ++i) basis_.push_back(variables_ + i);
    for (std::size_t column = entering(); column < variables_; column = entering()) {
      const std::size_t row = leaving(column);
      if (row == rows_.size()) break;
      pivot(row, column);
    }
    std::vector<double> values(variables_, 0.0);
    for (std::size_t i = 0; i < rows_.size(); ++i) {
      if (basis_[i] < variables_) values[basis_[i]] = rows_[i].back();
    }
    return values;
  }

 private:
  // Bland's rule (the lowest name of those that help) ends also where many solutions are alike.
  std::size_t entering() const {
    std::size_t best = variables_;
    for (std::size_t j = 0; j < variables_; ++j) {
      if (gains_[j] < 0 && (best == variables_ || names_[j] < names_[best])) best = j;
    }
    return best;
  }

  std::size_t leaving(std::size_t column) const {
    std::size_t best = rows_.size();
    for (std::size_t i = 0; i < rows_.size(); ++i) {
      if (rows_[i][column] <= 0) continue;
      if (best == rows_.size()) {
        best = i;
        continue;
      }
      const double mine = rows_[i].back() * rows_[best][column];
      const double other = rows_[best].back() * rows_[i][column];
      if (mine < other || (mine == other && basis_[i] < basis_[best])) best = i;
    }
    return best;
  }

  void pivot(std::size_t row, std::size_t column) {
    const double by = rows_[row][column];
    rows_[row][column] = 1;
    for (double& value : rows_[row]) value /= by;
    const auto eliminate = [&](std::vector<double>& other) {
      const double factor = other[column];
      other[column] = 0;
      for (std::size_t j = 0; j <= variables_; ++j) other[j] -= factor * rows_[row][j];
    };
    for (std::size_t i = 0; i < rows_.size(); ++i) {
      if (i != row) eliminate(rows_[i]);
    }
    eliminate(gains_);
    std::swap(names_[column], basis_[row]);
  }

  std::size_t variables_;
  std::vector<std::vector<double>> rows_;
  std::vector<double> gains_;
  std::vector<std::size_t> names_, basis_;
};

}  // namespace

std::vector<std::uint64_t> wan_shares(const Topology& topology, std::span<const int> regions) {
  Simplex program(regions.size());
  for (std::size_t g = 0; g < regions.size(); ++g) {
    for (std::size_t h = g + 1; h < regions.size(); ++h) {
      const WanLink* there = topology.wan_link(regions[g], regions[h]);
      const WanLink* back = topology.wan_link(regions[h], regions[g]);
      if (there == nullptr || back == nullptr) return std::vector<std::uint64_t>(regions.size(), 1);
      const double slower = std::min(there->bandwidth.bytes_per_second, back->bandwidth.bytes_per_second);
      program.at_most(g, h, std::max(1.0, std::round(slower / kBytesPerMegabit)));
    }
  }
  std::vector<std::uint64_t> shares;
  for (const double y : program.maximise_sum()) shares.push_back(static_cast<std::uint64_t>(std::llround(2 * y)));
  return shares;
}

}  // namespace longspan::hierarchical
