#include <algorithm>

#include "hierarchical/exchange.hpp"
#include "hierarchical/variant.hpp"

namespace longspan::hierarchical {
namespace {

constexpr const char* kScatterName = "region scatter";
constexpr const char* kCollectName = "region gather";

TierOptions options_of(const Request& request) {
  TierOptions options;
  options.flat = request.variant.ends_with("flat") || request.is("leader");
  options.leader = request.variant.starts_with("leader");
  options.preferred_leader = request.shape.root;
  return options;
}

std::vector<std::string> variants(const CollectiveShape&, const Cluster& cluster) {
  const Outline outline = outline_of(cluster);
  const bool flat = outline.largest_region <= kLargestFlatRegion;
  std::vector<std::string> names{"sharded"};
  if (outline.largest_region > 1) {
    if (outline.layered && flat) names.push_back("sharded-flat");
    if (flat) names.push_back("leader");
    if (outline.layered) names.push_back("leader-tree");
  }
  return names;
}

std::vector<Piece> shards_of(const Tiers& tiers, int root) {
  return transfers(whole(root), tiers.region(tiers.region_of(root)).partition);
}

// --- broadcast: scatter to the carriers of the root's region, each shard once to each other region, allgather inside.
// --

void send_to_regions(Wire& wire, const Tiers& tiers, int home, const Holding& mine) {
  const int count = static_cast<int>(tiers.regions().size());
  for (int k = 1; k < count; ++k) send_owned(wire, tiers.region((home + k) % count).partition, mine);
}

Schedule build_broadcast(const Request& request, const Tiers& tiers, int rank) {
  using B = spi::ScheduleBuilder;
  B builder(request.shape, request.cluster, rank, request.label());
  Wire wire(builder);
  const int root = request.shape.root;
  const int home = tiers.region_of(root);
  const int here = tiers.region_of(rank);
  const Slice data = rank == root ? B::in() : B::out();

  wire.phase(kScatterName);
  Holding mine;
  for (const Piece& shard : shards_of(tiers, root)) {
    if (shard.to == rank) mine.push_back(Held{shard.span, cut(data, shard.span)});
    if (shard.to == root) continue;
    if (rank == root) wire.send(shard.to, cut(data, shard.span));
    if (rank == shard.to) wire.recv(root, cut(data, shard.span));
  }
  if (tiers.regions().size() > 1) wire.phase(kExchangeName);
  if (here == home) {
    send_to_regions(wire, tiers, home, mine);
  } else {
    for (const Piece& piece : transfers_to(tiers.region(home).partition, tiers.region(here).partition, rank)) {
      wire.recv(piece.from, cut(data, piece.span));
    }
  }
  descend(wire, tiers, data, root);
  if (rank == root) builder.copy(B::out(), B::in());
  return builder.finish();
}

std::vector<spi::Stage> broadcast_stages(const Request& request, const Tiers& tiers) {
  const int root = request.shape.root;
  const int home = tiers.region_of(root);
  std::vector<spi::Stage> stages(1);
  stages[0].name = kScatterName;
  add_flows(stages[0], shards_of(tiers, root));
  const int count = static_cast<int>(tiers.regions().size());
  if (count > 1) stages.emplace_back().name = kExchangeName;
  for (int g = 0; g < count; ++g) {
    if (g != home) add_flows(stages.back(), transfers(tiers.region(home).partition, tiers.region(g).partition));
  }
  add_descend(stages, tiers, root);
  return stages;
}

// --- reduce: reduce-scatter inside, each shard once to the root's region, from its owners to the root.
// -----------------

Schedule build_reduce(const Request& request, const Tiers& tiers, int rank) {
  using B = spi::ScheduleBuilder;
  B builder(request.shape, request.cluster, rank, request.label());
  Wire wire(builder);
  const int root = request.shape.root;
  const int home = tiers.region_of(root);
  const Place to_result = [&](const Interval& span) {
    return rank == root ? B::out(0, span.begin, span.end) : builder.scratch(B::in(0, span.begin, span.end));
  };
  Holding mine;
  if (tiers.regions().size() == 1) {
    if (builder.ranks() == 1) builder.reduce(B::out(), {B::in()}, true);
    mine = climb(wire, tiers, B::in(), &to_result);
  } else {
    mine = climb(wire, tiers, B::in(), nullptr);
    if (tiers.region_of(rank) == home) {
      mine = exchange_regions(wire, tiers, mine, to_result, home);
    } else {
      wire.phase(kExchangeName);
      send_owned(wire, tiers.region(home).partition, mine);
    }
  }
  wire.phase(kCollectName);
  for (const Piece& shard : shards_of(tiers, root)) {
    if (shard.to == root) continue;
    if (rank == shard.to) wire.send(root, find(mine, shard.span));
    if (rank == root) wire.recv(shard.to, B::out(0, shard.span.begin, shard.span.end));
  }
  return builder.finish();
}

std::vector<spi::Stage> reduce_stages(const Request& request, const Tiers& tiers) {
  const int root = request.shape.root;
  const int home = tiers.region_of(root);
  const int count = static_cast<int>(tiers.regions().size());
  std::vector<spi::Stage> stages;
  add_climb(stages, tiers);
  spi::Stage exchange;
  exchange.name = kExchangeName;
  for (int g = 0; g < count; ++g) {
    if (g != home) add_flows(exchange, transfers(tiers.region(g).partition, tiers.region(home).partition));
  }
  exchange.reduce_share = largest_share(tiers.region(home).partition) * count;
  if (count > 1) stages.push_back(std::move(exchange));
  spi::Stage collect;
  collect.name = kCollectName;
  std::vector<Piece> shards = shards_of(tiers, root);
  for (Piece& shard : shards) std::swap(shard.from, shard.to);
  add_flows(collect, shards);
  stages.push_back(std::move(collect));
  return stages;
}

std::vector<spi::Stage> stages(const Request& request) {
  const Tiers tiers(request.cluster, options_of(request));
  return request.shape.kind == Collective::kBroadcast ? broadcast_stages(request, tiers)
                                                      : reduce_stages(request, tiers);
}

Schedule build(const Request& request, int rank) {
  const Tiers tiers(request.cluster, options_of(request));
  return request.shape.kind == Collective::kBroadcast ? build_broadcast(request, tiers, rank)
                                                      : build_reduce(request, tiers, rank);
}

std::size_t flow_count(const Request& request) {
  const TierOptions options = options_of(request);
  return inner_flows(request.cluster, options) + outer_flows(request.cluster, options);
}

}  // namespace

Family rooted_family() { return Family{variants, stages, build, flow_count}; }

}  // namespace longspan::hierarchical
