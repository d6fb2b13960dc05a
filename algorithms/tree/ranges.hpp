#pragma once

#include <vector>

namespace longspan::spi {

/// A k-nomial tree over positions 0..n-1, any n: a range is led by its first position; it is split into k nearly equal
/// parts, whose leaders are the leader's children; and so on. Subtrees are contiguous, so they can be as local as the
/// positions are, and the far parts are served first.
class RangeTree {
 public:
  RangeTree(int positions, int arity) : positions_(positions), arity_(arity) {}

  struct Range {
    int first = 0;
    int last = 0;  ///< one past the end
    int size() const { return last - first; }
  };
  /// What happens at one level around one position.
  struct Level {
    Range subtree;                ///< what this position leads once it has been reached (or before it hands over)
    int parent = -1;              ///< >= 0: this position is reached at this level, from there
    std::vector<Range> children;  ///< this position reaches their first positions at this level
  };

  int depth() const {
    int levels = 0;
    for (int size = positions_; size > 1; size = (size + arity_ - 1) / arity_) ++levels;
    return levels;
  }

  /// One entry per level, from the root down; a level in which the position does nothing is empty.
  std::vector<Level> levels_of(int position) const {
    std::vector<Level> levels(static_cast<std::size_t>(depth()));
    Range range{0, positions_};
    for (Level& level : levels) {
      Range own = range;
      for (const Range& part : parts_of(range)) {
        const bool holds = part.first <= position && position < part.last;
        if (holds) own = part;
        if (range.first == position && part.first != position) level.children.push_back(part);
        if (holds && part.first == position && range.first != position) {
          level.parent = range.first;
          level.subtree = part;
        }
      }
      range = own;
    }
    return levels;
  }

  /// Calls visit(level, parent, part) for every edge of the tree.
  template <class Visit>
  void each_edge(Visit&& visit) const {
    std::vector<Range> ranges{Range{0, positions_}};
    for (int level = 0; level < depth(); ++level) {
      std::vector<Range> next;
      for (const Range& range : ranges) {
        for (const Range& part : parts_of(range)) {
          if (part.first != range.first) visit(level, range.first, part);
          next.push_back(part);
        }
      }
      ranges = std::move(next);
    }
  }

 private:
  std::vector<Range> parts_of(const Range& range) const {
    std::vector<Range> parts;
    for (int i = 0; i < arity_; ++i) {
      const Range part{range.first + range.size() * i / arity_, range.first + range.size() * (i + 1) / arity_};
      if (part.size() > 0) parts.push_back(part);
    }
    return parts;
  }

  int positions_;
  int arity_;
};

}  // namespace longspan::spi
