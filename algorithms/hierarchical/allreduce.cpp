#include <algorithm>

#include "hierarchical/exchange.hpp"
#include "hierarchical/variant.hpp"

namespace longspan::hierarchical {
namespace {

constexpr int kMostDuplicates = 16;

TierOptions options_of(const Request& request) {
  TierOptions options;
  options.flat = request.variant.ends_with("flat") || request.is("leader");
  options.leader = request.variant.starts_with("leader");
  options.ring = request.variant.ends_with("ring");
  options.world = request.variant.starts_with("rs-ag");
  return options;
}

std::vector<std::string> variants(const CollectiveShape&, const Cluster& cluster) {
  const Outline outline = outline_of(cluster);
  const bool flat = outline.largest_region <= kLargestFlatRegion;
  std::vector<std::string> names;
  if (outline.regions == 1) {
    names = {"sharded"};
    if (outline.layered && flat) names.push_back("sharded-flat");
  } else {
    names = {"one-shot"};
    if (outline.regions > 2) names.push_back("rs-ag");
    if (outline.layered && flat) names.push_back("one-shot-flat");
    if (flat && outline.most_gateways <= kMostDuplicates && outline.largest_region > 1) names.push_back("duplicate");
  }
  if (outline.long_rings) {
    names.push_back(outline.regions == 1 ? "sharded-ring" : "one-shot-ring");
    if (outline.regions > 2) names.push_back("rs-ag-ring");
  }
  if (outline.largest_region > 1) {
    if (flat) names.push_back("leader");
    if (outline.layered) names.push_back("leader-tree");
  }
  return names;
}

bool faces_regions(const Tiers& tiers, const TierOptions& options) {
  return tiers.regions().size() > 1 && !options.world;
}

// --- duplicate: every gateway reduces its whole region, then every gateway of another region gets a copy of that.
// -----

// The gateway that serves the k-th gateway of another region.
int server_of(const Tiers& tiers, int region, std::size_t k) {
  const auto gateways = tiers.gateways(region);
  return gateways[k % gateways.size()];
}

// The gateway that hands the result to the k-th rank of its region, where that is no gateway.
int feeder_of(const Tiers& tiers, int region, std::size_t k) { return server_of(tiers, region, k); }

void build_duplicate(Wire& wire, const Tiers& tiers) {
  using B = spi::ScheduleBuilder;
  const int me = wire.rank();
  const int home = tiers.region_of(me);
  const auto ranks = std::span<const int>(tiers.region(home).ranks);
  const auto gateways = tiers.gateways(home);
  const int regions = static_cast<int>(tiers.regions().size());

  wire.phase("region reduce");
  for (const int gateway : gateways) {
    if (gateway != me) wire.send(gateway, B::in());
  }
  Slice sum = B::in();
  if (tiers.carries(me) && ranks.size() > 1) {
    std::vector<Slice> operands;
    for (const int rank : ranks) operands.push_back(rank == me ? B::in() : wire.recv_scratch(rank, B::in()));
    sum = wire.builder().scratch(B::in());
    wire.builder().reduce(sum, operands, false);
  }

  wire.phase(kExchangeName);
  std::vector<Slice> sums(static_cast<std::size_t>(regions), sum);
  for (int step = 1; step < regions && tiers.carries(me); ++step) {
    const int other = (home + step) % regions;
    const auto receivers = tiers.gateways(other);
    for (std::size_t k = 0; k < receivers.size(); ++k) {
      if (server_of(tiers, home, k) == me) wire.send(receivers[k], sum);
    }
  }
  const auto mine = static_cast<std::size_t>(std::find(gateways.begin(), gateways.end(), me) - gateways.begin());
  for (int other = 0; other < regions && tiers.carries(me); ++other) {
    if (other == home) continue;
    sums[static_cast<std::size_t>(other)] = wire.recv_copied(server_of(tiers, other, mine), B::in());
  }
  if (tiers.carries(me)) wire.builder().reduce(B::out(), sums, true);

  wire.phase("region broadcast");
  for (std::size_t k = 0; k < ranks.size(); ++k) {
    if (tiers.carries(ranks[k])) continue;
    const int feeder = feeder_of(tiers, home, k);
    if (feeder == me) wire.send(ranks[k], B::out());
    if (ranks[k] == me) wire.recv(feeder, B::out());
  }
}

std::vector<spi::Stage> duplicate_stages(const Tiers& tiers) {
  std::vector<spi::Stage> stages(3);
  stages[0].name = "region reduce";
  stages[1].name = kExchangeName;
  stages[2].name = "region broadcast";
  const int regions = static_cast<int>(tiers.regions().size());
  for (int g = 0; g < regions; ++g) {
    const std::vector<int>& ranks = tiers.region(g).ranks;
    const auto gateways = tiers.gateways(g);
    if (ranks.size() > 1) stages[0].reduce_share = std::max(stages[0].reduce_share, static_cast<double>(ranks.size()));
    for (std::size_t k = 0; k < ranks.size(); ++k) {
      for (const int gateway : gateways) {
        if (gateway != ranks[k]) stages[0].flows.push_back(spi::StageFlow{ranks[k], gateway, 1});
      }
      if (!tiers.carries(ranks[k])) stages[2].flows.push_back(spi::StageFlow{feeder_of(tiers, g, k), ranks[k], 1});
    }
    for (std::size_t k = 0; k < gateways.size(); ++k) {
      for (int other = 0; other < regions; ++other) {
        if (other != g) stages[1].flows.push_back(spi::StageFlow{server_of(tiers, other, k), gateways[k], 1});
      }
    }
  }
  stages[1].reduce_share = regions;
  return stages;
}

// --- the tree -----------------------------------------------------------------------------------------------------

std::vector<spi::Stage> stages(const Request& request) {
  const TierOptions options = options_of(request);
  const Tiers tiers(request.cluster, options);
  if (request.is("duplicate")) return duplicate_stages(tiers);
  std::vector<spi::Stage> result;
  add_climb(result, tiers);
  if (faces_regions(tiers, options)) add_exchange(result, tiers);
  add_descend(result, tiers, -1);
  return result;
}

Schedule build(const Request& request, int rank) {
  using B = spi::ScheduleBuilder;
  const TierOptions options = options_of(request);
  const Tiers tiers(request.cluster, options);
  B builder(request.shape, request.cluster, rank, request.label());
  Wire wire(builder);
  if (request.is("duplicate")) {
    build_duplicate(wire, tiers);
    return builder.finish();
  }
  const Place to_output = [](const Interval& span) { return B::out(0, span.begin, span.end); };
  if (request.cluster.size() == 1) builder.reduce(B::out(), {B::in()}, true);
  if (faces_regions(tiers, options)) {
    const Holding sums = climb(wire, tiers, B::in(), nullptr);
    exchange_regions(wire, tiers, sums, to_output);
  } else {
    climb(wire, tiers, B::in(), &to_output);
  }
  descend(wire, tiers, B::out(), -1);
  return builder.finish();
}

std::size_t flow_count(const Request& request) {
  const TierOptions options = options_of(request);
  if (request.is("duplicate")) return inner_flows(request.cluster, TierOptions{.flat = true});
  return 2 * inner_flows(request.cluster, options) + outer_flows(request.cluster, options);
}

}  // namespace

Family allreduce_family() { return Family{variants, stages, build, flow_count}; }

}  // namespace longspan::hierarchical
