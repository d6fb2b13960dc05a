#include <fmt/format.h>

#include <algorithm>

#include "runtime/communicator_impl.hpp"
#include "runtime/job.hpp"
#include "runtime/lease_desk.hpp"

namespace longspan::runtime {

std::vector<LinkStats> CommunicatorImpl::link_stats() {
  const Domain::Lock lock = domain_->lock();
  const Cluster& world = job_->cluster();
  const Topology& topology = world.topology;
  std::vector<LinkStats> all;
  for (const WanLink& link : topology.wan) {
    LinkStats stats;
    stats.name = fmt::format("{} -> {}", topology.regions[static_cast<std::size_t>(link.from)].name,
                             topology.regions[static_cast<std::size_t>(link.to)].name);
    stats.bandwidth_bytes_per_second = link.bandwidth.bytes_per_second;
    all.push_back(std::move(stats));
  }
  const int here = world.region_of(job_->rank());
  for (int r = 0; r < world.size(); ++r) {
    const WanLink* link = world.region_of(r) == here ? nullptr : topology.wan_link(here, world.region_of(r));
    const spi::Channel* channel =
        link == nullptr ? nullptr : domain_->find_channel(job_->peers()[static_cast<std::size_t>(r)].id);
    if (channel == nullptr) continue;
    const spi::ChannelStats measured = channel->stats();
    LinkStats& stats = all[static_cast<std::size_t>(link - topology.wan.data())];
    stats.bytes_sent += measured.bytes_sent;
    stats.delivery_rate_bytes_per_second += measured.delivery_rate_bytes_per_second;
    stats.retransmits += measured.retransmits;
    stats.drops += measured.drops;
    const auto queue =
        std::max<std::chrono::nanoseconds>(measured.least_rtt - measured.min_rtt, std::chrono::nanoseconds(0));
    stats.queue_delay = stats.bytes_sent == measured.bytes_sent ? queue : std::min(stats.queue_delay, queue);
    stats.reconnects += measured.reconnects;
    stats.observed_loss = std::max(stats.observed_loss, measured.observed_loss);
    stats.connections += measured.lanes;
    stats.repair_connections += measured.repair_lanes;
    stats.rtt = std::max(stats.rtt, measured.rtt);
    if (measured.min_rtt.count() > 0 && (stats.min_rtt.count() == 0 || measured.min_rtt < stats.min_rtt)) {
      stats.min_rtt = measured.min_rtt;
    }
  }
  for (std::uint32_t w = 0; w < all.size() && domain_->leases() != nullptr; ++w) {
    const LeaseDesk& desk = *domain_->leases();
    LinkStats& stats = all[w];
    stats.leased_bytes_per_second = desk.leased(w);
    stats.capacity_bytes_per_second = stats.bandwidth_bytes_per_second * desk.share(w);
    stats.rate_bytes_per_second = desk.delivery_rate(w);
    if (stats.capacity_bytes_per_second > 0) {
      stats.share_used = stats.rate_bytes_per_second / stats.capacity_bytes_per_second;
    }
  }
  return all;
}

}  // namespace longspan::runtime
