#include "planner/network.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

namespace longspan::planner {
namespace {

/// Of an uplink that is not stated: its time is then 0 without a special case.
constexpr double kUnlimited = std::numeric_limits<double>::infinity();

double stated_of(const std::optional<Bandwidth>& bandwidth) { return bandwidth ? bandwidth->bytes_per_second : 0; }

double buffer_margin(const Topology& topology, const WanLink& link, const CostParameters& parameters) {
  if (!link.buffer_bytes) return parameters.deep_buffer_margin;
  const WanLink* back = topology.wan_link(link.to, link.from);
  const double rtt = link.latency.count() + (back ? back->latency.count() : link.latency.count());
  const double deep = link.bandwidth.bytes_per_second * std::min(rtt / 2, parameters.deep_buffer_seconds);
  const double depth = deep > 0 ? std::min(1.0, static_cast<double>(*link.buffer_bytes) / deep) : 1.0;
  return parameters.shallow_buffer_margin +
         depth * (parameters.deep_buffer_margin - parameters.shallow_buffer_margin);
}

}  // namespace

Network::Network(const Cluster& cluster, const CostParameters& parameters)
    : cluster_(&cluster), payload_fraction_(parameters.payload_fraction) {
  const Topology& topology = cluster.topology;
  for (std::size_t h = 0; h < topology.hosts.size(); ++h) add(0, parameters.host_memory_bytes_per_second);
  for (std::size_t direction = 1; direction <= 2; ++direction) {
    first_[direction] = capacities_.size();
    for (const Host& host : topology.hosts)
      add(stated_of(host.nic), parameters.nic_bytes_per_second * payload_fraction_);
  }
  add_groups(topology.racks, 3);
  add_groups(topology.sites, 5);
  add_groups(topology.regions, 7);
  first_[9] = capacities_.size();
  const std::size_t regions = topology.regions.size();
  wan_index_.assign(regions * regions, -1);
  for (std::size_t w = 0; w < topology.wan.size(); ++w) {
    const WanLink& link = topology.wan[w];
    const double margin = buffer_margin(topology, link, parameters);
    wan_budgets_.push_back(margin * link.bandwidth.bytes_per_second);
    add(link.bandwidth.bytes_per_second, 0);
    capacities_.back() = wan_budgets_.back() * payload_fraction_;
    wan_index_[static_cast<std::size_t>(link.from) * regions + static_cast<std::size_t>(link.to)] =
        static_cast<std::int32_t>(w);
  }
}

void Network::add(double stated, double assumed) {
  stated_.push_back(stated);
  capacities_.push_back(stated > 0 ? stated * payload_fraction_ : assumed);
}

void Network::add_groups(const std::vector<Group>& groups, std::size_t kind) {
  for (std::size_t direction = 0; direction < 2; ++direction) {
    first_[kind + direction] = capacities_.size();
    for (const Group& group : groups) add(stated_of(group.uplink), kUnlimited);
  }
}

ResourceKind Network::kind(std::uint32_t resource) const {
  std::size_t kind = 9;
  while (kind > 0 && resource < first_[kind]) --kind;
  return static_cast<ResourceKind>(kind);
}

std::string Network::name(std::uint32_t resource) const {
  const ResourceKind of = kind(resource);
  const std::size_t index = resource - first_[static_cast<std::size_t>(of)];
  const Topology& topology = cluster_->topology;
  const auto group = [index](const std::vector<Group>& groups, const char* what, const char* direction) {
    const std::string& given = groups[index].name;
    return given.empty() ? fmt::format("{} #{} {}", what, index, direction)
                         : fmt::format("{} {} {}", what, given, direction);
  };
  switch (of) {
    case ResourceKind::kMemory: return fmt::format("memory {}", topology.hosts[index].name);
    case ResourceKind::kNicOut: return fmt::format("nic {} out", topology.hosts[index].name);
    case ResourceKind::kNicIn: return fmt::format("nic {} in", topology.hosts[index].name);
    case ResourceKind::kRackOut: return group(topology.racks, "rack", "out");
    case ResourceKind::kRackIn: return group(topology.racks, "rack", "in");
    case ResourceKind::kSiteOut: return group(topology.sites, "site", "out");
    case ResourceKind::kSiteIn: return group(topology.sites, "site", "in");
    case ResourceKind::kRegionOut: return group(topology.regions, "region", "out");
    case ResourceKind::kRegionIn: return group(topology.regions, "region", "in");
    case ResourceKind::kWan: break;
  }
  const WanLink& link = topology.wan[index];
  return fmt::format("wan {}->{}", topology.regions[static_cast<std::size_t>(link.from)].name,
                     topology.regions[static_cast<std::size_t>(link.to)].name);
}

void Network::cross(Path& path, const std::vector<Group>& groups, ResourceKind out, int from, int to) const {
  if (from == to) return;
  path.latency_seconds +=
      (groups[static_cast<std::size_t>(from)].uplink_latency + groups[static_cast<std::size_t>(to)].uplink_latency)
          .count();
  const auto in = static_cast<ResourceKind>(static_cast<int>(out) + 1);
  for (const std::uint32_t resource : {id(out, from), id(in, to)}) {
    if (stated_[resource] > 0) path.resources[path.count++] = resource;
  }
}

Network::Path Network::path(int from_rank, int to_rank) const {
  Path path;
  const Topology& topology = cluster_->topology;
  const int from = cluster_->host_of_rank[static_cast<std::size_t>(from_rank)];
  const int to = cluster_->host_of_rank[static_cast<std::size_t>(to_rank)];
  path.tier = cluster_->tier_between(from_rank, to_rank);
  if (path.tier == Tier::kSelf) return path;
  if (from == to) {
    path.resources[path.count++] = id(ResourceKind::kMemory, from);
    return path;
  }
  path.resources[path.count++] = id(ResourceKind::kNicOut, from);
  path.resources[path.count++] = id(ResourceKind::kNicIn, to);
  const Host& x = topology.hosts[static_cast<std::size_t>(from)];
  const Host& y = topology.hosts[static_cast<std::size_t>(to)];
  cross(path, topology.racks, ResourceKind::kRackOut, x.rack, y.rack);
  cross(path, topology.sites, ResourceKind::kSiteOut, x.site, y.site);
  cross(path, topology.regions, ResourceKind::kRegionOut, x.region, y.region);
  if (x.region == y.region) return path;
  path.wan =
      wan_index_[static_cast<std::size_t>(x.region) * topology.regions.size() + static_cast<std::size_t>(y.region)];
  path.reachable = path.wan >= 0;
  if (path.reachable) {
    const auto wan = static_cast<std::size_t>(path.wan);
    path.resources[path.count++] = wan_resource(wan);
    path.latency_seconds += topology.wan[wan].latency.count();
  }
  return path;
}

}  // namespace longspan::planner
