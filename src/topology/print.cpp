#include "topology/print.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <optional>
#include <string_view>
#include <utility>

#include "base/units.hpp"
#include "topology/placement.hpp"

namespace longspan {
namespace {

constexpr std::string_view kDefault = " (default)";

std::string count(std::size_t n, std::string_view noun) { return fmt::format("{} {}{}", n, noun, n == 1 ? "" : "s"); }

std::string group_name(const Group& group) { return group.name.empty() ? "(default)" : group.name; }

std::string group_line(std::string_view level, const Group& group) {
  std::string line = fmt::format("{} {}", level, group_name(group));
  if (!group.uplink) return line;
  return line + fmt::format("   uplink {}, {}{}", format_bandwidth(*group.uplink), format_time(group.uplink_latency),
                            group.uplink_latency_defaulted ? kDefault : "");
}

struct HostWidths {
  std::size_t name = 0;
  std::size_t address = 0;
  std::size_t nic = 0;
};

std::string address_text(const Host& host) { return host.address.empty() ? "no address" : host.address; }
std::string nic_text(const Host& host) { return host.nic ? "nic " + format_bandwidth(*host.nic) : "nic unknown"; }

std::string host_line(const Host& host, const HostWidths& widths) {
  return fmt::format("host {:<{}}   {:<{}}   {:<{}}   {}{}", host.name, widths.name, address_text(host), widths.address,
                     nic_text(host), widths.nic, host.gateway ? "gateway" : "no gateway",
                     host.gateway_defaulted ? kDefault : "");
}

/// The members of each group of the level above, so that printing is linear.
template <class Item, class ParentOf>
std::vector<std::vector<std::size_t>> children(std::size_t groups, const std::vector<Item>& items, ParentOf parent_of) {
  std::vector<std::vector<std::size_t>> lists(groups);
  for (std::size_t i = 0; i < items.size(); ++i) lists[static_cast<std::size_t>(parent_of(items[i]))].push_back(i);
  return lists;
}

std::string tree(const Topology& topology) {
  HostWidths widths;
  for (const Host& host : topology.hosts) {
    widths.name = std::max(widths.name, host.name.size());
    widths.address = std::max(widths.address, address_text(host).size());
    widths.nic = std::max(widths.nic, nic_text(host).size());
  }
  const auto parent = [](const Group& group) { return group.parent; };
  const auto sites = children(topology.regions.size(), topology.sites, parent);
  const auto racks = children(topology.sites.size(), topology.racks, parent);
  const auto hosts = children(topology.racks.size(), topology.hosts, [](const Host& host) { return host.rack; });
  std::string out;
  for (std::size_t region = 0; region < topology.regions.size(); ++region) {
    out += group_line("region", topology.regions[region]) + "\n";
    for (const std::size_t site : sites[region]) {
      out += "  " + group_line("site", topology.sites[site]) + "\n";
      for (const std::size_t rack : racks[site]) {
        out += "    " + group_line("rack", topology.racks[rack]) + "\n";
        for (const std::size_t host : hosts[rack]) out += "      " + host_line(topology.hosts[host], widths) + "\n";
      }
    }
  }
  return out;
}

std::string wan_ends(const Topology& topology, const WanLink& link) {
  return fmt::format("{} -> {}", group_name(topology.regions[static_cast<std::size_t>(link.from)]),
                     group_name(topology.regions[static_cast<std::size_t>(link.to)]));
}

std::string wan_lines(const Topology& topology) {
  std::size_t width = 0;
  for (const WanLink& link : topology.wan) width = std::max(width, wan_ends(topology, link).size());
  std::string out;
  for (const WanLink& link : topology.wan) {
    out += fmt::format("  {:<{}}   {:>11}   {:>7}   buffer {}   loss {}{}{}\n", wan_ends(topology, link), width,
                       format_bandwidth(link.bandwidth), format_time(link.latency),
                       link.buffer_bytes ? format_bytes(*link.buffer_bytes) : "unknown", link.loss,
                       link.loss_defaulted ? kDefault : "", link.mirrored ? "   as the other way (both_ways)" : "");
  }
  return out;
}

std::string region_name(const Topology& topology, std::size_t index) {
  return "'" + topology.regions[index].name + "'";
}

void warn_of_pairs_without_link(const Topology& topology, std::vector<std::string>& warnings) {
  std::vector<std::pair<int, int>> linked;
  for (const WanLink& link : topology.wan) linked.emplace_back(link.from, link.to);
  std::sort(linked.begin(), linked.end());
  linked.erase(std::unique(linked.begin(), linked.end()), linked.end());
  constexpr std::size_t kShown = 8;
  const std::size_t regions = topology.regions.size();
  const std::size_t missing = regions * (regions - 1) - linked.size();
  std::size_t shown = 0;
  for (std::size_t i = 0; i < regions * regions && shown < std::min(missing, kShown); ++i) {
    const std::size_t from = i / regions;
    const std::size_t to = i % regions;
    const std::pair<int, int> pair(static_cast<int>(from), static_cast<int>(to));
    if (from == to || std::binary_search(linked.begin(), linked.end(), pair)) continue;
    ++shown;
    warnings.push_back(
        fmt::format("no link from region {} to region {}: what has to cross there cannot run until "
                    "traffic is relayed through a third region",
                    region_name(topology, from), region_name(topology, to)));
  }
  if (missing > kShown) warnings.push_back(fmt::format("{} more pairs of regions have no link", missing - kShown));
}

/// What the gateways of each region can send or receive together; nullopt where one's NIC is unknown.
std::vector<std::optional<double>> gateway_rates(const Topology& topology) {
  std::vector<std::optional<double>> rates(topology.regions.size(), 0.0);
  for (const Host& host : topology.hosts) {
    if (!host.gateway) continue;
    auto& rate = rates[static_cast<std::size_t>(host.region)];
    rate = rate && host.nic ? std::optional(*rate + host.nic->bytes_per_second) : std::nullopt;
  }
  return rates;
}

void warn_of_links(const Topology& topology, std::vector<std::string>& warnings) {
  const auto rates = gateway_rates(topology);
  for (const WanLink& link : topology.wan) {
    const std::string ends = wan_ends(topology, link);
    for (const int end : {link.from, link.to}) {
      const auto rate = rates[static_cast<std::size_t>(end)];
      if (!rate || *rate >= link.bandwidth.bytes_per_second) continue;
      warnings.push_back(fmt::format("the gateways of region {} carry {} together, less than the {} of the link {}",
                                     region_name(topology, static_cast<std::size_t>(end)),
                                     format_bandwidth(Bandwidth{*rate}), format_bandwidth(link.bandwidth), ends));
    }
    constexpr std::uint64_t kFewPackets = 64UL * 1500;
    if (link.buffer_bytes && *link.buffer_bytes < kFewPackets) {
      warnings.push_back(fmt::format("the buffer of the link {} holds {}, not even 64 packets: expect drops", ends,
                                     format_bytes(*link.buffer_bytes)));
    }
  }
}

void warn_of_addresses(const Topology& topology, std::vector<std::string>& warnings) {
  std::vector<const Host*> by_address;
  for (const Host& host : topology.hosts) {
    if (!host.address.empty()) by_address.push_back(&host);
  }
  // Equal addresses in file order. (std::stable_sort calls what libstdc++ 12 deprecates, which clang reports.)
  std::sort(by_address.begin(), by_address.end(), [](const Host* a, const Host* b) {
    return std::pair<std::string_view, const Host*>(a->address, a) <
           std::pair<std::string_view, const Host*>(b->address, b);
  });
  for (std::size_t i = 1; i < by_address.size(); ++i) {
    if (by_address[i]->address != by_address[i - 1]->address) continue;
    warnings.push_back(fmt::format("hosts '{}' and '{}' have the same address {}: their ranks must set LONGSPAN_HOST",
                                   by_address[i - 1]->name, by_address[i]->name, by_address[i]->address));
  }
}

}  // namespace

std::string describe_topology(const Topology& topology) {
  std::string out = fmt::format("{}: {}, {}, {}, {}, {}, digest {:016x}\n\n", topology.source,
                                count(topology.regions.size(), "region"), count(topology.sites.size(), "site"),
                                count(topology.racks.size(), "rack"), count(topology.hosts.size(), "host"),
                                count(topology.wan.size(), "WAN link"), topology_digest(topology));
  out += tree(topology);
  if (!topology.wan.empty()) out += "\nWAN links, each one way\n" + wan_lines(topology);
  return out;
}

std::vector<std::string> warnings_of(const Topology& topology) {
  std::vector<std::string> warnings;
  warn_of_pairs_without_link(topology, warnings);
  warn_of_links(topology, warnings);
  warn_of_addresses(topology, warnings);
  return warnings;
}

}  // namespace longspan
