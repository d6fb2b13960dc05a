#include <algorithm>
#include <tuple>
#include <utility>

#include "longspan/spi/algorithm.hpp"

namespace longspan::spi {
namespace {

constexpr std::string_view kOneShot = "one-shot";
// A pair exchanges at most one message per phase and direction, so the phase is the stream.
constexpr std::uint32_t kFirst = 0;
constexpr std::uint32_t kSecond = 1;

std::uint32_t u32(int value) { return static_cast<std::uint32_t>(value); }

/// The part of a block that `rank` owns: an equal share, in rank order.
std::pair<Fraction, Fraction> shard(int rank, int ranks) {
  const auto n = static_cast<std::uint64_t>(ranks);
  const auto r = static_cast<std::uint64_t>(rank);
  return {Fraction{r, n}, Fraction{r + 1, n}};
}

/// Calls visit(peer) for the other ranks, nearest above first, so that at no time everybody sends to the same rank.
template <class Visit>
void each_above(const ScheduleBuilder& b, Visit&& visit) {
  for (int k = 1; k < b.ranks(); ++k) visit((b.rank() + k) % b.ranks());
}
/// The same order seen by the receivers: nearest below first.
template <class Visit>
void each_below(const ScheduleBuilder& b, Visit&& visit) {
  for (int k = 1; k < b.ranks(); ++k) visit((b.rank() - k + b.ranks()) % b.ranks());
}

enum class Landing { kViewed, kCopied };

/// Receives everybody's copy of `own` and reduces them in rank order into `dst`.
void gather_and_reduce(ScheduleBuilder& b, const Slice& own, const Slice& dst, Landing how = Landing::kViewed) {
  std::vector<Slice> operands(static_cast<std::size_t>(b.ranks()), own);
  each_below(b, [&](int peer) {
    Slice& landing = operands[static_cast<std::size_t>(peer)];
    landing = b.scratch(own);
    how == Landing::kViewed ? b.recv(peer, kFirst, landing) : b.recv_copied(peer, kFirst, landing);
  });
  b.reduce(dst, operands, true);
}

void allreduce(ScheduleBuilder& b) {
  const int n = b.ranks();
  const auto part = [n](Slice whole, int owner) {
    std::tie(whole.begin, whole.end) = shard(owner, n);
    return whole;
  };
  const Slice mine = part(b.out(), b.rank());
  b.phase("reduce-scatter");
  each_above(b, [&](int peer) { b.send(peer, kFirst, part(b.in(), peer)); });
  gather_and_reduce(b, part(b.in(), b.rank()), mine);
  b.phase("allgather");
  each_above(b, [&](int peer) { b.send(peer, kSecond, mine); });
  each_below(b, [&](int peer) { b.recv(peer, kSecond, part(b.out(), peer)); });
}

void allreduce_one_shot(ScheduleBuilder& b) {
  b.phase("exchange");
  each_above(b, [&](int peer) { b.send(peer, kFirst, b.in()); });
  // In place, everybody overwrites what everybody else reads: nobody may wait for having been read.
  gather_and_reduce(b, b.in(), b.out(), Landing::kCopied);
}

void reduce_scatter(ScheduleBuilder& b) {
  b.phase("exchange");
  each_above(b, [&](int peer) { b.send(peer, kFirst, b.in(u32(peer))); });
  gather_and_reduce(b, b.in(u32(b.rank())), b.out());
}

void allgather(ScheduleBuilder& b) {
  b.phase("exchange");
  b.copy(b.out(u32(b.rank())), b.in());
  each_above(b, [&](int peer) { b.send(peer, kFirst, b.in()); });
  each_below(b, [&](int peer) { b.recv(peer, kFirst, b.out(u32(peer))); });
}

void alltoall(ScheduleBuilder& b) {
  b.phase("pairwise");
  b.copy(b.out(u32(b.rank())), b.in(u32(b.rank())));
  // In place, block j is sent to j before j's takes its place.
  each_above(b, [&](int peer) { b.send(peer, kFirst, b.in(u32(peer))); });
  each_below(b, [&](int peer) { b.recv(peer, kFirst, b.out(u32(peer))); });
}

void broadcast(ScheduleBuilder& b, int root) {
  b.phase("broadcast");
  if (b.rank() != root) {
    b.recv(root, kFirst, b.out());
    return;
  }
  b.copy(b.out(), b.in());
  each_above(b, [&](int peer) { b.send(peer, kFirst, b.in()); });
}

void reduce(ScheduleBuilder& b, int root) {
  b.phase("reduce");
  if (b.rank() == root) {
    gather_and_reduce(b, b.in(), b.out());
  } else {
    b.send(root, kFirst, b.in());
  }
}

void gather(ScheduleBuilder& b, int root) {
  b.phase("gather");
  if (b.rank() != root) {
    b.send(root, kFirst, b.in());
    return;
  }
  b.copy(b.out(u32(root)), b.in());
  each_below(b, [&](int peer) { b.recv(peer, kFirst, b.out(u32(peer))); });
}

void scatter(ScheduleBuilder& b, int root) {
  b.phase("scatter");
  if (b.rank() != root) {
    b.recv(root, kFirst, b.out());
    return;
  }
  b.copy(b.out(), b.in(u32(root)));
  each_above(b, [&](int peer) { b.send(peer, kFirst, b.in(u32(peer))); });
}

void barrier(ScheduleBuilder& b) {
  constexpr int kHub = 0;
  std::vector<std::uint32_t> arrived;
  b.phase("arrive");
  if (b.rank() != kHub) {
    b.send_signal(kHub, kFirst, {});
  } else {
    each_below(b, [&](int peer) { arrived.push_back(b.recv_signal(peer, kFirst)); });
  }
  b.phase("leave");
  if (b.rank() != kHub) {
    b.recv_signal(kHub, kSecond);
  } else {
    each_above(b, [&](int peer) { b.send_signal(peer, kSecond, arrived); });
  }
}

/// One stage in which every pair exchanges `share`, or only the hub with each other rank in one direction; 0 for
/// signals.
enum class Pattern { kAllPairs, kFromHub, kToHub };

Stage stage(std::string name, int ranks, Pattern pattern, int hub, double share, double reduce_share) {
  Stage made;
  made.name = std::move(name);
  made.reduce_share = reduce_share;
  for (int other = 0; other < ranks; ++other) {
    if (pattern == Pattern::kFromHub && other != hub) made.flows.push_back({hub, other, share});
    if (pattern == Pattern::kToHub && other != hub) made.flows.push_back({other, hub, share});
    if (pattern != Pattern::kAllPairs) continue;
    for (int to = 0; to < ranks; ++to) {
      if (to != other) made.flows.push_back({other, to, share});
    }
  }
  return made;
}

/// Every block goes from its owner straight to its reader, in one hop and without forwarding.
///
/// N ranks, S bytes per block; per rank, at most:
/// - allreduce: 2 steps, 2 S (N-1)/N sent; "one-shot": 1 step, S (N-1) sent, for messages where a step costs more
/// - reduce-scatter, allgather, alltoall: 1 step, S (N-1) sent
/// - broadcast, reduce, gather, scatter: 1 step, S (N-1) at the root
/// - barrier: 2 steps without bytes, through rank 0
class Direct final : public Algorithm {
 public:
  std::string_view name() const override { return "direct"; }

