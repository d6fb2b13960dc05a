#pragma once

#include <algorithm>
#include <cmath>
#include <optional>
#include <string>
#include <vector>

#include "longspan/topology.hpp"

namespace longspan::testing {

/// Builds clusters by hand, region by region.
class ClusterBuilder {
 public:
  /// Adds a region with `hosts` hosts of `ranks` ranks each; nic in bit/s, 0: not stated. Returns its index.
  int region(int hosts, double nic_bits, int ranks = 1) {
    const int region = static_cast<int>(topology_.regions.size());
    const std::string name(1, static_cast<char>('a' + region));
    topology_.regions.push_back(Group{name, -1, {}, {}});
    topology_.sites.push_back(Group{"", region, {}, {}});
    topology_.racks.push_back(Group{"", region, {}, {}});
    for (int h = 0; h < hosts; ++h) {
      Host host;
      host.name = name + "-" + std::to_string(h + 1);
      host.region = host.site = host.rack = region;
      if (nic_bits > 0) host.nic = Bandwidth{nic_bits / 8};
      host_of_rank_.insert(host_of_rank_.end(), static_cast<std::size_t>(ranks),
                           static_cast<int>(topology_.hosts.size()));
      topology_.hosts.push_back(std::move(host));
    }
    return region;
  }
  void wan(int from, int to, double bits, double latency) {
    topology_.wan.push_back(WanLink{from, to, Bandwidth{bits / 8}, Latency{latency}, {}, 0});
  }
  /// All pairs of regions, both ways, alike.
  void mesh(double bits, double latency) {
    const int regions = static_cast<int>(topology_.regions.size());
    for (int a = 0; a < regions; ++a) {
      for (int b = 0; b < regions; ++b) {
        if (a != b) wan(a, b, bits, latency);
      }
    }
  }
  Topology& topology() { return topology_; }
  Cluster cluster() const { return Cluster{topology_, host_of_rank_}; }

 private:
  Topology topology_;
  std::vector<int> host_of_rank_;
};

/// One region per entry, with that many hosts; all alike: NICs `nic_bits`, a full mesh of `wan_bits` and `latency`.
inline Cluster regions_of(const std::vector<int>& hosts, double nic_bits, double wan_bits, double latency,
                          int ranks = 1) {
  ClusterBuilder builder;
  for (const int count : hosts) builder.region(count, nic_bits, ranks);
  builder.mesh(wan_bits, latency);
  return builder.cluster();
}

/// Equal but for rounding.
inline bool near(double a, double b, double tolerance = 1e-9) {
  return std::abs(a - b) <= tolerance * std::max(std::abs(a), std::abs(b));
}

inline constexpr double kMi = 1024.0 * 1024.0;
inline constexpr double kGbit = 1e9;

}  // namespace longspan::testing
