#include <algorithm>

#include "hierarchical/blocks.hpp"
#include "hierarchical/exchange.hpp"

namespace longspan::hierarchical {
namespace {

using B = spi::ScheduleBuilder;

std::uint32_t number(int block) { return static_cast<std::uint32_t>(block); }

// Allgather's ways gone backwards: what spread from a rank is collected there, one n-ary reduction per unit.
class ReduceScatter {
 public:
  ReduceScatter(B& builder, const BlockRoutes& routes)
      : wire_(builder),
        routes_(routes),
        tiers_(routes.tiers()),
        me_(builder.rank()),
        home_(tiers_.region_of(me_)),
        entries_(routes.entries(home_)) {}

  void build() {
    for (const Entry& entry : entries_) held_.push_back(B::in(number(entry.block), entry.span.begin, entry.span.end));
    find_collectors();
    const bool several = tiers_.regions().size() > 1;
    if (wire_.builder().ranks() == 1) wire_.builder().reduce(B::out(), {B::in()}, true);
    for (std::size_t l = 0; l < tiers_.levels().size(); ++l) {
      collect(l, !several && l + 1 == tiers_.levels().size());
    }
    if (several) cross();
    if (several && routes_.relays()) relay();
  }

 private:
  // collectors_[l][e]: who collects entry e in this rank's unit of level l.
  void find_collectors() {
    const auto levels = tiers_.levels();
    collectors_.resize(levels.size());
    std::vector<int> above;
    for (const Entry& entry : entries_) above.push_back(entry.holder);
    for (std::size_t l = levels.size(); l-- > 0;) {
      if (tiers_.unit_at(me_, levels[l]) < 0) continue;
      collectors_[l] = above;
      const int below = tiers_.below(me_, levels[l]);
      for (std::size_t e = 0; e < entries_.size(); ++e)
        above[e] = child_collector(below, levels[l], above[e], entries_[e]);
    }
  }

  int child_collector(int child, Tier level, int collector, const Entry& entry) const {
    if (tiers_.below(collector, level) == child) return collector;
    return routes_.delegate(tiers_.unit(child), level, collector, entry.block);
  }

  void collect(std::size_t l, bool final_value) {
    const Tier level = tiers_.levels()[l];
    wire_.phase(climb_name(tiers_, level));
    const int id = tiers_.unit_at(me_, level);
    if (id < 0) return;
    const Unit& unit = tiers_.unit(id);
    const int mine = tiers_.below(me_, level);
    std::vector<std::pair<int, std::size_t>> sends;
    for (std::size_t e = 0; e < entries_.size(); ++e) {
      const int to = collectors_[l][e];
      if (to != me_ && child_collector(mine, level, to, entries_[e]) == me_) sends.emplace_back(to, e);
    }
    const int ranks = wire_.builder().ranks();
    order_by(sends, [&](const auto& send) { return distance(me_, send.first, ranks); });
    for (const auto& [to, e] : sends) wire_.send(to, held_[e]);
    for (std::size_t e = 0; e < entries_.size(); ++e) {
      if (collectors_[l][e] == me_) reduce(unit, e, final_value);
    }
  }

  void reduce(const Unit& unit, std::size_t e, bool final_value) {
    const Entry& entry = entries_[e];
    const Slice extent = B::in(number(entry.block), entry.span.begin, entry.span.end);
    std::vector<Slice> operands;
    for (const int child : unit.children) {
      const int from = child_collector(child, unit.level, me_, entry);
      operands.push_back(from == me_ ? held_[e] : wire_.recv_scratch(from, extent));
    }
    const Slice dst = final_value ? B::out(0, entry.span.begin, entry.span.end) : wire_.builder().scratch(extent);
    wire_.builder().reduce(dst, operands, final_value);
    held_[e] = dst;
  }

  // What one operand of a block's last reduction is held by, as its rank sees it.
  Partition remote_holders(int block, int region) const {
    if (region == home_ || tiers_.carries(block)) return routes_.landing(block, region);
    Partition relayed;
    for (const Piece& piece : transfers(routes_.landing(block, region), routes_.carriers(block))) {
      relayed.push_back(Segment{piece.span, piece.to});
    }
    return relayed;
  }

