#include <algorithm>

#include "hierarchical/exchange.hpp"
#include "hierarchical/variant.hpp"

namespace longspan::hierarchical {
namespace {

using B = spi::ScheduleBuilder;

TierOptions options_of(const Request& request) {
  TierOptions options;
  options.leader = true;
  options.flat = request.is("leader");
  return options;
}

std::vector<std::string> variants(const CollectiveShape&, const Cluster& cluster) {
  const Outline outline = outline_of(cluster);
  std::vector<std::string> names;
  if (outline.largest_region <= kLargestFlatRegion) names.push_back("leader");
  if (outline.layered || names.empty()) names.push_back("leader-tree");
  return names;
}

int leader(const Unit& unit) { return unit.partition.front().rank; }

std::string arrive(Tier level) { return std::string(name_of(level)) + " arrive"; }
std::string leave(Tier level) { return std::string(name_of(level)) + " leave"; }

// What this rank has heard of before it says more.
using Heard = std::vector<std::uint32_t>;

Schedule build(const Request& request, int rank) {
  const Tiers tiers(request.cluster, options_of(request));
  B builder(request.shape, request.cluster, rank, request.label());
  Wire wire(builder);
  Heard heard;
  for (const Tier level : tiers.levels()) {
    wire.phase(arrive(level));
    const int id = tiers.unit_at(rank, level);
    if (id < 0 || leader(tiers.unit(tiers.below(rank, level))) != rank) continue;
    const Unit& unit = tiers.unit(id);
    if (leader(unit) != rank) {
      wire.send_signal(leader(unit), heard);
      continue;
    }
    for (const int child : unit.children) {
      if (leader(tiers.unit(child)) != rank) heard.push_back(wire.recv_signal(leader(tiers.unit(child))));
    }
  }
  const int regions = static_cast<int>(tiers.regions().size());
  const int home = tiers.region_of(rank);
  if (regions > 1) wire.phase(kExchangeName);
  if (leader(tiers.region(home)) == rank) {
    for (int k = 1; k < regions; ++k) wire.send_signal(leader(tiers.region((home + k) % regions)), heard);
    for (int k = 1; k < regions; ++k) heard.push_back(wire.recv_signal(leader(tiers.region((home + k) % regions))));
  }
  for (auto level = tiers.levels().rbegin(); level != tiers.levels().rend(); ++level) {
    wire.phase(leave(*level));
    const int id = tiers.unit_at(rank, *level);
    if (id < 0 || leader(tiers.unit(tiers.below(rank, *level))) != rank) continue;
    const Unit& unit = tiers.unit(id);
    if (leader(unit) != rank) {
      heard = Heard{wire.recv_signal(leader(unit))};
      continue;
    }
    for (const int child : unit.children) {
      if (leader(tiers.unit(child)) != rank) wire.send_signal(leader(tiers.unit(child)), heard);
    }
  }
  return builder.finish();
}

std::vector<spi::Stage> stages(const Request& request) {
  const Tiers tiers(request.cluster, options_of(request));
  std::vector<spi::Stage> up;
  for (const Tier level : tiers.levels()) {
    spi::Stage stage;
    stage.name = arrive(level);
    for (const Unit& unit : tiers.units()) {
      if (unit.level != level) continue;
      for (const int child : unit.children) {
        const int from = leader(tiers.unit(child));
        if (from != leader(unit)) stage.flows.push_back(spi::StageFlow{from, leader(unit), 0});
      }
    }
    up.push_back(std::move(stage));
  }
  std::vector<spi::Stage> result = up;
  const int regions = static_cast<int>(tiers.regions().size());
  if (regions > 1) result.emplace_back().name = kExchangeName;
  for (int from = 0; from < regions; ++from) {
    for (int to = 0; to < regions; ++to) {
      if (from != to)
        result.back().flows.push_back(spi::StageFlow{leader(tiers.region(from)), leader(tiers.region(to)), 0});
    }
  }
  for (std::size_t l = up.size(); l-- > 0;) {
    spi::Stage stage = up[l];
    stage.name = leave(tiers.levels()[l]);
    for (spi::StageFlow& flow : stage.flows) std::swap(flow.from, flow.to);
    result.push_back(std::move(stage));
  }
  return result;
}

std::size_t flow_count(const Request& request) {
  const TierOptions options = options_of(request);
  return 2 * inner_flows(request.cluster, options) + outer_flows(request.cluster, options);
}

}  // namespace

Family barrier_family() { return Family{variants, stages, build, flow_count}; }

}  // namespace longspan::hierarchical
