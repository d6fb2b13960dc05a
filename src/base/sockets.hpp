#pragma once

#include <sys/socket.h>

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/fd.hpp"
#include "longspan/status.hpp"

/// Addresses, listening, dialing: what everything here that uses stream sockets needs of them. All sockets are
/// non-blocking and close on exec.
namespace longspan {

/// An IPv4 or IPv6 address with port, or the name of an abstract unix socket.
struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t length = 0;

  sockaddr* get() noexcept { return reinterpret_cast<sockaddr*>(&storage); }
  const sockaddr* get() const noexcept { return reinterpret_cast<const sockaddr*>(&storage); }
  int family() const noexcept { return storage.ss_family; }
  /// 0 for a unix socket.
  std::uint16_t port() const noexcept;
  void set_port(std::uint16_t port) noexcept;
  /// Leads to this machine only.
  bool loopback() const noexcept;
  /// "10.0.0.1", "2001:db8::1" or "fe80::1%eth0"; "" for a unix socket.
  std::string ip() const;
  /// "10.0.0.1:4711", "[2001:db8::1]:4711" or "unix:@name".
  std::string to_string() const;
  friend bool operator==(const SocketAddress& a, const SocketAddress& b) noexcept;
};

/// From an IP literal.
Result<SocketAddress> make_address(std::string_view ip, std::uint16_t port);
/// Reads what SocketAddress::to_string wrote of an IP address with a port.
Result<SocketAddress> parse_address(std::string_view text);
/// The abstract unix socket `@name`: gone when its owner is, and visible in one network namespace only.
SocketAddress unix_address(std::string_view name);

/// Of a socket's ends; IPv4 that reaches an IPv6 socket is IPv4. Of no family where there is none.
SocketAddress local_address(int fd) noexcept;
SocketAddress peer_address(int fd) noexcept;

/// Of this machine's interfaces that are up, what others can most likely reach first: loopback last, IPv4 before IPv6.
std::vector<SocketAddress> interface_addresses();
/// The first of these that is no loopback; "127.0.0.1" where there is none.
std::string reachable_ip(bool allow_ipv6);

/// Ports that may be listened on; {0, 0}: any.
struct PortRange {
  std::uint16_t first = 0;
  std::uint16_t last = 0;
};
/// Listens on all interfaces, IPv6 and IPv4, on the first free port of a range. kResource: all are taken.
Result<Fd> listen_everywhere(PortRange ports);
/// Listens at exactly this address. kResource: it is taken.
Result<Fd> listen_at(const SocketAddress& address);

struct ListenOptions {
  std::string bind_address;       ///< IP literal; empty: all interfaces
  /// What peers dial; empty, or "none" (they cannot): bind_address, else reachable_ip().
  std::string advertise_address;
  PortRange ports;
};
struct Listener {
  Fd fd;
  SocketAddress address;  ///< where peers reach it
};
/// Errors say which address and ports were asked for, and what to do.
Result<Listener> listen_for_peers(const ListenOptions& options);
/// The next connection that waits, without Nagle's delay. Invalid: none does, and errno says why.
Fd accept_next(int listener) noexcept;

void set_no_delay(int fd) noexcept;
/// The other side is asked whether it is there once nothing has come for `idle`, then each `interval`; after `probes`
/// without an answer the connection ends. So a host that vanishes is noticed within seconds, also where nothing is ever
/// sent.
void set_keepalive(int fd, std::chrono::seconds idle = std::chrono::seconds(3),
                   std::chrono::seconds interval = std::chrono::seconds(2), int probes = 4) noexcept;
/// Begins to connect: 0, or the errno at which that ended at once.
int begin_connect(int fd, const SocketAddress& to) noexcept;
/// A new socket without Nagle's delay that begins to connect. kPeerLost: refused or unreachable, with the address.
Result<Fd> dial(const SocketAddress& to);
/// What became of it: 0: it stands; EINPROGRESS: not decided yet, which poll(POLLOUT) waits for; else the errno.
int connect_result(int fd) noexcept;

}  // namespace longspan
