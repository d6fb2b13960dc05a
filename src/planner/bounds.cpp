#include "planner/bounds.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <limits>

#include "planner/text.hpp"

namespace longspan::planner {
namespace {

constexpr double kUnknown = std::numeric_limits<double>::infinity();
/// All subsets and partitions of up to this many regions are tried (1,024 and 115,975); of more only single regions.
constexpr std::size_t kMaxSubsetRegions = 10;

std::size_t index(int value) { return static_cast<std::size_t>(value); }
double rate_of(const std::optional<Bandwidth>& rate) { return rate ? rate->bytes_per_second : kUnknown; }

std::string region_names(const Topology& topology, std::uint32_t subset, const std::vector<int>& regions) {
  std::string names;
  for (std::size_t i = 0; i < regions.size(); ++i) {
    if ((subset >> i & 1U) == 0) continue;
    names += (names.empty() ? "" : ", ") + topology.regions[index(regions[i])].name;
  }
  return names;
}

/// Blocks' worth of bytes that must leave a set of ranks, and enter it.
struct Need {
  double out = 0;
  double in = 0;
};

Need need(const CollectiveShape& shape, int inside, int all, bool root_inside) {
  const double a = inside;
  const double rest = all - inside;
  switch (shape.kind) {
    case Collective::kAllReduce: return {1, 1};
    case Collective::kAllGather: return {a, rest};
    case Collective::kReduceScatter: return {rest, a};
    case Collective::kBroadcast: return root_inside ? Need{1, 0} : Need{0, 1};
    case Collective::kReduce: return root_inside ? Need{0, 1} : Need{1, 0};
    case Collective::kGather: return root_inside ? Need{0, rest} : Need{a, 0};
    case Collective::kScatter: return root_inside ? Need{rest, 0} : Need{0, a};
    case Collective::kAllToAll: return {a * rest, a * rest};
    case Collective::kBarrier: break;
  }
  return {};
}

void raise(Bound& bound, double seconds, const std::string& cut) {
  if (seconds <= bound.seconds) return;
  bound.seconds = seconds;
  bound.cut = cut;
}

}  // namespace

BoundTable::BoundTable(const Cluster& cluster) : cluster_(&cluster), ranks_on_(cluster.topology.hosts.size(), 0) {
  for (const int host : cluster.host_of_rank) ++ranks_on_[index(host)];
  find_shortest_paths();
  add_host_cuts();
  add_group_cuts(cluster.topology.racks, &Host::rack, "rack");
  add_group_cuts(cluster.topology.sites, &Host::site, "site");
  add_region_cuts();
  everybody_ = longest_shortest_path(-1, false);
}

void BoundTable::find_shortest_paths() {
  const Topology& topology = cluster_->topology;
  const std::size_t n = topology.regions.size();
  std::vector<bool> populated(n, false);
  for (std::size_t h = 0; h < topology.hosts.size(); ++h) {
    if (ranks_on_[h] > 0) populated[index(topology.hosts[h].region)] = true;
  }
  wan_latency_.assign(n * n, kUnknown);
  for (std::size_t r = 0; r < n; ++r) wan_latency_[r * n + r] = 0;
  for (const WanLink& link : topology.wan) {
    double& known = wan_latency_[index(link.from) * n + index(link.to)];
    const Latency uplinks =
        topology.regions[index(link.from)].uplink_latency + topology.regions[index(link.to)].uplink_latency;
    known = std::min(known, (link.latency + uplinks).count());
  }
  for (std::size_t via = 0; via < n; ++via) {
    if (!populated[via]) continue;  // nobody there to pass anything on
    for (std::size_t from = 0; from < n; ++from) {
      for (std::size_t to = 0; to < n; ++to) {
        wan_latency_[from * n + to] =
            std::min(wan_latency_[from * n + to], wan_latency_[from * n + via] + wan_latency_[via * n + to]);
      }
    }
  }
}

double BoundTable::shortest(int from_host, int to_host) const {
  const Topology& topology = cluster_->topology;
  const Host& x = topology.hosts[index(from_host)];
  const Host& y = topology.hosts[index(to_host)];
  double seconds = wan_latency_[index(x.region) * topology.regions.size() + index(y.region)];
  if (x.rack != y.rack)
    seconds += (topology.racks[index(x.rack)].uplink_latency + topology.racks[index(y.rack)].uplink_latency).count();
  if (x.site != y.site)
    seconds += (topology.sites[index(x.site)].uplink_latency + topology.sites[index(y.site)].uplink_latency).count();
  return seconds;
}

double BoundTable::least_latency(const std::vector<bool>& inside, bool outwards) const {
  double least = kUnknown;
  for (std::size_t a = 0; a < inside.size(); ++a) {
    if (!inside[a] || ranks_on_[a] == 0) continue;
    for (std::size_t b = 0; b < inside.size(); ++b) {
      if (inside[b] || ranks_on_[b] == 0) continue;
      const auto from = static_cast<int>(outwards ? a : b);
      const auto to = static_cast<int>(outwards ? b : a);
      least = std::min(least, shortest(from, to));
      if (least <= 0) return 0;
    }
  }
  return least;
}

void BoundTable::add_cut(Cut cut) {
  if (cut.ranks == 0 || cut.ranks == cluster_->size()) return;
  if (cut.out == kUnknown && cut.in == kUnknown) return;
  cuts_.push_back(std::move(cut));
}

void BoundTable::add_host_cuts() {
  const Topology& topology = cluster_->topology;
  std::vector<Cut> blocks;
  for (std::size_t h = 0; h < topology.hosts.size(); ++h) {
    if (ranks_on_[h] == 0) continue;
    Cut cut;
    cut.name = fmt::format("nic {}", topology.hosts[h].name);
    cut.ranks = ranks_on_[h];
    cut.hosts.assign(topology.hosts.size(), false);
    cut.hosts[h] = true;
    cut.out = cut.in = rate_of(topology.hosts[h].nic);
    if (cut.out != kUnknown) {
      cut.out_latency = least_latency(cut.hosts, true);
      cut.in_latency = least_latency(cut.hosts, false);
    }
    blocks.push_back(cut);
    add_cut(std::move(cut));
  }
  add_partition_of(blocks, fmt::format("routing over {} hosts", blocks.size()));
}

void BoundTable::add_group_cuts(const std::vector<Group>& groups, int Host::* group_of, const char* what) {
  const Topology& topology = cluster_->topology;
  std::vector<Cut> blocks;
  for (std::size_t g = 0; g < groups.size(); ++g) {
    Cut cut;
    cut.hosts.assign(topology.hosts.size(), false);
    double nics = 0;
    for (std::size_t h = 0; h < topology.hosts.size(); ++h) {
      if (index(topology.hosts[h].*group_of) != g || ranks_on_[h] == 0) continue;
      cut.hosts[h] = true;
      cut.ranks += ranks_on_[h];
      nics += rate_of(topology.hosts[h].nic);
    }
    if (cut.ranks == 0) continue;
    cut.name = groups[g].name.empty() ? fmt::format("{} #{}", what, g) : fmt::format("{} {}", what, groups[g].name);
    cut.out = cut.in = std::min(rate_of(groups[g].uplink), nics);
    if (cut.out != kUnknown) {
      cut.out_latency = least_latency(cut.hosts, true);
      cut.in_latency = least_latency(cut.hosts, false);
    }
    blocks.push_back(cut);
    add_cut(std::move(cut));
  }
  add_partition_of(blocks, fmt::format("routing over {} {}s", blocks.size(), what));
}

void BoundTable::add_partition_of(const std::vector<Cut>& blocks, std::string name) {
  double out = 0;
  double in = 0;
  for (const Cut& block : blocks) {
    out += block.out;
    in += block.in;
  }
  const double capacity = std::min(out, in);
  if (blocks.size() < 2 || capacity == kUnknown) return;
  partitions_.push_back({std::move(name), static_cast<int>(blocks.size()), capacity});
}

double BoundTable::region_nics(int region) const {
  // All hosts, whether gateways or not: that only gateways carry cross-region traffic is a wish that some collectives
  // cannot grant (send/recv), and a bound must hold for them too.
  double nics = 0;
  for (std::size_t h = 0; h < ranks_on_.size(); ++h) {
    const Host& host = cluster_->topology.hosts[h];
    if (host.region == region && ranks_on_[h] > 0) nics += rate_of(host.nic);
  }
  return std::min(nics, rate_of(cluster_->topology.regions[index(region)].uplink));
}

double BoundTable::region_capacity(std::uint32_t subset, const std::vector<int>& regions, bool outwards) const {
  // What the inside can put on its links, or what the outside can take from them, whichever is less.
  std::vector<double> inner(regions.size(), 0);
  std::vector<double> outer(regions.size(), 0);
  for (std::size_t i = 0; i < regions.size(); ++i) {
    for (std::size_t j = 0; j < regions.size(); ++j) {
      if ((subset >> i & 1U) == 0 || (subset >> j & 1U) != 0) continue;
      const int from = outwards ? regions[i] : regions[j];
      const int to = outwards ? regions[j] : regions[i];
      const WanLink* link = cluster_->topology.wan_link(from, to);
      if (link == nullptr) continue;
      inner[i] += link->bandwidth.bytes_per_second;
      outer[j] += link->bandwidth.bytes_per_second;
    }
  }
  double inside = 0;
  double outside = 0;
  for (std::size_t i = 0; i < regions.size(); ++i) {
    const double own = region_nics(regions[i]);
    inside += std::min(inner[i], own);
    outside += std::min(outer[i], own);
  }
  return std::min(inside, outside);
}

void BoundTable::add_region_subset(std::uint32_t subset, const std::vector<int>& regions) {
  const Topology& topology = cluster_->topology;
  Cut cut;
  const std::string names = region_names(topology, subset, regions);
  cut.name = (names.find(',') == std::string::npos ? "region " : "regions ") + names;
  cut.hosts.assign(topology.hosts.size(), false);
  for (std::size_t h = 0; h < topology.hosts.size(); ++h) {
    const auto at = std::find(regions.begin(), regions.end(), topology.hosts[h].region) - regions.begin();
    if (ranks_on_[h] == 0 || (subset >> at & 1U) == 0) continue;
    cut.hosts[h] = true;
    cut.ranks += ranks_on_[h];
  }
  cut.out = region_capacity(subset, regions, true);
  cut.in = region_capacity(subset, regions, false);
  // No link at all: only a region without ranks joins them, and nobody there can relay. Planning fails; no bound holds.
  if (cut.out <= 0 || cut.in <= 0) return;
  cut.out_latency = cut.in_latency = kUnknown;
  for (std::size_t i = 0; i < regions.size(); ++i) {
    for (std::size_t j = 0; j < regions.size(); ++j) {
      if ((subset >> i & 1U) == 0 || (subset >> j & 1U) != 0) continue;
      const std::size_t n = topology.regions.size();
      cut.out_latency = std::min(cut.out_latency, wan_latency_[index(regions[i]) * n + index(regions[j])]);
      cut.in_latency = std::min(cut.in_latency, wan_latency_[index(regions[j]) * n + index(regions[i])]);
    }
  }
  add_cut(std::move(cut));
}

void BoundTable::add_region_cuts() {
  std::vector<int> regions;  // those with ranks
  for (std::size_t h = 0; h < ranks_on_.size(); ++h) {
    const int region = cluster_->topology.hosts[h].region;
    if (ranks_on_[h] > 0 && std::find(regions.begin(), regions.end(), region) == regions.end())
      regions.push_back(region);
  }
  std::sort(regions.begin(), regions.end());
  if (regions.size() < 2 || regions.size() > 32) return;
  if (regions.size() > kMaxSubsetRegions) {
    for (std::size_t i = 0; i < regions.size(); ++i) add_region_subset(std::uint32_t{1} << i, regions);
    return;
  }
  const std::uint32_t subsets = std::uint32_t{1} << regions.size();
  std::vector<double> out(subsets, 0);
  std::vector<double> in(subsets, 0);
  for (std::uint32_t subset = 1; subset + 1 < subsets; ++subset) {
    out[subset] = region_capacity(subset, regions, true);
    in[subset] = region_capacity(subset, regions, false);
    // The rest of the regions is the same cut seen from the other side: the smaller side has the shorter name.
    const auto inside = static_cast<std::size_t>(std::popcount(subset));
    if (inside * 2 < regions.size() || (inside * 2 == regions.size() && (subset & 1U) != 0))
      add_region_subset(subset, regions);
  }
  add_region_partitions(regions, out, in);
}

void BoundTable::add_region_partitions(const std::vector<int>& regions, const std::vector<double>& out,
                                       const std::vector<double>& in) {
  const std::size_t n = regions.size();
  std::vector<Partition> tightest(n + 1);
  // Every set partition once, as a restricted growth string: block_of[i] <= 1 + max(block_of[0..i-1]).
  std::vector<std::uint32_t> members(n, 0);
  const auto visit = [&](std::size_t blocks) {
    double sum_out = 0;
    double sum_in = 0;
    for (std::size_t b = 0; b < blocks; ++b) {
      sum_out += out[members[b]];
      sum_in += in[members[b]];
    }
    const double capacity = std::min(sum_out, sum_in);
    Partition& known = tightest[blocks];
    if (known.blocks != 0 && known.capacity <= capacity) return;
    std::string name = fmt::format("routing over {} regions", blocks);
    if (blocks < n) {
      name = "routing over regions";
      for (std::size_t b = 0; b < blocks; ++b)
        name += fmt::format(" {{{}}}", region_names(cluster_->topology, members[b], regions));
    }
    known = {std::move(name), static_cast<int>(blocks), capacity};
  };
  const auto assign = [&](auto&& self, std::size_t at, std::size_t blocks) -> void {
    if (at == n) {
      if (blocks >= 2) visit(blocks);
      return;
    }
    for (std::size_t b = 0; b <= blocks && b < n; ++b) {
      members[b] |= std::uint32_t{1} << at;
      self(self, at + 1, std::max(blocks, b + 1));
      members[b] &= ~(std::uint32_t{1} << at);
    }
  };
  assign(assign, 0, 0);
  for (Partition& partition : tightest) {
    if (partition.blocks != 0 && partition.capacity > 0 && partition.capacity != kUnknown)
      partitions_.push_back(std::move(partition));
  }
}

Bound BoundTable::latency_bound(const CollectiveShape& shape) const {
  if (!has_root(shape.kind)) return everybody_;
  const bool to_root = shape.kind == Collective::kReduce || shape.kind == Collective::kGather;
  return longest_shortest_path(cluster_->host_of_rank[index(shape.root)], to_root);
}

Bound BoundTable::longest_shortest_path(int root_host, bool to_root) const {
  const Topology& topology = cluster_->topology;
  const int hosts = static_cast<int>(topology.hosts.size());
  Bound bound;
  double longest = 0;
  for (int a = 0; a < hosts; ++a) {
    for (int b = 0; b < hosts; ++b) {
      if (a == b || ranks_on_[index(a)] == 0 || ranks_on_[index(b)] == 0) continue;
      if (root_host >= 0 && (to_root ? b : a) != root_host) continue;
      const double seconds = shortest(a, b);
      if (seconds <= longest || seconds == kUnknown) continue;
      longest = seconds;
      bound = {seconds, fmt::format("latency {} -> {}", topology.hosts[index(a)].name, topology.hosts[index(b)].name)};
    }
  }
  return bound;
}

Bound BoundTable::bound(const CollectiveShape& shape, double block_bytes) const {
  Bound least = latency_bound(shape);
  if (block_bytes <= 0 || shape.kind == Collective::kBarrier) return least;
  const int root_host = has_root(shape.kind) ? cluster_->host_of_rank[index(shape.root)] : 0;
  for (const Cut& cut : cuts_) {
    const Need blocks = need(shape, cut.ranks, cluster_->size(), cut.hosts[index(root_host)]);
    if (blocks.out > 0 && cut.out != kUnknown) {
      raise(least, blocks.out * block_bytes / cut.out + cut.out_latency,
            fmt::format("{} out: {}", cut.name, rate_text(cut.out)));
    }
    if (blocks.in > 0 && cut.in != kUnknown) {
      raise(least, blocks.in * block_bytes / cut.in + cut.in_latency,
            fmt::format("{} in: {}", cut.name, rate_text(cut.in)));
    }
  }
  if (shape.kind != Collective::kAllReduce) return least;
  for (const Partition& partition : partitions_) {
    raise(least, 2.0 * (partition.blocks - 1) * block_bytes / partition.capacity,
          fmt::format("{}: {} together", partition.name, rate_text(partition.capacity)));
  }
  return least;
}

}  // namespace longspan::planner
