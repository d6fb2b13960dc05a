#include <algorithm>
#include <bit>

#include "longspan/spi/algorithm.hpp"
#include "recursive/hypercube.hpp"

namespace longspan::spi {
namespace {

constexpr std::string_view kHalving = "halving";
constexpr std::string_view kDoubling = "doubling";

/// What a block has become on its way, and the lowest rank in it.
struct Partial {
  Slice slice;
  int lowest = 0;
};

/// The sum of two, in the order of their lowest ranks, into `dst`.
Partial add(ScheduleBuilder& b, const Slice& dst, const Partial& one, const Partial& other, bool final_value) {
  const bool in_order = one.lowest < other.lowest;
  const Partial& first = in_order ? one : other;
  const Partial& second = in_order ? other : one;
  b.reduce(dst, {first.slice, second.slice}, final_value);
  return Partial{dst, first.lowest};
}

Slice half_of(const Slice& whole, bool upper) {
  Slice half = whole;
  // Edges are eighths, sixteenths, ... of a block: both ends make the same fraction from the same two.
  const std::uint64_t den = std::max(whole.begin.den, whole.end.den) * 2;
  const auto scaled = [den](Fraction f) { return f.num * (den / f.den); };
  const std::uint64_t low = scaled(whole.begin);
  const std::uint64_t high = scaled(whole.end);
  const Fraction middle{(low + high) / 2, den};
  (upper ? half.begin : half.end) = middle;
  return half;
}

Slice in_buffer(const Slice& coordinates, BufferKind buffer) {
  Slice slice = coordinates;
  slice.buffer = buffer;
  slice.area = 0;
  return slice;
}

/// Messages of a pair: folding is 0, then a stream per round and direction of the exchange.
constexpr std::uint32_t kFoldStream = 0;
std::uint32_t reduce_stream(int round) { return 1 + 2 * static_cast<std::uint32_t>(round); }
std::uint32_t gather_stream(int round) { return 2 + 2 * static_cast<std::uint32_t>(round); }

/// Before the exchange, each extra rank gives its input to a partner inside the hypercube.
Partial fold(ScheduleBuilder& b, const Hypercube& cube) {
  Partial mine{b.in(), b.rank()};
  if (cube.extras() == 0) return mine;
  b.phase("fold");
  if (cube.is_extra()) b.send(cube.fold_partner(), kFoldStream, b.in());
  if (cube.is_extra() || cube.fold_partner() < 0) return mine;
  const Slice got = b.scratch(b.in());
  b.recv(cube.fold_partner(), kFoldStream, got);
  return add(b, got, mine, Partial{got, cube.fold_partner()}, false);
}

void unfold(ScheduleBuilder& b, const Hypercube& cube) {
  if (cube.extras() == 0) return;
  b.phase("unfold");
  if (cube.is_extra()) {
    b.recv(cube.fold_partner(), kFoldStream, b.out());
  } else if (cube.fold_partner() >= 0) {
    b.send(cube.fold_partner(), kFoldStream, b.out());
  }
}

void build_halving(ScheduleBuilder& b, const Hypercube& cube) {
  Partial mine = fold(b, cube);
  for (int round = 0; round < cube.dimensions(); ++round) {
    b.phase(Hypercube::phase_name("reduce-scatter", round));
    if (cube.is_extra()) continue;
    const int partner = cube.partner(round);
    const bool upper = cube.upper(round);
    const bool last = round + 1 == cube.dimensions();
    b.send(partner, reduce_stream(round), half_of(mine.slice, !upper));
    const Slice kept = half_of(mine.slice, upper);
    const Slice got = b.scratch(in_buffer(kept, BufferKind::kIn));
    b.recv(partner, reduce_stream(round), got);
    mine = add(b, last ? in_buffer(kept, BufferKind::kOut) : got, Partial{kept, mine.lowest},
               Partial{got, cube.lowest_of_partner(round)}, last);
  }
  for (int round = cube.dimensions() - 1; round >= 0; --round) {
    b.phase(Hypercube::phase_name("allgather", cube.dimensions() - 1 - round));
    if (cube.is_extra()) continue;
    Slice whole = b.out();
    for (int k = 0; k < round; ++k) whole = half_of(whole, cube.upper(k));
    b.send(cube.partner(round), gather_stream(round), half_of(whole, cube.upper(round)));
    b.recv(cube.partner(round), gather_stream(round), half_of(whole, !cube.upper(round)));
  }
  unfold(b, cube);
}

void build_doubling(ScheduleBuilder& b, const Hypercube& cube) {
  Partial mine = fold(b, cube);
  for (int round = 0; round < cube.dimensions(); ++round) {
    b.phase(Hypercube::phase_name("exchange", round));
    if (cube.is_extra()) continue;
    const bool last = round + 1 == cube.dimensions();
    b.send(cube.partner(round), reduce_stream(round), mine.slice);
    const Slice got = b.scratch(b.in());
    // Both sides would wait for the other to have read what they are about to overwrite (in place, in the last round).
    b.recv_copied(cube.partner(round), reduce_stream(round), got);
    mine = add(b, last ? b.out() : got, mine, Partial{got, cube.lowest_of_partner(round)}, last);
  }
  unfold(b, cube);
}

int rounds_for(int ranks) { return static_cast<int>(std::bit_width(static_cast<unsigned>(ranks - 1))); }

/// Blocks [first, first + count) modulo the number of ranks, as at most two runs.
template <class Visit>
void each_run(int first, int count, int ranks, Visit&& visit) {
  const int until_end = std::min(count, ranks - first);
  visit(static_cast<std::uint32_t>(first), static_cast<std::uint32_t>(until_end), 0u);
  if (count > until_end) visit(0u, static_cast<std::uint32_t>(count - until_end), 1u);
}

/// Bruck et al.: in round k a rank has the 2^k blocks from its own upwards and gets the next 2^k from the rank that far
/// above, for any number of ranks. Blocks land where they belong, so nothing is rotated.
void build_allgather(ScheduleBuilder& b) {
  const int n = b.ranks();
  b.whole_messages();
  for (int round = 0; round < rounds_for(n); ++round) {
    b.phase(Hypercube::phase_name("exchange", round));
    if (round == 0) b.copy(b.out(static_cast<std::uint32_t>(b.rank())), b.in());
    const int distance = 1 << round;
    const int count = std::min(distance, n - distance);
    const int above = (b.rank() + distance) % n;
    const int below = (b.rank() - distance + n) % n;
    const std::uint32_t stream = reduce_stream(round);
    each_run(b.rank(), count, n, [&](std::uint32_t first, std::uint32_t blocks, std::uint32_t run) {
      b.send(below, stream + run, round == 0 ? b.in() : b.out_blocks(first, blocks));
    });
    each_run(above, count, n, [&](std::uint32_t first, std::uint32_t blocks, std::uint32_t run) {
      b.recv(above, stream + run, b.out_blocks(first, blocks));
    });
  }
}

/// For a power of two: in each round a rank gives away half of the blocks that it still sums up.
void build_reduce_scatter(ScheduleBuilder& b) {
  const int n = b.ranks();
  b.whole_messages();
  Slice mine = b.in_blocks(0, static_cast<std::uint32_t>(n));
  int lowest = b.rank();
  int round = 0;
  for (int distance = n / 2; distance > 0; distance /= 2, ++round) {
    b.phase(Hypercube::phase_name("exchange", round));
    const int partner = b.rank() ^ distance;
    const bool upper = (b.rank() & distance) != 0;
    const auto half = [&](bool high) {
      Slice part = mine;
      part.blocks = static_cast<std::uint32_t>(distance);
      if (high) part.block += part.blocks;
      return part;
    };
    b.send(partner, reduce_stream(round), half(!upper));
    const Slice kept = half(upper);
    const Slice got = b.scratch(in_buffer(kept, BufferKind::kIn));
    b.recv(partner, reduce_stream(round), got);
    const int lowest_there = lowest ^ distance;  // the other side has summed the same offsets
    mine =
        add(b, distance == 1 ? b.out() : got, Partial{kept, lowest}, Partial{got, lowest_there}, distance == 1).slice;
    lowest = std::min(lowest, lowest_there);
  }
}

/// Hensgen, Finkel and Manber: in round k tell the rank 2^k above, once all earlier rounds were heard.
void build_barrier(ScheduleBuilder& b) {
  std::vector<std::uint32_t> heard;
  for (int round = 0; round < rounds_for(b.ranks()); ++round) {
    b.phase(Hypercube::phase_name("round", round));
    const int distance = 1 << round;
    b.send_signal((b.rank() + distance) % b.ranks(), reduce_stream(round), heard);
    heard.push_back(b.recv_signal((b.rank() - distance + b.ranks()) % b.ranks(), reduce_stream(round)));
  }
}

Stage stage(std::string name, double reduce_share) {
  Stage made;
  made.name = std::move(name);
  made.reduce_share = reduce_share;
  return made;
}

std::vector<Stage> allreduce_stages(const Cluster& cluster, bool halving) {
  std::vector<Stage> stages;
  const Hypercube first(cluster, 0);
  const auto fold_stage = [&](bool back) {
    if (first.extras() == 0) return;
    stages.push_back(stage(back ? "unfold" : "fold", back ? 0 : 2));
    for (const auto& [extra, partner] : first.folds()) {
      stages.back().flows.push_back(back ? StageFlow{partner, extra, 1} : StageFlow{extra, partner, 1});
    }
  };
  const auto exchange = [&](std::string name, int round, double share, double reduce_share) {
    stages.push_back(stage(std::move(name), reduce_share));
    for (int v = 0; v < first.vertices(); ++v) {
      stages.back().flows.push_back({first.rank_of(v), first.rank_of(v ^ (1 << round)), share});
    }
  };
  const auto share_of = [&](int round) { return halving ? 1.0 / (2 << round) : 1.0; };
  fold_stage(false);
  for (int round = 0; round < first.dimensions(); ++round) {
    exchange(Hypercube::phase_name(halving ? "reduce-scatter" : "exchange", round), round, share_of(round),
             2 * share_of(round));
  }
  for (int round = first.dimensions() - 1; halving && round >= 0; --round) {
    exchange(Hypercube::phase_name("allgather", first.dimensions() - 1 - round), round, share_of(round), 0);
  }
  fold_stage(true);
  return stages;
}

/// Rounds in which every rank sends `share(round)` blocks to rank `to(rank, round)`.
template <class To, class Share>
std::vector<Stage> exchange_stages(int ranks, const char* name, To&& to, Share&& share, double reduce_factor) {
  std::vector<Stage> stages;
  for (int round = 0; round < rounds_for(ranks); ++round) {
    const double amount = share(round);
    stages.push_back(stage(Hypercube::phase_name(name, round), reduce_factor * amount));
    for (int r = 0; r < ranks; ++r) stages.back().flows.push_back({r, to(r, round), amount});
  }
  return stages;
}

/// Ranks exchange with partners at doubling distances: about log2 N steps.
///
/// N ranks, P the largest power of two <= N, S bytes per block; per rank:
/// - allreduce "halving" (Rabenseifner): 2 log2 P steps, 2 S (P-1)/P sent; with N != P two more steps of S for the N-P
///   extra ranks and their partners
/// - allreduce "doubling": log2 P steps (+2), S log2 P sent: for small messages
/// - allgather (Bruck): ceil(log2 N) steps, S (N-1) sent
/// - reduce-scatter, N a power of two: log2 N steps, S (N-1) sent
/// - barrier (dissemination): ceil(log2 N) steps
class Recursive final : public Algorithm {
 public:
  std::string_view name() const override { return "recursive"; }

