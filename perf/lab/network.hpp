#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "lab/addresses.hpp"
#include "lab/namespace.hpp"
#include "longspan/status.hpp"
#include "longspan/topology.hpp"

namespace longspan::lab {

struct NetworkOptions {
  int mtu = 9000;
};

/// An uplink's latency below this is not emulated: packets are looked at every 200 us.
inline constexpr Latency kLeastUplinkLatency{0.0005};

/// What crossed the network cards of one region's hosts, from the kernel's counters.
struct RegionTraffic {
  std::uint64_t sent_bytes = 0;  ///< by all hosts, Ethernet headers included
  std::uint64_t received_bytes = 0;
  std::uint64_t dropped_packets = 0;  ///< by the queues of NICs and uplinks
};

/// An uplink of a rack or site with a delay: what connects two bridges of a region's router, for whoever carries the
/// WAN.
struct DelayedUplink {
  int region = 0;
  std::string name;  ///< "rack NAME" or "site NAME"
  Bandwidth rate;
  Latency latency{0};
  std::string below;  ///< device to be made and attached, on the side of what is inside
  std::string above;  ///< device on the other side
  std::string bridge_below;
  std::string bridge_above;
};

/// The part of an emulated topology that the kernel carries: a namespace per host, a router per region, and between
/// them bridges and rate limits (tbf) for NICs and uplinks. What leaves a region goes to the router's device `wan0`,
/// which whoever carries the WAN attaches to.
class Network {
 public:
  static Result<Network> build(const Topology& topology, const NetworkOptions& options);

  const Topology& topology() const noexcept { return topology_; }
  const NetworkOptions& options() const noexcept { return options_; }
  const std::vector<IpAddress>& addresses() const noexcept { return addresses_; }
  const Namespace& host(int index) const { return hosts_[static_cast<std::size_t>(index)]; }
  const Namespace& router(int region) const { return routers_[static_cast<std::size_t>(region)]; }
  /// What the topology states and the lab does not emulate, one sentence each.
  const std::vector<std::string>& omissions() const noexcept { return omissions_; }

  /// Uplinks that the kernel does not carry, because it cannot delay: their two devices are to be made, in
  /// router(region), and then attached.
  const std::vector<DelayedUplink>& delayed_uplinks() const noexcept { return delayed_; }
  Status attach(const DelayedUplink& uplink) const;

  /// Brings up a router's `wan0` and sends the other regions' addresses through it. Call when the device exists.
  Status route_wan(int region) const;
  Result<RegionTraffic> traffic(int region) const;
  /// A TCP port that is free in that host.
  Result<int> free_port(int host) const;

 private:
  Network(const Topology& topology, const NetworkOptions& options) : topology_(topology), options_(options) {}
  Status make_namespaces();
  Status build_router(int region);
  Status build_host(int host) const;
  std::string bridge_of_rack(int rack) const;
  std::string bridge_of_site(int site) const;
  std::string limit(const std::string& device, Bandwidth rate) const;
  std::string uplink(const Group& group, const std::string& below, const std::string& above, const std::string& tag,
                     std::string* shaping) const;
  std::string delayed_uplink(const Group& group, int region, const std::string& below, const std::string& above,
                             const std::string& tag);
  std::string prefix(int host) const;
  bool reachable(int from_region, int to_region) const;
  void note_omissions();

  Topology topology_;
  NetworkOptions options_;
  std::vector<IpAddress> addresses_;
  std::vector<Namespace> hosts_;
  std::vector<Namespace> routers_;
  std::vector<std::string> omissions_;
  std::vector<DelayedUplink> delayed_;
};

}  // namespace longspan::lab
