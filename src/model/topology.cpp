#include "longspan/topology.hpp"

#include <fmt/format.h>

namespace longspan {
namespace {

const Group& at(const std::vector<Group>& groups, int index) { return groups[static_cast<std::size_t>(index)]; }

}  // namespace

std::string_view name_of(Provenance provenance) noexcept {
  switch (provenance) {
    case Provenance::kDefault: return "default";
    case Provenance::kFile: return "file";
    case Provenance::kProbe: return "probe";
    case Provenance::kDiscovered: return "discovered";
    case Provenance::kLauncher: return "launcher";
  }
  return "unknown";
}

const WanLink* Topology::wan_link(int from_region, int to_region) const noexcept {
  for (const WanLink& link : wan) {
    if (link.from == from_region && link.to == to_region) return &link;
  }
  return nullptr;
}

int Topology::find_host(std::string_view name) const noexcept {
  for (std::size_t i = 0; i < hosts.size(); ++i) {
    if (hosts[i].name == name) return static_cast<int>(i);
  }
  return -1;
}

Topology flat_topology(const std::vector<std::string>& host_names) {
  Topology topology;
  topology.source = "(no topology file: hosts grouped by name, one region)";
  topology.regions.push_back(Group{"region", -1, {}, {}});
  topology.sites.push_back(Group{"", 0, {}, {}});
  topology.racks.push_back(Group{"", 0, {}, {}});
  for (const std::string& name : host_names) {
    if (topology.find_host(name) >= 0) continue;
    Host host;
    host.name = name;
    topology.hosts.push_back(std::move(host));
  }
  return topology;
}

Tier Cluster::tier_between(int a, int b) const {
  if (a == b) return Tier::kSelf;
  const Host& x = host(a);
  const Host& y = host(b);
  if (&x == &y) return Tier::kHost;
  if (x.rack == y.rack) return Tier::kRack;
  if (x.site == y.site) return Tier::kSite;
  if (x.region == y.region) return Tier::kRegion;
  return Tier::kWan;
}

Latency Cluster::latency(int from, int to) const {
  const Host& x = host(from);
  const Host& y = host(to);
  Latency sum{0};
  const auto cross = [&sum](const std::vector<Group>& groups, int a, int b) {
    if (a == b) return;
    sum += at(groups, a).uplink_latency + at(groups, b).uplink_latency;
  };
  cross(topology.racks, x.rack, y.rack);
  cross(topology.sites, x.site, y.site);
  cross(topology.regions, x.region, y.region);
  if (const WanLink* link = x.region == y.region ? nullptr : topology.wan_link(x.region, y.region)) {
    sum += link->latency;
  }
  return sum;
}

std::string Cluster::describe(int rank) const {
  if (rank < 0 || rank >= size()) return fmt::format("rank {}", rank);
  const Host& where = host(rank);
  return fmt::format("rank {} (host {}, region {})", rank, where.name, at(topology.regions, where.region).name);
}

Cluster place_in_order(Topology topology, int ranks_per_host) {
  Cluster cluster;
  for (std::size_t h = 0; h < topology.hosts.size(); ++h) {
    cluster.host_of_rank.insert(cluster.host_of_rank.end(), static_cast<std::size_t>(ranks_per_host),
                                static_cast<int>(h));
  }
  cluster.topology = std::move(topology);
  return cluster;
}

}  // namespace longspan
