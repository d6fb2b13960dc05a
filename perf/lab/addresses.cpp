#include "lab/addresses.hpp"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <cstring>
#include <map>
#include <set>

namespace longspan::lab {
namespace {

std::uint32_t v4_key(const std::uint8_t* bytes) {
  std::uint32_t key = 0;
  std::memcpy(&key, bytes, sizeof key);
  return key;
}

std::uint64_t v6_key(const std::uint8_t* bytes) {
  std::uint64_t key = 0;
  std::memcpy(&key, bytes + 8, sizeof key);
  return key;
}

Status check_unique(const Topology& topology, const std::vector<IpAddress>& addresses) {
  std::map<std::array<std::uint8_t, 16>, std::size_t> seen;
  for (std::size_t i = 0; i < addresses.size(); ++i) {
    if (addresses[i].v6 != addresses[0].v6) {
      return Status(StatusCode::kUnsupported,
                    fmt::format("{}: host {} has address {} and host {} has {}: the lab needs one family for all",
                                topology.source, topology.hosts[0].name, addresses[0].text, topology.hosts[i].name,
                                addresses[i].text));
    }
    const auto [other, fresh] = seen.emplace(addresses[i].bytes, i);
    if (!fresh) {
      return Status(
          StatusCode::kInvalidArgument,
          fmt::format("{}: hosts {} and {} have the same address {}: the lab needs one for each", topology.source,
                      topology.hosts[other->second].name, topology.hosts[i].name, addresses[i].text));
    }
  }
  return {};
}

}  // namespace

Result<IpAddress> parse_address(const std::string& text) {
  IpAddress address;
  address.text = text;
  if (::inet_pton(AF_INET, text.c_str(), address.bytes.data()) == 1) return address;
  if (::inet_pton(AF_INET6, text.c_str(), address.bytes.data()) == 1) {
    address.v6 = true;
    return address;
  }
  return Status(StatusCode::kInvalidArgument, fmt::format("\"{}\" is no IPv4 or IPv6 address", text));
}

Result<std::vector<IpAddress>> assign_addresses(const Topology& topology) {
  std::set<std::string> taken;
  for (const Host& host : topology.hosts) taken.insert(host.address);
  std::vector<int> next(topology.regions.size(), 1);
  std::vector<IpAddress> addresses;
  for (const Host& host : topology.hosts) {
    std::string text = host.address;
    while (text.empty()) {
      const int number = next[static_cast<std::size_t>(host.region)]++;
      if (host.region > 255 || number > 254) {
        return Status(StatusCode::kUnsupported,
                      fmt::format("{}: more than 254 hosts in region {} or 256 regions: state `address` for each host",
                                  topology.source, topology.regions[static_cast<std::size_t>(host.region)].name));
      }
      text = fmt::format("10.77.{}.{}", host.region, number);
      if (!taken.insert(text).second) text.clear();
    }
    auto address = parse_address(text);
    if (!address.ok()) return address.status().with_context(fmt::format("{}: host {}", topology.source, host.name));
    addresses.push_back(std::move(*address));
  }
  LONGSPAN_TRY(check_unique(topology, addresses));
  return addresses;
}

RegionLookup::RegionLookup(const Topology& topology, const std::vector<IpAddress>& addresses) {
  for (std::size_t i = 0; i < addresses.size(); ++i) {
    const int region = topology.hosts[i].region;
    if (addresses[i].v6) {
      v6_[v6_key(addresses[i].bytes.data())].emplace_back(addresses[i].bytes, region);
    } else {
      v4_.emplace(v4_key(addresses[i].bytes.data()), region);
    }
  }
}

int RegionLookup::destination_region(std::span<const std::byte> packet) const {
  constexpr std::size_t kV4Header = 20;
  constexpr std::size_t kV6Header = 40;
  if (packet.size() < kV4Header) return -1;
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(packet.data());
  const int version = bytes[0] >> 4;
  if (version == 4) {
    const auto found = v4_.find(v4_key(bytes + 16));
    return found == v4_.end() ? -1 : found->second;
  }
  if (version != 6 || packet.size() < kV6Header) return -1;
  const auto bucket = v6_.find(v6_key(bytes + 24));
  if (bucket == v6_.end()) return -1;
  for (const auto& [address, region] : bucket->second) {
    if (std::memcmp(address.data(), bytes + 24, address.size()) == 0) return region;
  }
  return -1;
}

}  // namespace longspan::lab
