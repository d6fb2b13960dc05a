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
constexpr std::size_t kMaxTopology = std::size_t{1} << 20;

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
  for (const auto& [name, address] : endpoints) {
    out.text(name);
    out.text(address);
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
  const std::uint32_t endpoints = in.count(8);
  for (std::uint32_t i = 0; i < endpoints && in.ok(); ++i) {
    std::string name = in.text(kMaxText);
    made.endpoints.emplace_back(std::move(name), in.text(kMaxText));
  }
  if (!in.ok()) return Status(StatusCode::kInternal, fmt::format("rank {} announced itself with bytes that make no sense", rank));
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
  const bool known = std::all_of(cluster.host_of_rank.begin(), cluster.host_of_rank.end(), [hosts](int host) { return host >= 0 && host < hosts; });
  return known ? Status() : Status(StatusCode::kInternal, "rank 0's planning context places ranks on hosts that its topology does not have");
}

}  // namespace longspan::runtime
