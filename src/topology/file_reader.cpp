#include "topology/file_reader.hpp"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include "base/nearest.hpp"

namespace longspan::topology {
namespace {

using Kind = TomlValue::Kind;

constexpr std::array<std::string_view, 4> kTopKeys{"version", "host", "link", "wan"};
constexpr std::array<std::string_view, 7> kHostKeys{"name", "region", "site", "rack", "address", "nic", "gateway"};
constexpr std::int64_t kVersion = 1;

std::vector<Group>& at_level(Topology& topology, int level) {
  return level == 0 ? topology.regions : level == 1 ? topology.sites : topology.racks;
}

bool is_address(const std::string& text) {
  in6_addr parsed{};
  return ::inet_pton(AF_INET, text.c_str(), &parsed) == 1 || ::inet_pton(AF_INET6, text.c_str(), &parsed) == 1;
}

}  // namespace

std::string_view FileReader::name_of(Level level) {
  constexpr std::array<std::string_view, 3> kNames{"region", "site", "rack"};
  return kNames[static_cast<std::size_t>(level)];
}

Result<Topology> FileReader::read(const TomlValue& document) {
  topology_.source = source_;
  LONGSPAN_TRY(check_version(document));
  LONGSPAN_TRY(check_keys(document, "at the top of the file", kTopKeys));
  LONGSPAN_ASSIGN(const auto hosts, tables(document, "host"));
  if (hosts.empty()) return fail(1, "no [[host]]", "at least one");
  for (const TomlValue& host : hosts) LONGSPAN_TRY(read_host(host));
  LONGSPAN_ASSIGN(const auto links, tables(document, "link"));
  for (const TomlValue& link : links) LONGSPAN_TRY(read_link(link));
  LONGSPAN_ASSIGN(const auto wan, tables(document, "wan"));
  for (const TomlValue& link : wan) LONGSPAN_TRY(read_wan(link));
  mirror_links();
  LONGSPAN_TRY(check_gateways());
  LONGSPAN_TRY(check_connected());
  return std::move(topology_);
}

Status FileReader::check_version(const TomlValue& document) const {
  const TomlMember* member = document.find("version");
  const std::string expected = fmt::format("version = {}", kVersion);
  if (member == nullptr) return fail(1, "no 'version'", expected);
  if (member->value.kind != Kind::kInteger || member->value.integer != kVersion) {
    return fail(member->line, describe(member->value) + " for 'version'", expected);
  }
  return {};
}

Result<std::span<const TomlValue>> FileReader::tables(const TomlValue& document, std::string_view key) const {
  const TomlMember* member = document.find(key);
  if (member == nullptr) return std::span<const TomlValue>();
  const std::string expected = fmt::format("one [[{}]] per {}, with two brackets", key, key);
  if (member->value.kind != Kind::kArray) {
    return fail(member->line, fmt::format("{} for '{}'", describe(member->value), key), expected);
  }
  for (const TomlValue& item : member->value.items) {
    if (item.kind != Kind::kTable) return fail(item.line, fmt::format("{} in '{}'", describe(item), key), expected);
  }
  return std::span<const TomlValue>(member->value.items);
}

Status FileReader::check_keys(const TomlValue& table, std::string_view what,
                              std::span<const std::string_view> known) const {
  for (const TomlMember& member : table.members) {
    if (std::find(known.begin(), known.end(), member.key) != known.end()) continue;
    return fail(member.line,
                fmt::format("the unknown key {} {}{}", quoted(member.key), what, did_you_mean(member.key, known)),
                fmt::format("one of {}", fmt::join(known, ", ")));
  }
  return {};
}

Status FileReader::read_host(const TomlValue& table) {
  LONGSPAN_TRY(check_keys(table, "in [[host]]", kHostKeys));
  LONGSPAN_ASSIGN(const TomlMember* named, required(table, "name", "[[host]]"));
  Host host;
  LONGSPAN_ASSIGN(host.name, name(*named));
  const auto [known, added] = host_lines_.emplace(host.name, named->line);
  if (!added) {
    return fail(named->line, fmt::format("a second host {}", quoted(host.name)),
                fmt::format("a name of its own (line {} has this one)", known->second));
  }
  LONGSPAN_TRY(place(table, host));
  LONGSPAN_TRY(read_address(table.find("address"), host));
  if (const TomlMember* nic = table.find("nic")) {
    LONGSPAN_ASSIGN(host.nic, bandwidth(*nic));
  }
  if (const TomlMember* gateway = table.find("gateway")) {
    LONGSPAN_ASSIGN(host.gateway, boolean(*gateway));
    host.gateway_defaulted = false;
  }
  topology_.hosts.push_back(std::move(host));
  return {};
}

Status FileReader::read_address(const TomlMember* member, Host& host) const {
  if (member == nullptr) return {};
  constexpr std::string_view kExpected = "an IPv4 or IPv6 literal such as \"10.77.0.1\" or \"fd00::1\"";
  LONGSPAN_ASSIGN(host.address, text(*member, kExpected));
  // A TOML string may hold a NUL, at which inet_pton would stop.
  if (host.address.find('\0') != std::string::npos || !is_address(host.address)) {
    return fail(member->line, fmt::format("{} for 'address'", quoted(host.address)), kExpected);
  }
  return {};
}

Status FileReader::place(const TomlValue& table, Host& host) {
  LONGSPAN_ASSIGN(host.region, region_of(table.find("region"), table.line));
  LONGSPAN_ASSIGN(host.site, group_in(Level::kSite, host.region, table.find("site")));
  LONGSPAN_ASSIGN(host.rack, group_in(Level::kRack, host.site, table.find("rack")));
  return {};
}

Result<int> FileReader::region_of(const TomlMember* member, int line) {
  std::string wanted;
  if (member != nullptr) {
    LONGSPAN_ASSIGN(wanted, name(*member));
    if (const auto known = groups_.find(wanted); known != groups_.end()) {
      LONGSPAN_TRY(check_level(*member, known->second, Level::kRegion));
      return known->second.index;
    }
    line = member->line;
  }
  const auto index = static_cast<int>(topology_.regions.size());
  const bool unnamed_before = index > 0 && topology_.regions.front().name.empty();
  if (member == nullptr && unnamed_before) return 0;
  // Only a file without any region may leave it out: the hosts then share one without a name.
  if ((member == nullptr && index > 0) || unnamed_before) {
    return fail(line, member == nullptr ? "a [[host]] without 'region'" : fmt::format("the region {}", quoted(wanted)),
                fmt::format("'region' on every host or on none, unlike line {}", region_lines_.front()));
  }
  topology_.regions.push_back(Group{wanted, -1, {}});
  region_lines_.push_back(line);
  if (member != nullptr) groups_.emplace(wanted, Named{Level::kRegion, index, line});
  return index;
}

Result<int> FileReader::group_in(Level level, int parent, const TomlMember* member) {
  std::vector<Group>& list = at_level(topology_, static_cast<int>(level));
  const auto index = static_cast<int>(list.size());
  std::string wanted;
  if (member == nullptr) {
    const auto [known, added] = (level == Level::kSite ? default_sites_ : default_racks_).emplace(parent, index);
    if (!added) return known->second;
  } else {
    LONGSPAN_ASSIGN(wanted, name(*member));
    const auto [known, added] = groups_.emplace(wanted, Named{level, index, member->line});
    if (!added) {
      LONGSPAN_TRY(check_level(*member, known->second, level));
      const int before = list[static_cast<std::size_t>(known->second.index)].parent;
      if (before == parent) return known->second.index;
      const Level above = level == Level::kSite ? Level::kRegion : Level::kSite;
      return fail(member->line,
                  fmt::format("{} {} in {}", name_of(level), quoted(wanted), describe_group(above, parent)),
                  fmt::format("it in {}, as on line {}", describe_group(above, before), known->second.line));
    }
  }
  list.push_back(Group{std::move(wanted), parent, {}});
  return index;
}

Status FileReader::check_level(const TomlMember& member, const Named& known, Level wanted) const {
  if (known.level == wanted) return {};
  return fail(member.line,
              fmt::format("{} {}, which names a {} on line {}", name_of(wanted), quoted(member.value.text),
                          name_of(known.level), known.line),
              "a name of its own: racks, sites and regions share one namespace");
}

std::string FileReader::describe_group(Level level, int index) const {
  const Group& group =
      at_level(const_cast<Topology&>(topology_), static_cast<int>(level))[static_cast<std::size_t>(index)];
  if (!group.name.empty()) return fmt::format("{} {}", name_of(level), quoted(group.name));
  if (level == Level::kRegion) return "the unnamed region";
  return fmt::format("the unnamed {} of {}", name_of(level),
                     describe_group(level == Level::kRack ? Level::kSite : Level::kRegion, group.parent));
}

}  // namespace longspan::topology
