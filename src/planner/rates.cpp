#include "planner/rates.hpp"

#include <algorithm>
#include <cmath>

namespace longspan::planner {
namespace {

/// Payload of a full Ethernet frame, for the throughput of a lossy connection.
constexpr double kSegmentBytes = 1448;

bool stated_cap(const Network& network, std::uint32_t resource) {
  return network.kind(resource) != ResourceKind::kWan && network.stated(resource) > 0;
}

}  // namespace

RateTable::RateTable(const Network& network, std::span<const spi::Stage> stages, const CostParameters& parameters)
    : network_(&network),
      parameters_(parameters),
      link_share_(network.cluster().topology.wan.size(), 0),
      link_flows_(link_share_.size(), 0),
      scale_(network.size(), 1) {
  const auto each_wan_flow = [&](auto&& visit) {
    for (const spi::Stage& stage : stages) {
      for (const spi::StageFlow& flow : stage.flows) {
        if (network.cluster().region_of(flow.from) == network.cluster().region_of(flow.to)) continue;
        visit(network.path(flow.from, flow.to), flow.share);
      }
    }
  };
  each_wan_flow([&](const Network::Path& path, double share) {
    link_share_[static_cast<std::size_t>(path.wan)] += share;
    link_flows_[static_cast<std::size_t>(path.wan)] += 1;
  });
  std::vector<double> wanted(network.size(), 0);
  each_wan_flow([&](const Network::Path& path, double share) {
    const double rate = fair_rate(path, share);
    for (std::uint32_t i = 0; i < path.count; ++i) wanted[path.resources[i]] += rate;
  });
  for (std::uint32_t resource = 0; resource < wanted.size(); ++resource) {
    const double stated = network.stated(resource);
    if (stated_cap(network, resource) && wanted[resource] > stated) scale_[resource] = stated / wanted[resource];
  }
}

double RateTable::fair_rate(const Network::Path& path, double share) const {
  const auto wan = static_cast<std::size_t>(path.wan);
  const double all = link_share_[wan];
  if (all > 0) return network_->wan_budget(wan) * (share / all);
  return link_flows_[wan] > 0 ? network_->wan_budget(wan) / link_flows_[wan] : 0;
}

double RateTable::rate(int from, int to, double share) const {
  const Network::Path path = network_->path(from, to);
  if (path.wan < 0) return 0;
  double scale = 1;
  for (std::uint32_t i = 0; i < path.count; ++i) scale = std::min(scale, scale_[path.resources[i]]);
  return fair_rate(path, share) * scale;
}

ChannelPlan RateTable::channel(int rank, const ScheduleChannel& channel) const {
  const int peer = channel.peer;
  const Network::Path there = network_->path(rank, peer);
  const Network::Path back = network_->path(peer, rank);
  ChannelPlan plan;
  plan.rtt_seconds = there.latency_seconds + back.latency_seconds;
  plan.rate_bytes_per_second = channel.sends > 0 ? rate(rank, peer, channel.send_share) : 0;
  const auto& wan = network_->cluster().topology.wan;
  if (there.wan >= 0) plan.loss = wan[static_cast<std::size_t>(there.wan)].loss;
  const auto& nic = network_->cluster().host(rank).nic;
  // Both directions share the connection's buffers, so its window must hold the faster of the two.
  const double opposite = channel.recvs > 0 && back.wan >= 0 ? rate(peer, rank, channel.recv_share) : 0.0;
  double fastest = std::max(plan.rate_bytes_per_second, opposite);
  if (there.wan < 0 && nic) fastest = nic->bytes_per_second;
  plan.window_bytes = static_cast<std::size_t>(std::ceil(fastest * plan.rtt_seconds * parameters_.window_headroom));
  plan.lanes =
      lanes(there.tier, plan.rate_bytes_per_second, plan.rtt_seconds, plan.loss, nic ? nic->bytes_per_second : 0);
  return plan;
}

int RateTable::lanes(Tier tier, double rate, double rtt, double loss, double nic) const {
  if (tier == Tier::kSelf || tier == Tier::kHost) return 1;
  if (tier != Tier::kWan) return nic >= parameters_.fast_nic_bytes_per_second ? 2 : 1;
  double per_lane = parameters_.lane_bytes_per_second;
  // A loss-based connection reaches about MSS / (RTT x sqrt(2 p / 3)) (Mathis et al., 1997). Congestion controls that
  // ignore random loss (BBR) need no more lanes, but which one is used is known only where the socket is opened.
  if (loss > 0 && rtt > 0) per_lane = std::min(per_lane, kSegmentBytes / (rtt * std::sqrt(2 * loss / 3)));
  if (rate <= per_lane) return 1;
  const double wanted = std::ceil(rate / per_lane);
  return wanted >= parameters_.max_lanes ? parameters_.max_lanes : static_cast<int>(wanted);
}

}  // namespace longspan::planner
