#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "longspan/status.hpp"
#include "longspan/topology.hpp"

namespace longspan::lab {

/// An IPv4 or IPv6 address as it stands in a packet.
struct IpAddress {
  bool v6 = false;
  std::array<std::uint8_t, 16> bytes{};
  std::string text;
};

/// Parses an IPv4 or IPv6 literal.
Result<IpAddress> parse_address(const std::string& text);

/// The address of every host: the topology's, or 10.77.<region>.<host> where it states none.
/// Errors name hosts that share one, or a mix of IPv4 and IPv6.
Result<std::vector<IpAddress>> assign_addresses(const Topology& topology);

/// Which region a packet is for. Lookup is by the packet's destination address.
class RegionLookup {
 public:
  RegionLookup(const Topology& topology, const std::vector<IpAddress>& addresses);
  /// The region, or -1 when no host has that address or the bytes are no IP packet.
  int destination_region(std::span<const std::byte> packet) const;

 private:
  std::unordered_map<std::uint32_t, int> v4_;
  std::unordered_map<std::uint64_t, std::vector<std::pair<std::array<std::uint8_t, 16>, int>>> v6_;
};

}  // namespace longspan::lab
