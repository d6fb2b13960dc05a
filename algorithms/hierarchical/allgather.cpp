#include <algorithm>

#include "hierarchical/blocks.hpp"
#include "hierarchical/exchange.hpp"

namespace longspan::hierarchical {
namespace {

using B = spi::ScheduleBuilder;

std::uint32_t number(int block) { return static_cast<std::uint32_t>(block); }

class AllGather {
 public:
  AllGather(B& builder, const BlockRoutes& routes)
      : wire_(builder), routes_(routes), tiers_(routes.tiers()), me_(builder.rank()), home_(tiers_.region_of(me_)) {}

  void build() {
    const bool several = tiers_.regions().size() > 1;
    if (several && routes_.relays()) relay();
    if (several) cross();
    std::vector<Entry> entries = routes_.entries(home_);
    for (auto level = tiers_.levels().rbegin(); level != tiers_.levels().rend(); ++level) spread(*level, entries);
    wire_.builder().copy(B::out(number(me_)), B::in());
  }

 private:
  Slice source(int block, const Interval& span) const {
    return block == me_ ? B::in(0, span.begin, span.end) : B::out(number(block), span.begin, span.end);
  }

  void relay() {
    wire_.phase(kRelayName);
    for (const int block : tiers_.region(home_).ranks) {
      if (tiers_.carries(block)) continue;
      for (const Segment& part : routes_.carriers(block)) {
        if (block == me_) wire_.send(part.rank, cut(B::in(), part.span));
        if (part.rank != me_) continue;
        // Not into `out`, where the block also comes by way of the region: that would have to wait for the WAN.
        const Slice extent = B::out(number(block), part.span.begin, part.span.end);
        relayed_.emplace_back(block, Held{part.span, wire_.recv_scratch(block, extent)});
      }
    }
    if (tiers_.carries(me_)) relayed_.emplace_back(me_, Held{Interval{}, B::in()});
    order_by(relayed_, [](const auto& relayed) { return relayed.first; });
  }

  void cross() {
    const int regions = static_cast<int>(tiers_.regions().size());
    wire_.phase(kExchangeName);
    if (relayed_.empty() && tiers_.carries(me_)) relayed_.emplace_back(me_, Held{Interval{}, B::in()});
    for (int k = 1; k < regions; ++k) {
      for (const auto& [block, held] : relayed_) {
        send_owned(wire_, routes_.landing(block, (home_ + k) % regions), Holding{held});
      }
    }
    if (!tiers_.carries(me_)) return;
    for (int block = 0; block < wire_.builder().ranks(); ++block) {
      if (tiers_.region_of(block) == home_) continue;
      for (const Piece& piece : transfers_to(routes_.carriers(block), routes_.landing(block, home_), me_)) {
        wire_.recv(piece.from, B::out(number(block), piece.span.begin, piece.span.end));
      }
    }
  }

  // One level further down; `entries` then tell who has each part in this rank's unit below.
  void spread(Tier level, std::vector<Entry>& entries) {
    wire_.phase(descend_name(tiers_, level));
    const int id = tiers_.unit_at(me_, level);
    if (id < 0) return;
    const Unit& unit = tiers_.unit(id);
    const int mine = tiers_.below(me_, level);
    std::vector<std::pair<int, Entry>> sends;
    std::vector<Entry> recvs;
    for (Entry& entry : entries) {
      const int from = tiers_.below(entry.holder, level);
      if (entry.holder == me_) {
        for (const int child : unit.children) {
          if (child != mine) sends.emplace_back(routes_.delegate(tiers_.unit(child), level, me_, entry.block), entry);
        }
      } else if (from != mine) {
        const int to = routes_.delegate(tiers_.unit(mine), level, entry.holder, entry.block);
        if (to == me_) recvs.push_back(entry);
        entry.holder = to;
      }
    }
    const int ranks = wire_.builder().ranks();
    order_by(sends, [&](const auto& send) { return distance(me_, send.first, ranks); });
    for (const auto& [to, entry] : sends) wire_.send(to, source(entry.block, entry.span));
    for (const Entry& entry : recvs) {
      wire_.recv(entry.holder, B::out(number(entry.block), entry.span.begin, entry.span.end));
    }
  }

  Wire wire_;
  const BlockRoutes& routes_;
  const Tiers& tiers_;
  int me_;
  int home_;
  std::vector<std::pair<int, Held>> relayed_;  // what this rank takes across the WAN, by block
};

Schedule build(const Request& request, int rank) {
  const Tiers tiers(request.cluster, block_options(request));
  const BlockRoutes routes(tiers, request.variant.starts_with("whole"));
  B builder(request.shape, request.cluster, rank, request.label());
  AllGather(builder, routes).build();
  return builder.finish();
}

std::vector<spi::Stage> stages(const Request& request) {
  const Tiers tiers(request.cluster, block_options(request));
  const BlockRoutes routes(tiers, request.variant.starts_with("whole"));
  const int regions = static_cast<int>(tiers.regions().size());
  spi::Stage relay;
  relay.name = kRelayName;
  spi::Stage cross;
  cross.name = kExchangeName;
  for (int block = 0; block < request.cluster.size() && regions > 1; ++block) {
    add_flows(relay, transfers(whole(block), routes.carriers(block)));
    for (int region = 0; region < regions; ++region) {
      if (region == tiers.region_of(block)) continue;
      add_flows(cross, transfers(routes.carriers(block), routes.landing(block, region)));
    }
  }
  std::vector<spi::Stage> result;
  if (regions > 1 && routes.relays()) result.push_back(std::move(relay));
  if (regions > 1) result.push_back(std::move(cross));
  std::vector<double> unused;
  for (spi::Stage& stage : spread_stages(routes, unused)) result.push_back(std::move(stage));
  const auto first = result.end() - static_cast<std::ptrdiff_t>(tiers.levels().size());
  std::transform(tiers.levels().rbegin(), tiers.levels().rend(), first, first, [&](Tier level, spi::Stage stage) {
    stage.name = descend_name(tiers, level);
    return stage;
  });
  return result;
}

}  // namespace

Family allgather_family() { return Family{block_variants, stages, build, block_flows}; }

}  // namespace longspan::hierarchical
