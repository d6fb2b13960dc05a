// The [[link]] and [[wan]] half of FileReader, and what must hold for the whole graph.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "base/nearest.hpp"
#include "topology/file_reader.hpp"

namespace longspan::topology {
namespace {

constexpr std::array<std::string_view, 3> kLinkKeys{"of", "bandwidth", "latency"};
constexpr std::array<std::string_view, 8> kWanKeys{"from",   "to",   "bandwidth", "latency",
                                                   "buffer", "loss", "both_ways", "name"};

/// Which regions can be reached from region 0 along the links, or, backwards, from which it can be reached.
std::vector<bool> reachable(const Topology& topology, bool backwards) {
  std::vector<std::vector<int>> next(topology.regions.size());
  for (const WanLink& link : topology.wan) {
    const int from = backwards ? link.to : link.from;
    next[static_cast<std::size_t>(from)].push_back(backwards ? link.from : link.to);
  }
  std::vector<bool> seen(topology.regions.size(), false);
  std::vector<int> open{0};
  seen[0] = true;
  while (!open.empty()) {
    const int region = open.back();
    open.pop_back();
    for (const int other : next[static_cast<std::size_t>(region)]) {
      if (seen[static_cast<std::size_t>(other)]) continue;
      seen[static_cast<std::size_t>(other)] = true;
      open.push_back(other);
    }
  }
  return seen;
}

}  // namespace

Status FileReader::read_link(const TomlValue& table) {
  LONGSPAN_TRY(check_keys(table, "in [[link]]", kLinkKeys));
  LONGSPAN_ASSIGN(const TomlMember* of, required(table, "of", "[[link]]"));
  LONGSPAN_ASSIGN(const std::string wanted, name(*of));
  const auto known = groups_.find(wanted);
  if (known == groups_.end()) {
    std::vector<std::string_view> names;
    for (const auto& [group, unused] : groups_) names.push_back(group);
    return fail(of->line, fmt::format("the unknown name {}{}", quoted(wanted), did_you_mean(wanted, names)),
                "a rack, site or region that a [[host]] names");
  }
  const Named& named = known->second;
  const auto [line, added] = uplink_lines_[static_cast<std::size_t>(named.level)].emplace(named.index, of->line);
  if (!added) {
    return fail(of->line, fmt::format("a second [[link]] of {}", quoted(wanted)),
                fmt::format("one (line {} has it)", line->second));
  }
  Group& group = (named.level == Level::kRegion ? topology_.regions
                  : named.level == Level::kSite ? topology_.sites
                                                : topology_.racks)[static_cast<std::size_t>(named.index)];
  LONGSPAN_ASSIGN(const TomlMember* rate, required(table, "bandwidth", "[[link]]"));
  LONGSPAN_ASSIGN(group.uplink, bandwidth(*rate));
  if (const TomlMember* delay = table.find("latency")) {
    LONGSPAN_ASSIGN(group.uplink_latency, latency(*delay));
    group.uplink_latency_defaulted = false;
  }
  return {};
}

Result<int> FileReader::region_named(const TomlMember& member) const {
  LONGSPAN_ASSIGN(const std::string wanted, name(member));
  const auto known = groups_.find(wanted);
  if (known != groups_.end() && known->second.level == Level::kRegion) return known->second.index;
  std::vector<std::string_view> names;
  for (const Group& region : topology_.regions) names.push_back(region.name);
  const std::string what =
      known == groups_.end() ? "the unknown region " : fmt::format("the {} ", name_of(known->second.level));
  return fail(member.line,
              fmt::format("{}{} for '{}'{}", what, quoted(wanted), member.key, did_you_mean(wanted, names)),
              "a region that a [[host]] names");
}

Status FileReader::read_wan(const TomlValue& table) {
  LONGSPAN_TRY(check_keys(table, "in [[wan]]", kWanKeys));
  if (const TomlMember* named = table.find("name")) {
    return fail(named->line, "'name' in [[wan]]",
                "none: it is reserved for several links between the same regions, which this version cannot use");
  }
  WanLink link;
  LONGSPAN_ASSIGN(const TomlMember* from, required(table, "from", "[[wan]]"));
  LONGSPAN_ASSIGN(const TomlMember* to, required(table, "to", "[[wan]]"));
  LONGSPAN_ASSIGN(link.from, region_named(*from));
  LONGSPAN_ASSIGN(link.to, region_named(*to));
  if (link.from == link.to) {
    return fail(to->line, fmt::format("a [[wan]] from {} to itself", quoted(to->value.text)), "two different regions");
  }
  LONGSPAN_TRY(check_direction(link, from->line));
  LONGSPAN_ASSIGN(const TomlMember* rate, required(table, "bandwidth", "[[wan]]"));
  LONGSPAN_ASSIGN(link.bandwidth, bandwidth(*rate));
  LONGSPAN_ASSIGN(const TomlMember* delay, required(table, "latency", "[[wan]]"));
  LONGSPAN_ASSIGN(link.latency, latency(*delay));
  LONGSPAN_TRY(read_buffer(table.find("buffer"), link));
  LONGSPAN_TRY(read_loss(table.find("loss"), link));
  bool both_ways = true;
  if (const TomlMember* both = table.find("both_ways")) {
    LONGSPAN_ASSIGN(both_ways, boolean(*both));
  }
  topology_.wan.push_back(link);
  wan_both_ways_.push_back(both_ways);
  wan_directions_.emplace(std::pair(link.from, link.to), from->line);
  return {};
}

Status FileReader::check_direction(const WanLink& link, int line) const {
  const auto known = wan_directions_.find(std::pair(link.from, link.to));
  if (known == wan_directions_.end()) return {};
  const auto region = [this](int index) { return quoted(topology_.regions[static_cast<std::size_t>(index)].name); };
  return fail(line, fmt::format("a second [[wan]] from {} to {}", region(link.from), region(link.to)),
              fmt::format("one per direction (line {} has it)", known->second));
}

/// Adds the other way of each link that serves both, unless the file states it: only known after the last [[wan]].
void FileReader::mirror_links() {
  std::vector<WanLink> all;
  for (std::size_t i = 0; i < topology_.wan.size(); ++i) {
    const WanLink& link = topology_.wan[i];
    all.push_back(link);
    if (!wan_both_ways_[i] || wan_directions_.contains(std::pair(link.to, link.from))) continue;
    all.push_back(link);
    std::swap(all.back().from, all.back().to);
    all.back().mirrored = true;
  }
  topology_.wan = std::move(all);
}

Status FileReader::check_gateways() const {
  if (topology_.regions.size() < 2) return {};
  std::vector<bool> has_gateway(topology_.regions.size(), false);
  for (const Host& host : topology_.hosts) {
    if (host.gateway) has_gateway[static_cast<std::size_t>(host.region)] = true;
  }
  for (std::size_t i = 0; i < has_gateway.size(); ++i) {
    if (has_gateway[i]) continue;
    return fail(region_lines_[i],
                fmt::format("gateway = false on every host of region {}", quoted(topology_.regions[i].name)),
                "at least one host that carries its cross-region traffic");
  }
  return {};
}

Status FileReader::check_connected() const {
  if (topology_.regions.size() < 2) return {};
  for (const bool backwards : {false, true}) {
    const std::vector<bool> seen = reachable(topology_, backwards);
    const auto missing = std::find(seen.begin(), seen.end(), false);
    if (missing == seen.end()) continue;
    const auto other = static_cast<std::size_t>(missing - seen.begin());
    const std::string here = quoted(topology_.regions.front().name);
    const std::string there = quoted(topology_.regions[other].name);
    return fail(region_lines_[other],
                fmt::format("no way from region {} to region {}", backwards ? there : here, backwards ? here : there),
                "[[wan]] links by which every region reaches every other");
  }
  return {};
}

}  // namespace longspan::topology
