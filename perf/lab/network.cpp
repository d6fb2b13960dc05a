#include "lab/network.hpp"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <sstream>

namespace longspan::lab {
namespace {

constexpr const char* kGatewayV4 = "169.254.77.1";
constexpr const char* kGatewayV6 = "fe80::77:1";
constexpr double kEthernetHeader = 14;
/// The kernel hands veth up to 64 KiB at once; a smaller bucket would make tbf cut every such packet up.
constexpr double kSmallestBurst = 128 * 1024;
/// Queue of a NIC or an uplink: what a switch port might hold.
constexpr double kQueueSeconds = 0.010;
constexpr double kSmallestQueue = 1'000'000;

std::size_t at(int index) { return static_cast<std::size_t>(index); }

/// tcp_rmem/tcp_wmem maxima that cover 1 Gbit/s at 250 ms twice; net.core.* belongs to the whole machine and stays.
Status set_host_sysctls(const Namespace& space, bool v6) {
  LONGSPAN_TRY(space.set_sysctl("ipv4/tcp_rmem", "4096 131072 67108864"));
  LONGSPAN_TRY(space.set_sysctl("ipv4/tcp_wmem", "4096 65536 67108864"));
  // Loopback keeps IPv6; other devices would only chatter.
  if (!v6) (void)space.set_sysctl("ipv6/conf/default/disable_ipv6", "1");
  (void)space.set_sysctl("ipv6/conf/default/accept_dad", "0");
  return space.set_sysctl("ipv4/conf/all/rp_filter", "0");
}

Status set_router_sysctls(const Namespace& space, bool v6) {
  if (!v6) (void)space.set_sysctl("ipv6/conf/default/disable_ipv6", "1");
  (void)space.set_sysctl("ipv6/conf/default/accept_dad", "0");
  for (const char* scope : {"all", "default"}) {
    LONGSPAN_TRY(space.set_sysctl(fmt::format("ipv4/conf/{}/rp_filter", scope), "0"));
    LONGSPAN_TRY(space.set_sysctl(fmt::format("ipv4/conf/{}/send_redirects", scope), "0"));
  }
  // The machine's firewall has no say in an emulated network, and asking it costs CPU for each packet.
  for (const char* family : {"iptables", "ip6tables", "arptables"}) {
    (void)space.set_sysctl(fmt::format("bridge/bridge-nf-call-{}", family), "0");
  }
  if (v6) LONGSPAN_TRY(space.set_sysctl("ipv6/conf/all/forwarding", "1"));
  return space.set_sysctl("ipv4/ip_forward", "1");
}

/// The number after `key` in text such as "dropped 12, overlimits 3", summed over all occurrences.
std::uint64_t sum_after(const std::string& text, std::string_view key) {
  std::uint64_t sum = 0;
  for (std::size_t position = text.find(key); position != std::string::npos; position = text.find(key, position + 1)) {
    std::uint64_t value = 0;
    const char* start = text.data() + position + key.size();
    std::from_chars(start, text.data() + text.size(), value);
    sum += value;
  }
  return sum;
}

}  // namespace

std::string Network::limit(const std::string& device, Bandwidth rate) const {
  // tbf counts Ethernet frames, a topology counts IP bytes: scale by a full packet.
  const double wire = rate.bytes_per_second * (options_.mtu + kEthernetHeader) / options_.mtu;
  return fmt::format("qdisc add dev {} root tbf rate {:.0f}bit burst {:.0f} limit {:.0f}\n", device, wire * 8,
                     std::max(kSmallestBurst, wire * 5e-4), std::max(kSmallestQueue, wire * kQueueSeconds));
}

std::string Network::bridge_of_site(int site) const {
  return topology_.sites[at(site)].uplink ? fmt::format("bs{}", site) : "br0";
}

std::string Network::bridge_of_rack(int rack) const {
  const Group& group = topology_.racks[at(rack)];
  return group.uplink ? fmt::format("bk{}", rack) : bridge_of_site(group.parent);
}

std::string Network::uplink(const Group& group, const std::string& below, const std::string& above,
                            const std::string& tag, std::string* shaping) const {
  *shaping += limit("u" + tag, *group.uplink) + limit("d" + tag, *group.uplink);
  return fmt::format(
      "link add {0} mtu {3} type bridge stp_state 0 forward_delay 0 mcast_snooping 0\n"
      "link add u{2} mtu {3} type veth peer name d{2} mtu {3}\n"
      "link set u{2} master {0} up\nlink set d{2} master {1} up\nlink set {0} up\n",
      below, above, tag, options_.mtu);
}

/// Its bridge alone; its two ends come later.
std::string Network::delayed_uplink(const Group& group, int region, const std::string& below, const std::string& above,
                                    const std::string& tag) {
  const char* const kind = tag.front() == 'k' ? "rack" : "site";
  delayed_.push_back({region, fmt::format("{} {}", kind, group.name), *group.uplink, group.uplink_latency, "u" + tag,
                      "d" + tag, below, above});
  return fmt::format(
      "link add {0} mtu {1} type bridge stp_state 0 forward_delay 0 mcast_snooping 0\nlink set {0} up\n", below,
      options_.mtu);
}

Status Network::attach(const DelayedUplink& uplink) const {
  return router(uplink.region)
      .ip(fmt::format("link set {0} mtu {4} master {1} up\nlink set {2} mtu {4} master {3} up\n", uplink.below,
                      uplink.bridge_below, uplink.above, uplink.bridge_above, options_.mtu));
}

Status Network::build_router(int region) {
  const Namespace& space = router(region);
  const bool v6 = addresses_[0].v6;
  LONGSPAN_TRY(set_router_sysctls(space, v6));
  std::string shaping;
  std::string links = fmt::format(
      "link add br0 mtu {} type bridge stp_state 0 forward_delay 0 mcast_snooping 0\n"
      "addr add {} dev br0\nlink set br0 up\n",
      options_.mtu, v6 ? fmt::format("{}/64", kGatewayV6) : fmt::format("{}/32", kGatewayV4));
  for (std::size_t s = 0; s < topology_.sites.size(); ++s) {
    const Group& site = topology_.sites[s];
    if (site.parent != region || !site.uplink) continue;
    const auto bridge = bridge_of_site(static_cast<int>(s));
    const std::string tag = fmt::format("s{}", s);
    links += site.uplink_latency >= kLeastUplinkLatency ? delayed_uplink(site, region, bridge, "br0", tag)
                                                        : uplink(site, bridge, "br0", tag, &shaping);
  }
  for (std::size_t k = 0; k < topology_.racks.size(); ++k) {
    const Group& rack = topology_.racks[k];
    if (topology_.sites[at(rack.parent)].parent != region || !rack.uplink) continue;
    const auto bridge = bridge_of_rack(static_cast<int>(k));
    const std::string above = bridge_of_site(rack.parent);
    const std::string tag = fmt::format("k{}", k);
    links += rack.uplink_latency >= kLeastUplinkLatency ? delayed_uplink(rack, region, bridge, above, tag)
                                                        : uplink(rack, bridge, above, tag, &shaping);
  }
  // What enters the region is what the router itself sends into the bridge; traffic inside does not pass here.
  const Group& group = topology_.regions[at(region)];
  if (group.uplink) shaping += limit("br0", *group.uplink);
  LONGSPAN_TRY(space.ip(links));
  return shaping.empty() ? Status() : space.tc(shaping);
}

std::string Network::prefix(int host) const {
  return addresses_[at(host)].text + (addresses_[at(host)].v6 ? "/128" : "/32");
}

bool Network::reachable(int from_region, int to_region) const {
  return from_region == to_region || topology_.wan_link(from_region, to_region) != nullptr;
}

Status Network::build_host(int index) const {
  const Namespace& space = host(index);
  const Host& host = topology_.hosts[at(index)];
  const bool v6 = addresses_[0].v6;
  LONGSPAN_TRY(set_host_sysctls(space, v6));
  std::string batch = fmt::format(
      "link add eth0 mtu {0} type veth peer name h{1} mtu {0} netns {2}\n"
      "addr add {3} dev eth0{4}\nlink set eth0 up\n",
      options_.mtu, index, router(host.region).path(), prefix(index), v6 ? " nodad" : "");
  for (std::size_t i = 0; i < topology_.hosts.size(); ++i) {
    const int other = static_cast<int>(i);
    if (other == index) continue;
    if (topology_.hosts[i].region == host.region) {
      batch += fmt::format("route add {} dev eth0\n", prefix(other));
    } else if (!reachable(host.region, topology_.hosts[i].region)) {
      batch += fmt::format("route add unreachable {}\n", prefix(other));
    }
  }
  batch += fmt::format("route add default via {} dev eth0 onlink{}\n", v6 ? kGatewayV6 : kGatewayV4,
                       v6 ? "" : " src " + addresses_[at(index)].text);
  LONGSPAN_TRY(space.ip(batch));
  LONGSPAN_TRY(router(host.region)
                   .ip(fmt::format("link set h{0} master {1} up\nroute add {2} dev br0\n", index,
                                   bridge_of_rack(host.rack), prefix(index))));
  if (!host.nic) return {};
  LONGSPAN_TRY(space.tc(limit("eth0", *host.nic)));
  return router(host.region).tc(limit(fmt::format("h{}", index), *host.nic));
}

Status Network::make_namespaces() {
  for (const Group& region : topology_.regions) {
    LONGSPAN_ASSIGN(auto space, Namespace::create("router of region " + region.name));
    routers_.push_back(std::move(space));
  }
  for (const Host& host : topology_.hosts) {
    LONGSPAN_ASSIGN(auto space, Namespace::create("host " + host.name));
    hosts_.push_back(std::move(space));
  }
  return {};
}

void Network::note_omissions() {
  const auto check = [this](const std::vector<Group>& groups, const char* kind) {
    for (const Group& group : groups) {
      if (group.uplink_latency.count() <= 0 || group.uplink_latency >= kLeastUplinkLatency) continue;
      omissions_.push_back(
          fmt::format("the latency of {} {}'s uplink ({:.0f} us) is not emulated, its bandwidth is: the lab delays by "
                      "{:.0f} us or more",
                      kind, group.name, group.uplink_latency.count() * 1e6, kLeastUplinkLatency.count() * 1e6));
    }
  };
  check(topology_.racks, "rack");
  check(topology_.sites, "site");
}

Result<Network> Network::build(const Topology& topology, const NetworkOptions& options) {
  Network network(topology, options);
  LONGSPAN_ASSIGN(network.addresses_, assign_addresses(topology));
  LONGSPAN_TRY(network.make_namespaces());
  for (std::size_t r = 0; r < topology.regions.size(); ++r) LONGSPAN_TRY(network.build_router(static_cast<int>(r)));
  for (std::size_t h = 0; h < topology.hosts.size(); ++h) LONGSPAN_TRY(network.build_host(static_cast<int>(h)));
  network.note_omissions();
  return network;
}

Status Network::route_wan(int region) const {
  const Namespace& space = router(region);
  std::string batch = fmt::format("link set wan0 mtu {} up\n", options_.mtu);
  for (std::size_t i = 0; i < topology_.hosts.size(); ++i) {
    const int other = topology_.hosts[i].region;
    if (other == region || !reachable(region, other)) continue;
    batch += fmt::format("route add {} dev wan0\n", prefix(static_cast<int>(i)));
  }
  LONGSPAN_TRY(space.ip(batch));
  const Group& group = topology_.regions[at(region)];
  return group.uplink ? space.tc(limit("wan0", *group.uplink)) : Status();
}

Result<RegionTraffic> Network::traffic(int region) const {
  RegionTraffic traffic;
  const std::array<const char*, 5> qdiscs{"tc", "-s", "qdisc", "show", nullptr};
  LONGSPAN_ASSIGN(const std::string inside, router(region).output_of(qdiscs.data()));
  traffic.dropped_packets = sum_after(inside, "dropped ");
  for (std::size_t h = 0; h < hosts_.size(); ++h) {
    if (topology_.hosts[h].region != region) continue;
    LONGSPAN_ASSIGN(const std::string devices, hosts_[h].device_counters());
    const std::size_t line = devices.find("eth0:");
    if (line == std::string::npos) continue;
    std::istringstream fields(devices.substr(line + 5));
    std::array<std::uint64_t, 9> values{};
    for (std::uint64_t& value : values) fields >> value;
    traffic.received_bytes += values[0];
    traffic.sent_bytes += values[8];
    LONGSPAN_ASSIGN(const std::string own, hosts_[h].output_of(qdiscs.data()));
    traffic.dropped_packets += sum_after(own, "dropped ");
  }
  return traffic;
}

Result<int> Network::free_port(int index) const {
  const ScopedNamespace inside(host(index));
  LONGSPAN_TRY(inside.status());
  const Fd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket) return system_error("socket", errno);
  sockaddr_in any{};
  any.sin_family = AF_INET;
  socklen_t length = sizeof any;
  if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&any), length) != 0 ||
      ::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&any), &length) != 0) {
    return system_error("bind to a free port", errno);
  }
  return static_cast<int>(ntohs(any.sin_port));
}

}  // namespace longspan::lab
