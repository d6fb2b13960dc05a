#include "runtime/announcement.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "bootstrap/wire.hpp"

namespace longspan::runtime {
namespace {

using bootstrap::Reader;
using bootstrap::Writer;

constexpr std::size_t kMaxText = 4096;
constexpr std::size_t kMaxAddress = std::size_t{1} << 16;  // UCX's name every card of a host
constexpr std::size_t kMaxTopology = std::size_t{1} << 20;
constexpr std::size_t kLeastEndpoint = 40;  // bytes, with all its texts empty
constexpr std::uint64_t kMaxRate = std::uint64_t{1} << 53;  // whole numbers that a double holds

/// Without `detail`, which only its own host shows: every rank gets every rank's announcement.
void write(Writer& out, const planner::EndpointOffer& offer) {
  out.text(offer.transport);
  out.text(offer.unusable);
  out.u8(offer.named ? 1 : 0);
  out.u8(static_cast<std::uint8_t>(offer.limit));
  out.u8(static_cast<std::uint8_t>(offer.traits.reach));
  out.u8(static_cast<std::uint8_t>(offer.traits.medium));
  out.i32(offer.traits.preference);
  out.u64(static_cast<std::uint64_t>(offer.traits.rate_bytes_per_second));
  out.u64(static_cast<std::uint64_t>(offer.traits.latency.count()));
  out.text(offer.traits.fabric);
}

/// What is no tier or medium is read as the last one, so that every announcement means something.
planner::EndpointOffer read_offer(Reader& in) {
  const auto tier = [&in] { return static_cast<Tier>(std::min<int>(in.u8(), kTierCount - 1)); };
  planner::EndpointOffer offer;
  offer.transport = in.text(kMaxText);
  offer.unusable = in.text(kMaxText);
  offer.named = in.u8() != 0;
  offer.limit = tier();
  offer.traits.reach = tier();
  offer.traits.medium = static_cast<spi::Medium>(std::min<int>(in.u8(), spi::kMediumCount - 1));
  offer.traits.preference = in.i32();
  offer.traits.rate_bytes_per_second = static_cast<double>(std::min(in.u64(), kMaxRate));
  offer.traits.latency = std::chrono::nanoseconds(static_cast<std::int64_t>(std::min(in.u64(), kMaxRate)));
  offer.traits.fabric = in.text(kMaxText);
  return offer;
}

}  // namespace

std::string Announcement::encode() const {
  Writer out;
  out.u64(id);
  out.text(where.declared_host);
  out.text(where.hostname);
  out.text(where.address);
  out.u64(where.topology_digest);
  out.text(topology_name);
  out.u32(static_cast<std::uint32_t>(endpoints.size()));
  for (const EndpointAddress& each : endpoints) {
    write(out, each.offer);
    out.text(each.address);
  }
  return std::move(out).take();
}

Result<Announcement> Announcement::decode(const std::string& bytes, std::size_t rank) {
  Reader in(bytes);
  Announcement made;
  made.id = in.u64();
  made.where.declared_host = in.text(kMaxText);
  made.where.hostname = in.text(kMaxText);
  made.where.address = in.text(kMaxText);
  made.where.topology_digest = in.u64();
  made.topology_name = in.text(kMaxText);
  const std::uint32_t endpoints = in.count(kLeastEndpoint);
  for (std::uint32_t i = 0; i < endpoints && in.ok(); ++i) {
    planner::EndpointOffer offer = read_offer(in);
    made.endpoints.push_back({std::move(offer), in.text(kMaxAddress)});
  }
  if (!in.ok()) {
    return Status(StatusCode::kInternal, fmt::format("rank {} announced itself with bytes that make no sense", rank));
  }
  return made;
}

std::string Context::encode() const {
  Writer out;
  out.text(topology);
  out.text(source);
  out.text(algorithm);
  out.u32(static_cast<std::uint32_t>(host_of_rank.size()));
  for (const int host : host_of_rank) out.i32(host);
  return std::move(out).take();
}

Result<Context> Context::decode(const std::string& bytes) {
  Reader in(bytes);
  Context made;
  made.topology = in.text(kMaxTopology);
  made.source = in.text(kMaxText);
  made.algorithm = in.text(kMaxText);
  const std::uint32_t ranks = in.count(4);
  for (std::uint32_t i = 0; i < ranks; ++i) made.host_of_rank.push_back(in.i32());
  if (!in.ok()) return Status(StatusCode::kInternal, "rank 0's planning context makes no sense");
  return made;
}

Status check_places(const Cluster& cluster) {
  const auto hosts = static_cast<int>(cluster.topology.hosts.size());
  const bool known = std::all_of(cluster.host_of_rank.begin(), cluster.host_of_rank.end(),
                                 [hosts](int host) { return host >= 0 && host < hosts; });
  return known ? Status()
               : Status(StatusCode::kInternal,
                        "rank 0's planning context places ranks on hosts that its topology does not have");
}

}  // namespace longspan::runtime