  void cross() {
    const int regions = static_cast<int>(tiers_.regions().size());
    wire_.phase(kExchangeName);
    for (int k = 1; k < regions; ++k) {
      for (std::size_t e = 0; e < entries_.size(); ++e) {
        const Entry& entry = entries_[e];
        if (entry.holder != me_ || tiers_.region_of(entry.block) != (home_ + k) % regions) continue;
        send_owned(wire_, routes_.carriers(entry.block), Holding{Held{entry.span, held_[e]}});
      }
    }
    for (const int block : tiers_.region(home_).ranks) {
      if (block == me_ && tiers_.carries(me_)) finish();
      if (tiers_.carries(block)) continue;
      for (int region = 0; region < regions; ++region) {
        if (region != home_) receive_for(block, region);
      }
    }
  }

  void receive_for(int block, int region) {
    for (const Piece& piece : transfers_to(routes_.landing(block, region), routes_.carriers(block), me_)) {
      const Slice extent = B::in(number(block), piece.span.begin, piece.span.end);
      relayed_.emplace_back(block, wire_.recv_scratch(piece.from, extent));
    }
  }

  void relay() {
    wire_.phase(kRelayName);
    for (const auto& [block, slice] : relayed_) wire_.send(block, slice);
    if (!tiers_.carries(me_)) finish();
  }

  void finish() {
    const auto own = std::find_if(entries_.begin(), entries_.end(), [&](const Entry& e) { return e.block == me_; });
    const Holding mine{Held{Interval{}, held_[static_cast<std::size_t>(own - entries_.begin())]}};
    const int regions = static_cast<int>(tiers_.regions().size());
    std::vector<Partition> holders;
    for (int region = 0; region < regions; ++region) holders.push_back(remote_holders(me_, region));
    std::vector<Source> sources;
    for (int region = 0; region < regions; ++region) {
      sources.push_back(Source{&holders[static_cast<std::size_t>(region)], region == home_ ? &mine : nullptr, false});
    }
    const Place to_output = [](const Interval& span) { return B::out(0, span.begin, span.end); };
    reduce_owned(wire_, whole(me_), sources, to_output, true, number(me_));
  }

  Wire wire_;
  const BlockRoutes& routes_;
  const Tiers& tiers_;
  int me_;
  int home_;
  std::vector<Entry> entries_;
  std::vector<Slice> held_;  // by entry: this rank's input, then the sum of the largest unit for which it collects
  std::vector<std::vector<int>> collectors_;
  std::vector<std::pair<int, Slice>> relayed_;
};

Schedule build(const Request& request, int rank) {
  const Tiers tiers(request.cluster, block_options(request));
  const BlockRoutes routes(tiers, request.variant.starts_with("whole"));
  B builder(request.shape, request.cluster, rank, request.label());
  ReduceScatter(builder, routes).build();
  return builder.finish();
}

std::vector<spi::Stage> stages(const Request& request) {
  const Tiers tiers(request.cluster, block_options(request));
  const BlockRoutes routes(tiers, request.variant.starts_with("whole"));
  const int regions = static_cast<int>(tiers.regions().size());
  std::vector<double> reads;
  std::vector<spi::Stage> result = spread_stages(routes, reads);
  std::reverse(result.begin(), result.end());
  std::reverse(reads.begin(), reads.end());
  for (std::size_t l = 0; l < result.size(); ++l) {
    result[l].name = climb_name(tiers, tiers.levels()[l]);
    result[l].reduce_share = reads[l];
    for (spi::StageFlow& flow : result[l].flows) std::swap(flow.from, flow.to);
  }
  if (regions == 1) return result;

  spi::Stage cross;
  cross.name = kExchangeName;
  spi::Stage relay;
  relay.name = kRelayName;
  for (int block = 0; block < request.cluster.size(); ++block) {
    (tiers.carries(block) ? cross : relay).reduce_share = regions;
    for (int region = 0; region < regions; ++region) {
      if (region == tiers.region_of(block)) continue;
      const std::vector<Piece> pieces = transfers(routes.landing(block, region), routes.carriers(block));
      add_flows(cross, pieces);
      if (tiers.carries(block)) continue;
      for (const Piece& piece : pieces) relay.flows.push_back(spi::StageFlow{piece.to, block, piece.span.length()});
    }
  }
  result.push_back(std::move(cross));
  if (routes.relays()) result.push_back(std::move(relay));
  return result;
}

}  // namespace

Family reduce_scatter_family() { return Family{block_variants, stages, build, block_flows}; }

}  // namespace longspan::hierarchical
