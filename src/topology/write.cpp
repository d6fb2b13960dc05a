#include <fmt/format.h>

#include <cstddef>
#include <utility>

#include "base/units.hpp"
#include "longspan/topology.hpp"

namespace longspan {
namespace {

std::string toml_string(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (byte < 0x20 || byte == 0x7F) {
      out += fmt::format("\\u{:04X}", byte);
    } else {
      out += c;
    }
  }
  return out + '"';
}

const Group& at(const std::vector<Group>& groups, int index) { return groups[static_cast<std::size_t>(index)]; }

void write_named(std::string& out, std::string_view key, const std::string& name) {
  if (!name.empty()) out += fmt::format("{} = {}\n", key, toml_string(name));
}

void write_host(std::string& out, const Topology& topology, const Host& host) {
  out += "\n[[host]]\n";
  write_named(out, "name", host.name);
  write_named(out, "region", at(topology.regions, host.region).name);
  write_named(out, "site", at(topology.sites, host.site).name);
  write_named(out, "rack", at(topology.racks, host.rack).name);
  write_named(out, "address", host.address);
  if (host.nic) out += fmt::format("nic = \"{}\"\n", exact_bandwidth(*host.nic));
  if (!host.gateway_defaulted) out += fmt::format("gateway = {}\n", host.gateway);
}

void write_uplinks(std::string& out, const std::vector<Group>& groups) {
  for (const Group& group : groups) {
    if (!group.uplink || group.name.empty()) continue;
    out += fmt::format("\n[[link]]\nof = {}\nbandwidth = \"{}\"\n", toml_string(group.name),
                       exact_bandwidth(*group.uplink));
    if (!group.uplink_latency_defaulted) out += fmt::format("latency = \"{}\"\n", exact_time(group.uplink_latency));
  }
}

/// Whether `other` is what both_ways makes of `link`.
bool is_mirror(const WanLink& link, const WanLink& other) {
  WanLink expected = link;
  std::swap(expected.from, expected.to);
  expected.mirrored = true;
  return !link.mirrored && other == expected;
}

void write_wan(std::string& out, const Topology& topology, const WanLink& link, bool both_ways) {
  out += fmt::format("\n[[wan]]\nfrom = {}\nto = {}\n", toml_string(at(topology.regions, link.from).name),
                     toml_string(at(topology.regions, link.to).name));
  out +=
      fmt::format("bandwidth = \"{}\"\nlatency = \"{}\"\n", exact_bandwidth(link.bandwidth), exact_time(link.latency));
  if (link.buffer_bytes) out += fmt::format("buffer = \"{}\"\n", exact_bytes(*link.buffer_bytes));
  if (!link.loss_defaulted) out += fmt::format("loss = {}\n", link.loss);
  if (!both_ways) out += "both_ways = false\n";
}

}  // namespace

std::string to_toml(const Topology& topology) {
  std::string out = "version = 1\n";
  for (const Host& host : topology.hosts) write_host(out, topology, host);
  for (const auto* groups : {&topology.racks, &topology.sites, &topology.regions}) write_uplinks(out, *groups);
  for (std::size_t i = 0; i < topology.wan.size(); ++i) {
    const bool both_ways = i + 1 < topology.wan.size() && is_mirror(topology.wan[i], topology.wan[i + 1]);
    write_wan(out, topology, topology.wan[i], both_ways);
    if (both_ways) ++i;
  }
  return out;
}

}  // namespace longspan
