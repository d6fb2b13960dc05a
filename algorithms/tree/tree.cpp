#include <algorithm>
#include <array>
#include <charconv>
#include <iterator>

#include "longspan/spi/algorithm.hpp"
#include "longspan/spi/placement.hpp"
#include "tree/ranges.hpp"

namespace longspan::spi {
namespace {

using Range = RangeTree::Range;

constexpr std::array<std::string_view, 3> kArities{"2", "4", "8"};

int arity_of(std::string_view variant) {
  int arity = 2;
  std::from_chars(variant.data(), variant.data() + variant.size(), arity);
  return arity;
}

std::string level_name(const char* what, int level) { return std::string(what) + " " + std::to_string(level + 1); }

/// A tree with ranks at its positions, the root at position 0.
class PlacedTree {
 public:
  PlacedTree(std::vector<int> order, int root, int arity)
      : order_(std::move(order)), tree_(static_cast<int>(order_.size()), arity) {
    std::rotate(order_.begin(), std::find(order_.begin(), order_.end(), root), order_.end());
  }
  static PlacedTree by_place(const Cluster& cluster, int root, int arity) {
    return PlacedTree(ranks_by_place(cluster), root, arity);
  }
  /// In rank order, so that the blocks of a subtree are consecutive in the root's buffer.
  static PlacedTree by_rank(int ranks, int root, int arity) {
    std::vector<int> order;
    for (int r = 0; r < ranks; ++r) order.push_back(r);
    return PlacedTree(std::move(order), root, arity);
  }

  const RangeTree& tree() const { return tree_; }
  int rank_at(int position) const { return order_[static_cast<std::size_t>(position)]; }
  int position_of(int rank) const {
    return static_cast<int>(std::find(order_.begin(), order_.end(), rank) - order_.begin());
  }
  int lowest_in(const Range& range) const {
    return *std::min_element(order_.begin() + range.first, order_.begin() + range.last);
  }
  /// The blocks of a subtree as at most two runs of consecutive ones: visit(first block, blocks, run).
  template <class Visit>
  void each_run(const Range& range, Visit&& visit) const {
    const int n = static_cast<int>(order_.size());
    const int first = rank_at(range.first);
    const int until_end = std::min(range.size(), n - first);
    visit(static_cast<std::uint32_t>(first), static_cast<std::uint32_t>(until_end), 0u);
    if (range.size() > until_end) visit(0u, static_cast<std::uint32_t>(range.size() - until_end), 1u);
  }

 private:
  std::vector<int> order_;
  RangeTree tree_;
};

// A pair exchanges one message up and one down, and streams are counted apart for each direction.
constexpr std::uint32_t kStream = 0;

/// From the root down. `source` is what the root sends.
void build_broadcast(ScheduleBuilder& b, const PlacedTree& placed, const Slice& source) {
  const auto levels = placed.tree().levels_of(placed.position_of(b.rank()));
  for (std::size_t level = 0; level < levels.size(); ++level) {
    b.phase(level_name("broadcast", static_cast<int>(level)));
    if (levels[level].parent >= 0) b.recv(placed.rank_at(levels[level].parent), kStream, b.out());
    for (const Range& child : levels[level].children) b.send(placed.rank_at(child.first), kStream, source);
  }
}

/// From the leaves up; each level is one reduce, operands in the order of their lowest ranks.
void build_reduce(ScheduleBuilder& b, const PlacedTree& placed) {
  struct Operand {
    int lowest;
    Slice slice;
  };
  const int position = placed.position_of(b.rank());
  const auto levels = placed.tree().levels_of(position);
  Operand mine{b.rank(), b.in()};
  for (std::size_t level = levels.size(); level-- > 0;) {
    b.phase(level_name("reduce", static_cast<int>(levels.size() - 1 - level)));
    const auto& at = levels[level];
    if (at.parent >= 0) b.send(placed.rank_at(at.parent), kStream, mine.slice);
    if (at.children.empty()) continue;
    std::vector<Operand> operands{mine};
    for (const Range& child : at.children) {
      operands.push_back({placed.lowest_in(child), b.scratch(b.in())});
      b.recv(placed.rank_at(child.first), kStream, operands.back().slice);
    }
    const bool last = level == 0;
    const Slice sum = last ? b.out() : operands[1].slice;
    std::sort(operands.begin(), operands.end(), [](const Operand& x, const Operand& y) { return x.lowest < y.lowest; });
    std::vector<Slice> slices;
    for (const Operand& operand : operands) slices.push_back(operand.slice);
    b.reduce(sum, slices, last);
    mine = Operand{operands[0].lowest, sum};
  }
}

/// Where a rank below the root keeps the blocks of its subtree: a scratch area for each run of them.
class Holding {
 public:
  Holding() = default;  ///< of the root and of leaves, which use the caller's buffers
  Holding(ScheduleBuilder& b, const PlacedTree& placed, const Range& subtree, BufferKind like) {
    placed.each_run(subtree, [&](std::uint32_t first, std::uint32_t blocks, std::uint32_t) {
      areas_.push_back(b.scratch(Slice{like, 0, first, blocks, kZero, kOne}));
    });
  }
  Slice blocks(std::uint32_t first, std::uint32_t blocks) const {
    for (Slice area : areas_) {
      if (first < area.block || first >= area.block + area.blocks) continue;
      area.block = first;
      area.blocks = blocks;
      return area;
    }
    return {};
  }

