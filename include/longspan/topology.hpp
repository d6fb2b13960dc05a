#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "longspan/export.hpp"
#include "longspan/status.hpp"
#include "longspan/types.hpp"

namespace longspan {

using Latency = std::chrono::duration<double>;  ///< seconds, one way

/// Bytes of IP packets per second.
struct Bandwidth {
  double bytes_per_second = 0;
  friend auto operator<=>(const Bandwidth&, const Bandwidth&) = default;
};

/// Where a value of a topology came from.
enum class Provenance : std::uint8_t { kDefault, kFile, kProbe, kDiscovered, kLauncher };
LONGSPAN_API std::string_view name_of(Provenance provenance) noexcept;

/// A machine (or container) with one network address.
struct Host {
  std::string name;
  int region = 0;  ///< index into Topology::regions
  int site = 0;    ///< index into Topology::sites
  int rack = 0;    ///< index into Topology::racks
  std::string address;           ///< IPv4 or IPv6 literal; empty: not stated
  std::optional<Bandwidth> nic;  ///< per direction; nullopt: unknown
  bool gateway = true;           ///< may carry cross-region traffic
  bool gateway_defaulted = true;
  friend bool operator==(const Host&, const Host&) = default;
};

/// A rack, site or region. `uplink` caps what all inside it send, and what they receive, together.
struct Group {
  std::string name;  ///< empty for a defaulted rack, site or region
  int parent = -1;   ///< rack: its site; site: its region; region: -1
  std::optional<Bandwidth> uplink;
  Latency uplink_latency{0};  ///< one way; only meaningful with `uplink`
  bool uplink_latency_defaulted = true;
  friend bool operator==(const Group&, const Group&) = default;
};

/// One directed link between two regions.
struct WanLink {
  int from = 0;  ///< index into Topology::regions
  int to = 0;
  Bandwidth bandwidth;
  Latency latency{0};
  std::optional<std::uint64_t> buffer_bytes;  ///< depth of the bottleneck queue
  double loss = 0;                            ///< random packet loss, [0, 1)
  bool loss_defaulted = true;
  bool mirrored = false;  ///< not written in the file: the other way of a link with both_ways
  friend bool operator==(const WanLink&, const WanLink&) = default;
};

/// The shape of the network: pure data, no I/O. Hosts in file order; names resolved to indices.
///
/// Build one with `parse_topology` / `load_topology` (src/topology) or by hand in tests.
struct LONGSPAN_API Topology {
  std::vector<Group> regions;
  std::vector<Group> sites;
  std::vector<Group> racks;
  std::vector<Host> hosts;
  std::vector<WanLink> wan;
  std::string source;  ///< file name, or what it was made from; for messages only

  /// The link from one region to another, or nullptr.
  const WanLink* wan_link(int from_region, int to_region) const noexcept;
  /// Index of the host with that name, or -1.
  int find_host(std::string_view name) const noexcept;
};

/// Reads the text of a topology file (docs/topology.md). Errors: kInvalidArgument "source:line: found ..., expected
/// ...".
LONGSPAN_API Result<Topology> parse_topology(std::string_view text, std::string_view source);
/// Reads a topology file. Errors also name the file that cannot be read.
LONGSPAN_API Result<Topology> load_topology(const std::string& path);
/// The file's text form of a topology; parse_topology(to_toml(t)) gives t again.
LONGSPAN_API std::string to_toml(const Topology& topology);
/// One region, one host per name, nothing known about links: what is assumed without a file.
LONGSPAN_API Topology flat_topology(const std::vector<std::string>& host_names);

/// A topology with ranks on its hosts: all that planning needs to know of the place. Pure data.
struct LONGSPAN_API Cluster {
  Topology topology;
  std::vector<int> host_of_rank;  ///< rank -> index into topology.hosts

  int size() const noexcept { return static_cast<int>(host_of_rank.size()); }
  const Host& host(int rank) const {
    return topology.hosts[static_cast<std::size_t>(host_of_rank[static_cast<std::size_t>(rank)])];
  }
  int region_of(int rank) const { return host(rank).region; }
  bool gateway(int rank) const { return host(rank).gateway; }
  /// The lowest level that holds both ranks.
  Tier tier_between(int a, int b) const;
  /// One-way latency of the path a -> b: uplinks left and entered, and the WAN link; 0 where nothing is stated.
  Latency latency(int from, int to) const;
  /// "rank 3 (host eu-1, region eu)".
  std::string describe(int rank) const;
};

/// Ranks laid over hosts in file order, `ranks_per_host` each.
LONGSPAN_API Cluster place_in_order(Topology topology, int ranks_per_host);

}  // namespace longspan
