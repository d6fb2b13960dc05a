#pragma once

// Places to plan for, and running an algorithm through the checker on them.

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>
#include <string>
#include <vector>

#include "longspan/spi/algorithm.hpp"
#include "longspan/spi/registry.hpp"
#include "longspan/topology.hpp"
#include "schedule/checker.hpp"

namespace longspan::test {

/// Ranks of each host of each region: {{2, 1}, {4}} is a region with hosts of 2 and 1 ranks, and one with a host of 4.
using Layout = std::vector<std::vector<int>>;

/// All regions are linked both ways. Hosts with index in `no_gateway` (counted over all regions) are no gateways.
inline Cluster cluster_of(const Layout& layout, const std::vector<int>& no_gateway = {}) {
  Cluster cluster;
  Topology& t = cluster.topology;
  t.source = "test";
  for (std::size_t r = 0; r < layout.size(); ++r) {
    const int region = static_cast<int>(r);
    t.regions.push_back(Group{});
    t.regions.back().name = fmt::format("r{}", r);
    t.sites.push_back(Group{});
    t.sites.back().parent = region;
    t.racks.push_back(Group{});
    t.racks.back().parent = region;
    for (const int ranks : layout[r]) {
      Host host;
      host.name = fmt::format("h{}", t.hosts.size());
      host.region = host.site = host.rack = region;
      host.nic = Bandwidth{1.25e9};
      cluster.host_of_rank.insert(cluster.host_of_rank.end(), static_cast<std::size_t>(ranks),
                                  static_cast<int>(t.hosts.size()));
      t.hosts.push_back(std::move(host));
    }
    for (int other = 0; other < region; ++other) {
      for (const bool back : {false, true}) {
        WanLink link;
        link.from = back ? other : region;
        link.to = back ? region : other;
        // Unequal on purpose: algorithms may weigh shards by what the links carry.
        link.bandwidth = Bandwidth{1.25e8 * (1 + (region + 2 * other) % 3)};
        link.latency = Latency{0.005 * (1 + region)};
        t.wan.push_back(link);
      }
    }
  }
  for (const int host : no_gateway) {
    t.hosts[static_cast<std::size_t>(host)].gateway = false;
    t.hosts[static_cast<std::size_t>(host)].gateway_defaulted = false;
  }
  return cluster;
}

/// `ranks` ranks of one region, `per_host` on each host but the last, which has the rest.
inline Cluster one_region(int ranks, int per_host) {
  std::vector<int> hosts;
  for (int left = ranks; left > 0; left -= per_host) hosts.push_back(std::min(left, per_host));
  return cluster_of({hosts});
}

inline const spi::Algorithm& algorithm_named(std::string_view name) {
  for (const spi::Algorithm* algorithm : spi::all_algorithms()) {
    if (algorithm->name() == name) return *algorithm;
  }
  throw std::logic_error(fmt::format("no algorithm {} in this build", name));
}

inline std::vector<Schedule> build_all(const spi::Algorithm& algorithm, const CollectiveShape& shape,
                                       const Cluster& cluster, std::string_view variant) {
  std::vector<Schedule> all;
  for (int r = 0; r < cluster.size(); ++r) all.push_back(algorithm.build(shape, cluster, variant, r));
  return all;
}

/// What one rank does, in blocks and messages.
struct Traffic {
  double sent = 0;
  double received = 0;
  int messages_sent = 0;
};
inline Traffic traffic_of(const Schedule& schedule) {
  Traffic traffic;
  for (const ScheduleChannel& channel : schedule.channels) {
    traffic.sent += channel.send_share;
    traffic.received += channel.recv_share;
  }
  for (const Step& step : schedule.steps) traffic.messages_sent += step.kind == StepKind::kSend ? 1 : 0;
  return traffic;
}

/// Messages that follow one another over all stages.
inline int rounds_of(const std::vector<spi::Stage>& stages) {
  int rounds = 0;
  for (const spi::Stage& stage : stages) rounds += stage.rounds;
  return rounds;
}

/// Every shape in which a collective can be asked for: roots in a few places, variable and private lengths.
inline std::vector<CollectiveShape> shapes_of(Collective kind, int ranks) {
  std::vector<CollectiveShape> shapes;
  const std::vector<int> roots =
      !has_root(kind) || ranks == 1 ? std::vector<int>{0} : std::vector<int>{0, ranks / 2, ranks - 1};
  for (std::size_t i = 0; i < roots.size(); ++i) {
    if (i > 0 && roots[i] == roots[i - 1]) continue;
    CollectiveShape shape;
    shape.kind = kind;
    shape.root = roots[i];
    shapes.push_back(shape);
    if (kind == Collective::kAllGather || kind == Collective::kReduceScatter) shape.uneven = true;
    if (kind == Collective::kGather || kind == Collective::kScatter || kind == Collective::kAllToAll) {
      shape.private_lengths = true;
    }
    if (!(shape == shapes.back())) shapes.push_back(shape);
  }
  return shapes;
}

/// Empty, or what the checker finds first in this algorithm on this cluster.
inline std::string first_defect(const spi::Algorithm& algorithm, const CollectiveShape& shape, const Cluster& cluster,
                                const CheckOptions& options = {}) {
  for (const std::string& variant : algorithm.variants(shape, cluster)) {
    const auto all = build_all(algorithm, shape, cluster, variant);
    Status status = check(all, cluster, options);
    if (status.ok()) status = check_stages(all, algorithm.stages(shape, cluster, variant));
    if (status.ok()) continue;
    std::string hosts;
    for (const int host : cluster.host_of_rank) {
      hosts += fmt::format(" {}", cluster.topology.hosts[static_cast<std::size_t>(host)].name);
    }
    return fmt::format("{}:{} {} root {}{}{} on {} ranks ({} regions, hosts{}): {}", algorithm.name(), variant,
                       name_of(shape.kind), shape.root, shape.uneven ? " uneven" : "",
                       shape.private_lengths ? " private lengths" : "", cluster.size(), cluster.topology.regions.size(),
                       hosts, status.message());
  }
  return {};
}

}  // namespace longspan::test
