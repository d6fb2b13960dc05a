#include "clusters.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <sstream>

namespace longspan::hierarchical {
namespace {

Host host_from(const std::string& word, int region, int number) {
  Host host;
  host.name = fmt::format("h{}-{}", region, number);
  host.region = host.site = host.rack = region;
  host.gateway = word.back() != '!';
  if (const auto colon = word.find(':'); colon != std::string::npos) {
    host.nic = Bandwidth{std::stod(word.substr(colon + 1)) * 125e6};
  }
  return host;
}

}  // namespace

Cluster cluster_of(const std::vector<std::string>& regions) {
  Cluster cluster;
  Topology& topology = cluster.topology;
  for (int g = 0; g < static_cast<int>(regions.size()); ++g) {
    topology.regions.push_back(Group{fmt::format("r{}", g), -1, {}, {}});
    topology.sites.push_back(Group{"", g, {}, {}});
    topology.racks.push_back(Group{"", g, {}, {}});
    for (int other = 0; other < static_cast<int>(regions.size()); ++other) {
      if (other != g) topology.wan.push_back(WanLink{g, other, Bandwidth{125e6}, Latency{0.02}, {}, 0});
    }
    std::istringstream words(regions[static_cast<std::size_t>(g)]);
    int number = 0;
    for (std::string word; words >> word; ++number) {
      const int host = static_cast<int>(topology.hosts.size());
      cluster.host_of_rank.insert(cluster.host_of_rank.end(), std::stoul(word), host);
      topology.hosts.push_back(host_from(word, g, number));
    }
  }
  return cluster;
}

std::string text_of(const std::vector<std::string>& regions) {
  std::string text;
  for (const std::string& region : regions) text += "[" + region + "] ";
  return text;
}

std::vector<Schedule> build_all(const spi::Algorithm& algorithm, const CollectiveShape& shape, const Cluster& cluster,
                                std::string_view variant) {
  std::vector<Schedule> schedules;
  for (int r = 0; r < cluster.size(); ++r) schedules.push_back(algorithm.build(shape, cluster, variant, r));
  return schedules;
}

double sent(const std::vector<Schedule>& schedules, Tier tier) {
  double share = 0;
  for (const Schedule& schedule : schedules) {
    for (const ScheduleChannel& channel : schedule.channels) share += channel.tier == tier ? channel.send_share : 0;
  }
  return share;
}

int most_steps(const std::vector<Schedule>& schedules) {
  std::size_t most = 0;
  for (const Schedule& schedule : schedules) most = std::max(most, schedule.steps.size());
  return static_cast<int>(most);
}

std::string misbehaved(const std::vector<Schedule>& schedules, const Cluster& cluster) {
  for (const Schedule& schedule : schedules) {
    if (!schedule.chunkable) return fmt::format("rank {} is not chunkable", schedule.rank);
    const bool crosses = std::any_of(schedule.channels.begin(), schedule.channels.end(),
                                     [](const ScheduleChannel& channel) { return channel.tier == Tier::kWan; });
    if (crosses && !cluster.gateway(schedule.rank)) return cluster.describe(schedule.rank) + " reaches the WAN";
  }
  return {};
}

}  // namespace longspan::hierarchical