 private:
  std::vector<Slice> areas_;
};

/// The subtree that a position leads: what it is reached with.
Range subtree_of(const std::vector<RangeTree::Level>& levels, int ranks) {
  for (const auto& level : levels) {
    if (level.parent >= 0) return level.subtree;
  }
  return Range{0, ranks};
}

void build_gather(ScheduleBuilder& b, const PlacedTree& placed, int root) {
  b.whole_messages();
  const auto own = static_cast<std::uint32_t>(b.rank());
  const auto levels = placed.tree().levels_of(placed.position_of(b.rank()));
  const Range subtree = subtree_of(levels, b.ranks());
  const bool is_root = b.rank() == root;
  const bool leaf = subtree.size() == 1;
  const Holding holding = is_root || leaf ? Holding() : Holding(b, placed, subtree, BufferKind::kOut);
  const auto place = [&](std::uint32_t first, std::uint32_t blocks) {
    return is_root ? b.out_blocks(first, blocks) : leaf ? b.in() : holding.blocks(first, blocks);
  };
  for (std::size_t level = levels.size(); level-- > 0;) {
    b.phase(level_name("gather", static_cast<int>(levels.size() - 1 - level)));
    if (level + 1 == levels.size() && (is_root || !leaf)) b.copy(place(own, 1), b.in());
    for (const Range& child : levels[level].children) {
      placed.each_run(child, [&](std::uint32_t first, std::uint32_t blocks, std::uint32_t run) {
        b.recv(placed.rank_at(child.first), run, place(first, blocks));
      });
    }
    if (levels[level].parent < 0) continue;
    placed.each_run(subtree, [&](std::uint32_t first, std::uint32_t blocks, std::uint32_t run) {
      b.send(placed.rank_at(levels[level].parent), run, place(first, blocks));
    });
  }
}

void build_scatter(ScheduleBuilder& b, const PlacedTree& placed, int root) {
  b.whole_messages();
  const auto own = static_cast<std::uint32_t>(b.rank());
  const auto levels = placed.tree().levels_of(placed.position_of(b.rank()));
  const Range subtree = subtree_of(levels, b.ranks());
  const bool is_root = b.rank() == root;
  const bool leaf = subtree.size() == 1;
  const Holding holding = is_root || leaf ? Holding() : Holding(b, placed, subtree, BufferKind::kIn);
  const auto place = [&](std::uint32_t first, std::uint32_t blocks) {
    return is_root ? b.in_blocks(first, blocks) : leaf ? b.out() : holding.blocks(first, blocks);
  };
  for (std::size_t level = 0; level < levels.size(); ++level) {
    b.phase(level_name("scatter", static_cast<int>(level)));
    if (is_root && level == 0) b.copy(b.out(), place(own, 1));
    if (levels[level].parent >= 0) {
      placed.each_run(subtree, [&](std::uint32_t first, std::uint32_t blocks, std::uint32_t run) {
        b.recv(placed.rank_at(levels[level].parent), run, place(first, blocks));
      });
      if (!leaf) b.copy(b.out(), place(own, 1));
    }
    for (const Range& child : levels[level].children) {
      placed.each_run(child, [&](std::uint32_t first, std::uint32_t blocks, std::uint32_t run) {
        b.send(placed.rank_at(child.first), run, place(first, blocks));
      });
    }
  }
}

enum class Direction { kDown, kUp };
enum class Amount { kBlock, kSubtree };

/// A stage per level of the tree, in the order in which `direction` goes through them.
std::vector<Stage> level_stages(const PlacedTree& placed, const char* name, Direction direction, Amount amount,
                                bool reducing) {
  const int depth = placed.tree().depth();
  std::vector<Stage> stages(static_cast<std::size_t>(depth));
  const bool up = direction == Direction::kUp;
  for (int i = 0; i < depth; ++i) stages[static_cast<std::size_t>(i)].name = level_name(name, i);
  std::vector<int> served(stages.size());
  std::vector<int> last_parent(stages.size(), -1);
  placed.tree().each_edge([&](int level, int parent, const Range& part) {
    const auto i = static_cast<std::size_t>(up ? depth - 1 - level : level);
    const int top = placed.rank_at(parent);
    const int below = placed.rank_at(part.first);
    const double share = amount == Amount::kBlock ? 1 : part.size();
    stages[i].flows.push_back(up ? StageFlow{below, top, share} : StageFlow{top, below, share});
    if (last_parent[i] != parent) served[i] = 0;
    last_parent[i] = parent;
    if (reducing) stages[i].reduce_share = std::max(stages[i].reduce_share, 1.0 + ++served[i]);
  });
  return stages;
}

/// A k-nomial tree, k = 2 (binomial), 4 or 8: about log_k N levels, at each of which a rank serves up to k-1 others.
///
/// N ranks, S bytes per block; levels = ceil(log_k N):
/// - broadcast, reduce: levels steps; the busiest rank sends (receives) S (k-1) levels
/// - allreduce: reduce to the first rank by place and broadcast from it, 2 levels steps: for small messages
/// - gather, scatter: levels steps, S (N-1) at the root; equal blocks
class Tree final : public Algorithm {
 public:
  std::string_view name() const override { return "tree"; }

