#include <algorithm>

#include "inventory/inventory.hpp"

namespace longspan::device {
namespace {

template <class Devices>
std::vector<std::string> at_node(const Devices& devices, int numa) {
  std::vector<std::string> names;
  for (const auto& each : devices) {
    if (numa >= 0 && each.place.numa == numa) names.push_back(each.name);
  }
  return names;
}

}  // namespace

std::vector<RankPlace> place_ranks(const Inventory& inventory, int ranks) {
  std::vector<const NumaNode*> nodes;  // those with cores: others are memory alone
  for (const NumaNode& node : inventory.numa) {
    if (!node.cpus.empty()) nodes.push_back(&node);
  }
  const auto wanted = static_cast<std::size_t>(std::max(ranks, 0));
  std::vector<RankPlace> places(wanted);
  if (nodes.empty()) return places;
  std::vector<std::vector<std::size_t>> ranks_of(nodes.size());
  for (std::size_t i = 0; i < wanted; ++i) {
    RankPlace& place = places[i];
    std::size_t node = i * nodes.size() / wanted;
    if (!inventory.gpus.empty()) {
      const Gpu& gpu = inventory.gpus[i % inventory.gpus.size()];
      place.gpu = gpu.name;
      place.nics = gpu.nearest_nics;
      place.rdma = gpu.nearest_rdma;
      const auto at = std::find_if(nodes.begin(), nodes.end(),
                                   [&](const NumaNode* each) { return each->number == gpu.place.numa; });
      if (at != nodes.end()) node = static_cast<std::size_t>(at - nodes.begin());
    }
    place.numa = nodes[node]->number;
    if (place.gpu.empty()) {
      place.nics = at_node(inventory.nics, place.numa);
      place.rdma = at_node(inventory.rdma, place.numa);
    }
    ranks_of[node].push_back(i);
  }
  for (std::size_t n = 0; n < nodes.size(); ++n) {
    const std::vector<int>& cpus = nodes[n]->cpus;
    const std::size_t sharers = ranks_of[n].size();
    for (std::size_t k = 0; k < sharers; ++k) {
      const bool enough = cpus.size() >= sharers;
      const auto from = enough ? k * cpus.size() / sharers : 0,
                 to = enough ? (k + 1) * cpus.size() / sharers : cpus.size();
      places[ranks_of[n][k]].cpus.assign(cpus.begin() + static_cast<std::ptrdiff_t>(from),
                                         cpus.begin() + static_cast<std::ptrdiff_t>(to));
    }
  }
  return places;
}

}  // namespace longspan::device
