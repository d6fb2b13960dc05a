#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.hpp"
#include "base/fd.hpp"
#include "bootstrap/stream.hpp"
#include "longspan/status.hpp"

namespace longspan::bootstrap {

/// An IPv4, IPv6 or abstract unix socket address.
struct Address {
  sockaddr_storage storage = {};
  socklen_t length = 0;

  int family() const noexcept { return storage.ss_family; }
  const sockaddr* raw() const noexcept { return reinterpret_cast<const sockaddr*>(&storage); }
  sockaddr* raw() noexcept { return reinterpret_cast<sockaddr*>(&storage); }
  std::uint16_t port() const noexcept;
  void set_port(std::uint16_t port) noexcept;
  bool loopback() const noexcept;
  /// "10.0.0.1" or "fe80::1"; "" for a unix socket.
  std::string ip() const;
  /// "10.0.0.1:29500", "[::1]:29500" or "unix:@name", for messages.
  std::string text() const;
};

/// All addresses of a host name or IP literal. A name server that does not answer ends at the deadline.
Result<std::vector<Address>> resolve(const std::string& host, std::uint16_t port, TimePoint deadline);
/// The address of an IP literal.
Result<Address> parse_ip(const std::string& ip, std::uint16_t port);
/// The abstract unix socket `@name`: gone when its owner is, and visible in one network namespace only.
Address unix_address(const std::string& name);

/// Ports that may be listened on; {0, 0}: any.
struct PortRange {
  std::uint16_t first = 0;
  std::uint16_t last = 0;
};
/// "20000-20100" or "20000".
Result<PortRange> parse_port_range(std::string_view text);

/// Listens on all interfaces, IPv6 and IPv4; port 0: any free one. kResource: the port is taken.
Result<Fd> listen_on_port(std::uint16_t port);
/// The same on the first free port of a range. kResource: all are taken.
Result<Fd> listen_on_port_of(PortRange ports);
/// Listens on an abstract unix socket. kResource: the name is taken.
Result<Fd> listen_on(const Address& unix_socket);
/// A connected non-blocking socket. kTimeout: no answer until the deadline; kPeerLost: refused or unreachable.
Result<Fd> connect_to(const Address& to, TimePoint deadline);
/// Starts to connect; the socket becomes writable when that is decided (`connect_error`).
Result<Fd> start_connect(const Address& to);
/// 0 when the connection stands, else its errno.
int connect_error(int fd);
/// The next connection that waits, non-blocking; invalid when there is none.
Fd accept_from(int listener);

Address local_address(int fd);
Address peer_address(int fd);
/// Addresses of this machine's interfaces that are up, loopback last, IPv4 first.
std::vector<Address> interface_addresses();
std::string this_host_name();
/// Unpredictable, for naming things.
std::uint64_t random_number();

/// Waits until `fd` is ready for `events` (poll's); false when the deadline passed first.
bool wait_ready(int fd, short events, TimePoint deadline);
/// Sends everything. kTimeout or kPeerLost.
Status send_all(int fd, std::string_view bytes, TimePoint deadline);
Status send_all(Stream& stream, std::string_view bytes, TimePoint deadline);
/// Receives exactly `bytes`. kTimeout or kPeerLost.
Result<std::string> receive_exactly(int fd, std::size_t bytes, TimePoint deadline);

}  // namespace longspan::bootstrap