  std::vector<std::string> variants(const CollectiveShape& shape, const Cluster& cluster) const override {
    if (cluster.size() < 2 || shape.private_lengths || shape.uneven) return {};
    switch (shape.kind) {
      case Collective::kAllReduce:
      case Collective::kBroadcast:
      case Collective::kReduce:
      case Collective::kGather:
      case Collective::kScatter: break;
      default: return {};
    }
    std::vector<std::string> offered;
    for (const std::string_view arity : kArities) {
      // A wider tree than there are ranks is the same as one of their number: direct.
      if (arity == kArities.front() || arity_of(arity) < cluster.size()) offered.emplace_back(arity);
    }
    return offered;
  }

  std::vector<Stage> stages(const CollectiveShape& shape, const Cluster& cluster,
                            std::string_view variant) const override {
    const int arity = arity_of(variant);
    const auto by_place = [&] { return PlacedTree::by_place(cluster, hub_of(shape, cluster), arity); };
    const auto by_rank = [&] { return PlacedTree::by_rank(cluster.size(), shape.root, arity); };
    switch (shape.kind) {
      case Collective::kBroadcast:
        return level_stages(by_place(), "broadcast", Direction::kDown, Amount::kBlock, false);
      case Collective::kReduce: return level_stages(by_place(), "reduce", Direction::kUp, Amount::kBlock, true);
      case Collective::kGather: return level_stages(by_rank(), "gather", Direction::kUp, Amount::kSubtree, false);
      case Collective::kScatter: return level_stages(by_rank(), "scatter", Direction::kDown, Amount::kSubtree, false);
      default: break;
    }
    auto stages = level_stages(by_place(), "reduce", Direction::kUp, Amount::kBlock, true);
    auto down = level_stages(by_place(), "broadcast", Direction::kDown, Amount::kBlock, false);
    std::move(down.begin(), down.end(), std::back_inserter(stages));
    return stages;
  }

  Schedule build(const CollectiveShape& shape, const Cluster& cluster, std::string_view variant,
                 int rank) const override {
    ScheduleBuilder b(shape, cluster, rank, "tree:" + std::string(variant));
    const int arity = arity_of(variant);
    if (shape.kind == Collective::kGather || shape.kind == Collective::kScatter) {
      const PlacedTree placed = PlacedTree::by_rank(cluster.size(), shape.root, arity);
      shape.kind == Collective::kGather ? build_gather(b, placed, shape.root) : build_scatter(b, placed, shape.root);
      return b.finish();
    }
    const PlacedTree placed = PlacedTree::by_place(cluster, hub_of(shape, cluster), arity);
    switch (shape.kind) {
      case Collective::kReduce: build_reduce(b, placed); break;
      case Collective::kBroadcast: {
        const bool is_root = rank == shape.root;
        build_broadcast(b, placed, is_root ? b.in() : b.out());
        if (is_root) b.copy(b.out(), b.in());
        break;
      }
      default:
        build_reduce(b, placed);
        build_broadcast(b, placed, b.out());
        break;
    }
    return b.finish();
  }

 private:
  static int hub_of(const CollectiveShape& shape, const Cluster& cluster) {
    return has_root(shape.kind) ? shape.root : ranks_by_place(cluster).front();
  }
};

}  // namespace

const Algorithm& algorithm_tree() {
  static const Tree algorithm;
  return algorithm;
}

}  // namespace longspan::spi
