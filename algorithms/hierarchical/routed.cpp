// Gather, scatter, alltoall: every block has one owner and one reader, and goes straight between them; only a rank that
// may not reach the WAN hands its blocks to (or gets them from) gateways of its region, taking turns by block.
#include <algorithm>
#include <array>
#include <unordered_map>

#include "hierarchical/exchange.hpp"
#include "hierarchical/tiers.hpp"
#include "hierarchical/variant.hpp"
#include "hierarchical/wire.hpp"

namespace longspan::hierarchical {
namespace {

using B = spi::ScheduleBuilder;

enum Hop : std::size_t { kToGateway, kAcross, kFromGateway, kInside };
constexpr std::size_t kHops = 4;
constexpr std::array<const char*, kHops> kHopNames{"gateway relay", "wan exchange", "gateway delivery",
                                                   "region exchange"};

struct Move {
  int from = 0;
  int to = 0;
};

// The block that `owner` has for `reader`.
struct Way {
  int owner = 0;
  int reader = 0;
};

class Router {
 public:
  Router(const CollectiveShape& shape, const Cluster& cluster)
      : shape_(shape), tiers_(cluster, TierOptions{.flat = true}) {
    for (int g = 0; g < static_cast<int>(tiers_.regions().size()); ++g) {
      all_carry_ = all_carry_ && tiers_.gateways(g).size() == tiers_.region(g).ranks.size();
      alone_ = alone_ && tiers_.region(g).ranks.size() == 1;
    }
  }

  /// Whether any rank of any such collective takes that hop.
  bool takes(std::size_t hop) const {
    switch (hop) {
      case kInside: return !alone_;
      case kAcross: return tiers_.regions().size() > 1;
      default: return !all_carry_;
    }
  }

  /// What the way does in that hop; from == to: nothing.
  Move move(const Way& way, std::size_t hop) const {
    const int out = tiers_.region_of(way.owner);
    const int in = tiers_.region_of(way.reader);
    if (out == in) return hop == kInside ? Move{way.owner, way.reader} : Move{};
    const int first = tiers_.carries(way.owner) ? way.owner : turn(out, way);
    const int last = tiers_.carries(way.reader) ? way.reader : turn(in, way);
    switch (hop) {
      case kToGateway: return Move{way.owner, first};
      case kAcross: return Move{first, last};
      case kFromGateway: return Move{last, way.reader};
      default: return Move{};
    }
  }

  /// Calls with each way that `rank` may have to do with, in the same order on every rank.
  template <class Visit>
  void each_way(int rank, int ranks, Visit&& visit) const {
    if (shape_.kind != Collective::kAllToAll) {
      for (int other = 0; other < ranks; ++other) {
        visit(shape_.kind == Collective::kGather ? Way{other, shape_.root} : Way{shape_.root, other});
      }
      return;
    }
    const bool helps = rank < 0 || (!all_carry_ && tiers_.carries(rank));
    for (int owner = 0; owner < ranks; ++owner) {
      if (helps || owner == rank) {
        for (int reader = 0; reader < ranks; ++reader) visit(Way{owner, reader});
      } else {
        visit(Way{owner, rank});
      }
    }
  }

 private:
  int turn(int region, const Way& way) const {
    const auto gateways = tiers_.gateways(region);
    return gateways[static_cast<std::size_t>(way.owner + way.reader) % gateways.size()];
  }

  const CollectiveShape& shape_;
  Tiers tiers_;
  bool all_carry_ = true;
  bool alone_ = true;
};

class Routed {
 public:
  Routed(B& builder, const Router& router, const CollectiveShape& shape)
      : wire_(builder), router_(router), shape_(shape), me_(builder.rank()) {}

  void build() {
    const int ranks = wire_.builder().ranks();
    for (std::size_t hop = 0; hop < kHops; ++hop) {
      if (!router_.takes(hop)) continue;
      wire_.phase(kHopNames[hop]);
      std::vector<std::pair<Way, Move>> moves;
      router_.each_way(me_, ranks, [&](const Way& way) {
        const Move move = router_.move(way, hop);
        if (move.from != move.to && (move.from == me_ || move.to == me_)) moves.emplace_back(way, move);
      });
      order_by(moves, [&](const auto& m) {
        return m.second.from == me_ ? distance(me_, m.second.to, ranks) : distance(m.second.from, me_, ranks);
      });
      for (const auto& [way, move] : moves) {
        if (move.from == me_) wire_.send(move.to, source(way));
      }
      for (const auto& [way, move] : moves) {
        if (move.to == me_) wire_.recv(move.from, destination(way));
      }
    }
    router_.each_way(me_, ranks, [&](const Way& way) {
      if (way.owner == me_ && way.reader == me_) wire_.builder().copy(destination(way), source(way));
    });
  }

 private:
  static std::uint64_t key(const Way& way) {
    return (static_cast<std::uint64_t>(way.owner) << 32) | static_cast<std::uint32_t>(way.reader);
  }

  Slice source(const Way& way) const {
    if (way.owner != me_) return relayed_.at(key(way));
    return B::in(shape_.kind == Collective::kGather ? 0 : static_cast<std::uint32_t>(way.reader));
  }

  Slice destination(const Way& way) {
    if (way.reader == me_)
      return B::out(shape_.kind == Collective::kScatter ? 0 : static_cast<std::uint32_t>(way.owner));
    // Only for blocks of one length: a relay cannot name another's.
    const Slice area = wire_.builder().scratch(shape_.kind == Collective::kScatter ? B::out() : B::in());
    relayed_.emplace(key(way), area);
    return area;
  }

  Wire wire_;
  const Router& router_;
  const CollectiveShape& shape_;
  int me_;
  std::unordered_map<std::uint64_t, Slice> relayed_;
};

std::vector<std::string> variants(const CollectiveShape& shape, const Cluster& cluster) {
  const Router router(shape, cluster);
  if (shape.uneven && router.takes(kToGateway)) return {};
  return {""};
}

std::size_t flow_count(const Request& request) {
  const auto ranks = static_cast<std::size_t>(request.cluster.size());
  return request.shape.kind == Collective::kAllToAll ? ranks * ranks : ranks;
}

std::vector<spi::Stage> stages(const Request& request) {
  const Router router(request.shape, request.cluster);
  std::vector<spi::Stage> result;
  for (std::size_t hop = 0; hop < kHops; ++hop) {
    if (!router.takes(hop)) continue;
    spi::Stage stage;
    stage.name = kHopNames[hop];
    if (hop == kAcross || hop == kInside) stage.flows.reserve(flow_count(request));
    router.each_way(-1, request.cluster.size(), [&](const Way& way) {
      const Move move = router.move(way, hop);
      if (move.from != move.to) stage.flows.push_back(spi::StageFlow{move.from, move.to, 1});
    });
    result.push_back(std::move(stage));
  }
  return result;
}

Schedule build(const Request& request, int rank) {
  const Router router(request.shape, request.cluster);
  B builder(request.shape, request.cluster, rank, request.label());
  Routed(builder, router, request.shape).build();
  return builder.finish();
}

}  // namespace

Family routed_family() { return Family{variants, stages, build, flow_count}; }

}  // namespace longspan::hierarchical
