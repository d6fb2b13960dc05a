#include <algorithm>

#include "longspan/spi/algorithm.hpp"
#include "longspan/spi/placement.hpp"

namespace longspan::spi {
namespace {

std::uint32_t u32(int value) { return static_cast<std::uint32_t>(value); }

/// The ring and this rank's place in it. Positions are taken modulo the number of ranks.
class Ring {
 public:
  Ring(const Cluster& cluster, int rank) : order_(ranks_by_place(cluster)) {
    position_ = static_cast<int>(std::find(order_.begin(), order_.end(), rank) - order_.begin());
  }
  int size() const { return static_cast<int>(order_.size()); }
  int position() const { return position_; }
  int wrapped(int position) const { return (position % size() + size()) % size(); }
  int rank_at(int position) const { return order_[static_cast<std::size_t>(wrapped(position))]; }
  int left() const { return rank_at(position_ - 1); }
  int right() const { return rank_at(position_ + 1); }
  int position_of(int rank) const {
    return static_cast<int>(std::find(order_.begin(), order_.end(), rank) - order_.begin());
  }

 private:
  std::vector<int> order_;
  int position_ = 0;
};

/// dst = partial + mine, in the order of the lowest rank in either.
void accumulate(ScheduleBuilder& b, const Slice& dst, const Slice& partial, int lowest_in_partial, const Slice& mine,
                bool final_value) {
  if (lowest_in_partial < b.rank()) {
    b.reduce(dst, {partial, mine}, final_value);
  } else {
    b.reduce(dst, {mine, partial}, final_value);
  }
}

/// The sum of part s starts at position s+1, takes up each rank's input on its way, and is complete at position s.
/// `input(s)` is this rank's part s.
template <class Input>
void reduce_scatter(ScheduleBuilder& b, const Ring& ring, Input&& input, const Slice& result) {
  const int p = ring.position();
  const int n = ring.size();
  Slice sum;
  int lowest = n;
  for (int hop = 0; hop < n - 1; ++hop) {
    b.send(ring.right(), u32(hop), hop == 0 ? input(ring.wrapped(p - 1)) : sum);
    const Slice mine = input(ring.wrapped(p - 2 - hop));
    const bool last = hop == n - 2;
    sum = b.scratch(mine);
    b.recv(ring.left(), u32(hop), sum);
    lowest = std::min(lowest, ring.rank_at(p - 1 - hop));
    accumulate(b, last ? result : sum, sum, lowest, mine, last);
  }
}

/// Part s starts at position s and goes once around. `own` is this rank's part before the first hop.
template <class Output>
void allgather(ScheduleBuilder& b, const Ring& ring, std::uint32_t first_stream, const Slice& own, Output&& output) {
  const int p = ring.position();
  for (int hop = 0; hop < ring.size() - 1; ++hop) {
    b.send(ring.right(), first_stream + u32(hop), hop == 0 ? own : output(ring.wrapped(p - hop)));
    b.recv(ring.left(), first_stream + u32(hop), output(ring.wrapped(p - 1 - hop)));
  }
}

void build_allreduce(ScheduleBuilder& b, const Ring& ring) {
  const auto n = static_cast<std::uint64_t>(ring.size());
  const auto part = [n](Slice whole, int position) {
    whole.begin = Fraction{static_cast<std::uint64_t>(position), n};
    whole.end = Fraction{static_cast<std::uint64_t>(position) + 1, n};
    return whole;
  };
  const Slice mine = part(b.out(), ring.position());
  b.phase("reduce-scatter");
  reduce_scatter(b, ring, [&](int s) { return part(b.in(), s); }, mine);
  b.phase("allgather");
  allgather(b, ring, u32(ring.size()), mine, [&](int s) { return part(b.out(), s); });
}

void build_broadcast(ScheduleBuilder& b, const Ring& ring, int root) {
  b.phase("chain");
  const bool starts = b.rank() == root;
  if (starts) {
    b.copy(b.out(), b.in());
  } else {
    b.recv(ring.left(), 0, b.out());
  }
  if (ring.right() != root) b.send(ring.right(), 0, starts ? b.in() : b.out());
}

void build_reduce(ScheduleBuilder& b, const Ring& ring, int root) {
  b.phase("chain");
  const int first = ring.position_of(root) + 1;  // the chain starts right of the root and ends at it
  Slice sum = b.in();
  const int before = ring.wrapped(ring.position() - first);  // ranks before this one
  if (before > 0) {
    int lowest = ring.size();
    for (int k = 0; k < before; ++k) lowest = std::min(lowest, ring.rank_at(first + k));
    sum = b.scratch(b.in());
    b.recv(ring.left(), 0, sum);
    accumulate(b, b.rank() == root ? b.out() : sum, sum, lowest, b.in(), b.rank() == root);
  }
  if (b.rank() != root) b.send(ring.right(), 0, sum);
}

/// All ranks in a circle, each sends only to its right neighbour and receives from its left one. Least bytes, at the
/// cost of N-1 latencies in a row: for large messages and many chunks.
///
/// N ranks, S bytes per block; per rank:
/// - allreduce: 2(N-1) steps, 2 S (N-1)/N sent (Patarasuk and Yuan, 2009)
/// - reduce-scatter, allgather: N-1 steps, S (N-1) sent
/// - broadcast, reduce: a chain of N-1 steps, S sent; chunks fill it, so K chunks take (N-2+K) S/K
class RingAlgorithm final : public Algorithm {
 public:
  std::string_view name() const override { return "ring"; }

