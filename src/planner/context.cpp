#include "planner/context.hpp"

#include "planner/hash.hpp"
#include "planner/planner.hpp"

namespace longspan::planner {
namespace {

void add(Hasher& hash, const std::optional<Bandwidth>& rate) { hash.add(rate ? rate->bytes_per_second : -1.0); }

void add(Hasher& hash, const std::vector<Group>& groups) {
  hash.add(static_cast<std::uint64_t>(groups.size()));
  for (const Group& group : groups) {
    hash.add(group.name).add(group.parent).add(group.uplink_latency.count());
    add(hash, group.uplink);
  }
}

void add(Hasher& hash, const Topology& topology) {
  add(hash, topology.regions);
  add(hash, topology.sites);
  add(hash, topology.racks);
  hash.add(static_cast<std::uint64_t>(topology.hosts.size()));
  for (const Host& host : topology.hosts) {
    hash.add(host.name).add(host.region).add(host.site).add(host.rack).add(host.gateway ? 1 : 0);
    add(hash, host.nic);
  }
  hash.add(static_cast<std::uint64_t>(topology.wan.size()));
  for (const WanLink& link : topology.wan) {
    hash.add(link.from).add(link.to).add(link.bandwidth.bytes_per_second).add(link.latency.count()).add(link.loss);
    hash.add(link.buffer_bytes ? 1 : 0).add(link.buffer_bytes.value_or(0));
  }
}

void add(Hasher& hash, const CostParameters& p) {
  hash.add(p.nic_bytes_per_second)
      .add(p.host_memory_bytes_per_second)
      .add(p.reduce_bytes_per_second)
      .add(p.copy_bytes_per_second);
  for (const double seconds : p.message_seconds) hash.add(seconds);
  hash.add(p.payload_fraction)
      .add(p.deep_buffer_margin)
      .add(p.shallow_buffer_margin)
      .add(p.deep_buffer_seconds)
      .add(p.window_headroom);
  hash.add(p.lane_bytes_per_second).add(p.fast_nic_bytes_per_second).add(p.max_lanes);
  hash.add(std::uint64_t{p.max_chunks})
      .add(std::uint64_t{p.max_chunk_bytes})
      .add(std::uint64_t{p.max_host_chunk_bytes})
      .add(std::uint64_t{p.min_piece_bytes});
  hash.add(p.chunking_gain)
      .add(p.tie)
      .add(std::uint64_t{p.min_window})
      .add(p.window_margin)
      .add(std::uint64_t{p.scratch_bytes});
  hash.add(std::uint64_t{p.max_flows}).add(std::uint64_t{p.max_priced_flows});
}

}  // namespace

std::uint64_t context_digest(const Cluster& cluster, std::span<const spi::Algorithm* const> algorithms,
                             const PlannerOptions& options) {
  Hasher hash;
  add(hash, cluster.topology);
  hash.add(static_cast<std::uint64_t>(cluster.host_of_rank.size()));
  for (const int host : cluster.host_of_rank) hash.add(host);
  hash.add(static_cast<std::uint64_t>(algorithms.size()));
  for (const spi::Algorithm* algorithm : algorithms) hash.add(algorithm->name());
  hash.add(options.forced);
  add(hash, options.parameters);
  return hash.value();
}

}  // namespace longspan::planner