  std::vector<std::string> variants(const CollectiveShape& shape, const Cluster& cluster) const override {
    const int n = cluster.size();
    // Slices of several blocks need blocks of one length.
    if (n < 2 || shape.private_lengths || shape.uneven) return {};
    switch (shape.kind) {
      case Collective::kAllReduce: return {std::string(kHalving), std::string(kDoubling)};
      case Collective::kAllGather:
      case Collective::kBarrier: return {""};
      case Collective::kReduceScatter:
        if (std::has_single_bit(static_cast<unsigned>(n))) return {""};
        return {};
      default: return {};
    }
  }

  std::vector<Stage> stages(const CollectiveShape& shape, const Cluster& cluster,
                            std::string_view variant) const override {
    const int n = cluster.size();
    switch (shape.kind) {
      case Collective::kAllReduce: return allreduce_stages(cluster, variant == kHalving);
      case Collective::kAllGather:
        return exchange_stages(
            n, "exchange", [n](int rank, int round) { return (rank - (1 << round) + n) % n; },
            [n](int round) { return std::min(1 << round, n - (1 << round)); }, 0);
      case Collective::kReduceScatter:
        return exchange_stages(
            n, "exchange", [n](int rank, int round) { return rank ^ (n >> (round + 1)); },
            [n](int round) { return n >> (round + 1); }, 2);
      default:
        return exchange_stages(
            n, "round", [n](int rank, int round) { return (rank + (1 << round)) % n; }, [](int) { return 0; }, 0);
    }
  }

  Schedule build(const CollectiveShape& shape, const Cluster& cluster, std::string_view variant,
                 int rank) const override {
    ScheduleBuilder b(shape, cluster, rank, variant.empty() ? "recursive" : "recursive:" + std::string(variant));
    switch (shape.kind) {
      case Collective::kAllReduce: {
        const Hypercube cube(cluster, rank);
        variant == kHalving ? build_halving(b, cube) : build_doubling(b, cube);
        break;
      }
      case Collective::kAllGather: build_allgather(b); break;
      case Collective::kReduceScatter: build_reduce_scatter(b); break;
      default: build_barrier(b); break;
    }
    return b.finish();
  }
};

}  // namespace

const Algorithm& algorithm_recursive() {
  static const Recursive algorithm;
  return algorithm;
}

}  // namespace longspan::spi