  std::vector<std::string> variants(const CollectiveShape& shape, const Cluster& cluster) const override {
    if (shape.kind == Collective::kAllReduce && cluster.size() > 1) return {"", std::string(kOneShot)};
    return {""};
  }

  std::size_t flow_count(const CollectiveShape& shape, const Cluster& cluster,
                         std::string_view variant) const override {
    if (has_root(shape.kind) || shape.kind == Collective::kBarrier) return 0;
    const auto n = static_cast<std::size_t>(cluster.size());
    return n * (n - 1) * (shape.kind == Collective::kAllReduce && variant != kOneShot ? 2 : 1);
  }

  std::vector<Stage> stages(const CollectiveShape& shape, const Cluster& cluster,
                            std::string_view variant) const override {
    const int n = cluster.size();
    const int root = shape.root;
    switch (shape.kind) {
      case Collective::kAllReduce:
        if (variant == kOneShot) return {stage("exchange", n, Pattern::kAllPairs, 0, 1, n)};
        return {stage("reduce-scatter", n, Pattern::kAllPairs, 0, 1.0 / n, 1),
                stage("allgather", n, Pattern::kAllPairs, 0, 1.0 / n, 0)};
      case Collective::kReduceScatter: return {stage("exchange", n, Pattern::kAllPairs, 0, 1, n)};
      case Collective::kAllGather: return {stage("exchange", n, Pattern::kAllPairs, 0, 1, 0)};
      case Collective::kAllToAll: return {stage("pairwise", n, Pattern::kAllPairs, 0, 1, 0)};
      case Collective::kBroadcast: return {stage("broadcast", n, Pattern::kFromHub, root, 1, 0)};
      case Collective::kReduce: return {stage("reduce", n, Pattern::kToHub, root, 1, n)};
      case Collective::kGather: return {stage("gather", n, Pattern::kToHub, root, 1, 0)};
      case Collective::kScatter: return {stage("scatter", n, Pattern::kFromHub, root, 1, 0)};
      case Collective::kBarrier: break;
    }
    return {stage("arrive", n, Pattern::kToHub, 0, 0, 0), stage("leave", n, Pattern::kFromHub, 0, 0, 0)};
  }

  Schedule build(const CollectiveShape& shape, const Cluster& cluster, std::string_view variant,
                 int rank) const override {
    ScheduleBuilder b(shape, cluster, rank, variant.empty() ? "direct" : "direct:" + std::string(variant));
    switch (shape.kind) {
      case Collective::kAllReduce: variant == kOneShot ? allreduce_one_shot(b) : allreduce(b); break;
      case Collective::kReduceScatter: reduce_scatter(b); break;
      case Collective::kAllGather: allgather(b); break;
      case Collective::kAllToAll: alltoall(b); break;
      case Collective::kBroadcast: broadcast(b, shape.root); break;
      case Collective::kReduce: reduce(b, shape.root); break;
      case Collective::kGather: gather(b, shape.root); break;
      case Collective::kScatter: scatter(b, shape.root); break;
      case Collective::kBarrier: barrier(b); break;
    }
    return b.finish();
  }
};

}  // namespace

const Algorithm& algorithm_direct() {
  static const Direct algorithm;
  return algorithm;
}

}  // namespace longspan::spi