  std::vector<std::string> variants(const CollectiveShape& shape, const Cluster& cluster) const override {
    if (cluster.size() < 2 || shape.private_lengths) return {};
    switch (shape.kind) {
      case Collective::kAllReduce:
      case Collective::kReduceScatter:
      case Collective::kAllGather:
      case Collective::kBroadcast:
      case Collective::kReduce: return {""};
      default: return {};
    }
  }

  std::vector<Stage> stages(const CollectiveShape& shape, const Cluster& cluster, std::string_view) const override {
    const int n = cluster.size();
    const double hops = n - 1;
    switch (shape.kind) {
      case Collective::kAllReduce:
        return {circle("reduce-scatter", cluster, hops / n, 2 * hops / n), circle("allgather", cluster, hops / n, 0)};
      case Collective::kReduceScatter: return {circle("reduce-scatter", cluster, hops, 2 * hops)};
      case Collective::kAllGather: return {circle("allgather", cluster, hops, 0)};
      case Collective::kBroadcast: {
        Stage chain = circle("chain", cluster, 1, 0);
        std::erase_if(chain.flows, [&](const StageFlow& flow) { return flow.to == shape.root; });
        return {chain};
      }
      default: {
        Stage chain = circle("chain", cluster, 1, 2);
        std::erase_if(chain.flows, [&](const StageFlow& flow) { return flow.from == shape.root; });
        return {chain};
      }
    }
  }

  Schedule build(const CollectiveShape& shape, const Cluster& cluster, std::string_view, int rank) const override {
    ScheduleBuilder b(shape, cluster, rank, "ring");
    const Ring ring(cluster, rank);
    switch (shape.kind) {
      case Collective::kAllReduce: build_allreduce(b, ring); break;
      case Collective::kReduceScatter:
        b.phase("reduce-scatter");
        reduce_scatter(b, ring, [&](int s) { return b.in(u32(ring.rank_at(s))); }, b.out());
        break;
      case Collective::kAllGather:
        b.phase("allgather");
        b.copy(b.out(u32(rank)), b.in());
        allgather(b, ring, 0, b.in(), [&](int s) { return b.out(u32(ring.rank_at(s))); });
        break;
      case Collective::kBroadcast: build_broadcast(b, ring, shape.root); break;
      default: build_reduce(b, ring, shape.root); break;
    }
    return b.finish();
  }

 private:
  static Stage circle(std::string name, const Cluster& cluster, double share, double reduce_share) {
    Stage stage;
    stage.name = std::move(name);
    stage.rounds = cluster.size() - 1;
    stage.chained = true;
    stage.reduce_share = reduce_share;
    const std::vector<int> order = ranks_by_place(cluster);
    for (std::size_t i = 0; i < order.size(); ++i) {
      stage.flows.push_back({order[i], order[(i + 1) % order.size()], share});
    }
    return stage;
  }
};

}  // namespace

const Algorithm& algorithm_ring() {
  static const RingAlgorithm algorithm;
  return algorithm;
}

}  // namespace longspan::spi
