#include "base/sockets.hpp"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstddef>
#include <cstring>
#include <memory>

namespace longspan {
namespace {

sockaddr_in& as_v4(SocketAddress& a) { return reinterpret_cast<sockaddr_in&>(a.storage); }
const sockaddr_in& as_v4(const SocketAddress& a) { return reinterpret_cast<const sockaddr_in&>(a.storage); }
sockaddr_in6& as_v6(SocketAddress& a) { return reinterpret_cast<sockaddr_in6&>(a.storage); }
const sockaddr_in6& as_v6(const SocketAddress& a) { return reinterpret_cast<const sockaddr_in6&>(a.storage); }

template <class Number>
bool read_number(std::string_view digits, Number& number) {
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
  return error == std::errc() && end == digits.data() + digits.size();
}

std::string name_of_scope(std::uint32_t index) {
  char name[IF_NAMESIZE] = "";
  return ::if_indextoname(index, name) != nullptr ? name : std::to_string(index);
}

bool read_scope(const std::string& text, std::uint32_t& index) {
  index = ::if_nametoindex(text.c_str());
  return index != 0 || (read_number(text, index) && index != 0);
}

/// A socket for both families sees IPv4 peers as ::ffff:a.b.c.d, which is useless to hosts without IPv6.
SocketAddress unmapped(const SocketAddress& a) {
  if (a.family() != AF_INET6 || !IN6_IS_ADDR_V4MAPPED(&as_v6(a).sin6_addr)) return a;
  SocketAddress v4;
  v4.length = sizeof(sockaddr_in);
  as_v4(v4).sin_family = AF_INET;
  as_v4(v4).sin_port = as_v6(a).sin6_port;
  std::memcpy(&as_v4(v4).sin_addr, &as_v6(a).sin6_addr.s6_addr[12], 4);
  return v4;
}

void set_option(int fd, int level, int option, int value) noexcept {
  ::setsockopt(fd, level, option, &value, sizeof value);
}

Fd stream_socket(int family) { return Fd(::socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)); }

/// 0, or the errno. Ranks of one host share a range: where another listens, or is about to, the next port is tried.
int listen_on_one_of(Fd& fd, SocketAddress at, PortRange ports) {
  for (unsigned port = ports.first; port <= std::max(ports.first, ports.last); ++port) {
    fd = stream_socket(at.family());
    if (!fd.valid()) return errno;
    if (at.family() == AF_INET6) set_option(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, 0);
    if (at.family() != AF_UNIX) set_option(fd.get(), SOL_SOCKET, SO_REUSEADDR, 1);
    at.set_port(static_cast<std::uint16_t>(port));
    if (::bind(fd.get(), at.get(), at.length) == 0 && ::listen(fd.get(), SOMAXCONN) == 0) return 0;
    if (errno != EADDRINUSE) return errno;
  }
  return EADDRINUSE;
}

/// The same on all interfaces.
int listen_on_all(Fd& fd, PortRange ports, bool& v6) {
  v6 = true;
  const int error = listen_on_one_of(fd, make_address("::", 0).value(), ports);
  if (error == 0 || error == EADDRINUSE) return error;
  v6 = false;  // a kernel without IPv6, or where it is switched off
  return listen_on_one_of(fd, make_address("0.0.0.0", 0).value(), ports);
}

Status listening_failed(const std::string& where, int error) {
  const Status status = system_error("cannot listen on " + where, error);
  return error == EADDRINUSE ? Status(StatusCode::kResource, std::string(status.message())) : status;
}

}  // namespace

// ---- addresses ----

std::uint16_t SocketAddress::port() const noexcept {
  if (family() == AF_INET) return ntohs(as_v4(*this).sin_port);
  if (family() == AF_INET6) return ntohs(as_v6(*this).sin6_port);
  return 0;
}

void SocketAddress::set_port(std::uint16_t port) noexcept {
  if (family() == AF_INET) as_v4(*this).sin_port = htons(port);
  if (family() == AF_INET6) as_v6(*this).sin6_port = htons(port);
}

bool SocketAddress::loopback() const noexcept {
  if (family() == AF_INET) return (ntohl(as_v4(*this).sin_addr.s_addr) >> 24) == 127;
  if (family() == AF_INET6) return IN6_IS_ADDR_LOOPBACK(&as_v6(*this).sin6_addr);
  return true;
}

std::string SocketAddress::ip() const {
  char text[INET6_ADDRSTRLEN] = "";
  if (family() == AF_INET) return ::inet_ntop(AF_INET, &as_v4(*this).sin_addr, text, sizeof text);
  if (family() != AF_INET6) return {};
  ::inet_ntop(AF_INET6, &as_v6(*this).sin6_addr, text, sizeof text);
  const std::uint32_t scope = as_v6(*this).sin6_scope_id;
  return scope == 0 ? text : fmt::format("{}%{}", text, name_of_scope(scope));
}

std::string SocketAddress::to_string() const {
  if (family() == AF_INET) return fmt::format("{}:{}", ip(), port());
  if (family() == AF_INET6) return fmt::format("[{}]:{}", ip(), port());
  if (family() != AF_UNIX) return "no address";
  constexpr std::size_t kHead = offsetof(sockaddr_un, sun_path) + 1;  // the zero that makes it abstract
  const auto& path = reinterpret_cast<const sockaddr_un&>(storage).sun_path;
  return length > kHead ? fmt::format("unix:@{}", std::string_view(path + 1, length - kHead)) : "a unix socket";
}

bool operator==(const SocketAddress& a, const SocketAddress& b) noexcept {
  if (a.family() != b.family() || a.length != b.length || a.port() != b.port()) return false;
  if (a.family() == AF_INET) return as_v4(a).sin_addr.s_addr == as_v4(b).sin_addr.s_addr;
  if (a.family() != AF_INET6) return std::memcmp(&a.storage, &b.storage, a.length) == 0;
  return as_v6(a).sin6_scope_id == as_v6(b).sin6_scope_id &&
         std::memcmp(&as_v6(a).sin6_addr, &as_v6(b).sin6_addr, sizeof(in6_addr)) == 0;
}

Result<SocketAddress> make_address(std::string_view ip, std::uint16_t port) {
  SocketAddress address;
  const std::size_t percent = std::min(ip.find('%'), ip.size());
  const std::string text(ip.substr(0, percent));
  const bool whole = ip.find('\0') == std::string_view::npos;  // at which inet_pton would stop
  if (whole && percent == ip.size() && ::inet_pton(AF_INET, text.c_str(), &as_v4(address).sin_addr) == 1) {
    as_v4(address).sin_family = AF_INET;
    address.length = sizeof(sockaddr_in);
  } else if (whole && ::inet_pton(AF_INET6, text.c_str(), &as_v6(address).sin6_addr) == 1) {
    as_v6(address).sin6_family = AF_INET6;
    address.length = sizeof(sockaddr_in6);
  }
  if (percent < ip.size() && address.length > 0) {
    const std::string scope(ip.substr(percent + 1));
    std::uint32_t index = 0;
    if (!read_scope(scope, index)) {
      return Status(StatusCode::kInvalidArgument, fmt::format("'{}': this host has no interface '{}'", ip, scope));
    }
    as_v6(address).sin6_scope_id = index;
  }
  if (address.length == 0) {
    return Status(StatusCode::kInvalidArgument, fmt::format("'{}' is no IPv4 or IPv6 address", ip));
  }
  address.set_port(port);
  return address;
}

Result<SocketAddress> parse_address(std::string_view text) {
  const std::size_t colon = text.rfind(':');
  std::uint16_t port = 0;
  if (colon != std::string_view::npos && read_number(text.substr(colon + 1), port) && port != 0) {
    std::string_view ip = text.substr(0, colon);
    const bool brackets = ip.size() >= 2 && ip.front() == '[' && ip.back() == ']';
    if (brackets) ip = ip.substr(1, ip.size() - 2);
    // "::1:80" is an address without a port, too: only brackets tell.
    if (brackets == (ip.find(':') != std::string_view::npos)) return make_address(ip, port);
  }
  return Status(StatusCode::kInvalidArgument,
                fmt::format("'{}' is no address with a port (ip:port or [ip]:port)", text));
}

SocketAddress unix_address(std::string_view name) {
  SocketAddress a;
  auto& un = reinterpret_cast<sockaddr_un&>(a.storage);
  un.sun_family = AF_UNIX;
  const std::size_t bytes = std::min(name.size(), sizeof un.sun_path - 1);
  std::memcpy(un.sun_path + 1, name.data(), bytes);
  a.length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + bytes);
  return a;
}

SocketAddress local_address(int fd) noexcept {
  SocketAddress a;
  a.length = sizeof a.storage;
  return ::getsockname(fd, a.get(), &a.length) == 0 ? unmapped(a) : SocketAddress();
}

SocketAddress peer_address(int fd) noexcept {
  SocketAddress a;
  a.length = sizeof a.storage;
  return ::getpeername(fd, a.get(), &a.length) == 0 ? unmapped(a) : SocketAddress();
}

std::vector<SocketAddress> interface_addresses() {
  // Where routing ends on the host, its only address may be one of the loopback interface.
  std::array<std::vector<SocketAddress>, 6> found;
  ifaddrs* list = nullptr;
  if (::getifaddrs(&list) != 0) return {};
  const std::unique_ptr<ifaddrs, void (*)(ifaddrs*)> owner(list, &::freeifaddrs);
  for (const ifaddrs* i = list; i != nullptr; i = i->ifa_next) {
    if (i->ifa_addr == nullptr || (i->ifa_flags & IFF_UP) == 0) continue;
    const int family = i->ifa_addr->sa_family;
    if (family != AF_INET && family != AF_INET6) continue;
    SocketAddress a;
    a.length = family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
    std::memcpy(&a.storage, i->ifa_addr, a.length);
    // A link-local address means something only together with the reader's own interface.
    if (family == AF_INET6 && IN6_IS_ADDR_LINKLOCAL(&as_v6(a).sin6_addr)) continue;
    const std::size_t remoteness = a.loopback() ? 2 : (i->ifa_flags & IFF_LOOPBACK) != 0 ? 1 : 0;
    found[2 * remoteness + (family == AF_INET6 ? 1 : 0)].push_back(a);
  }
  std::vector<SocketAddress> all;
  for (const auto& group : found) all.insert(all.end(), group.begin(), group.end());
  return all;
}

std::string reachable_ip(bool allow_ipv6) {
  for (const SocketAddress& a : interface_addresses()) {
    if (!a.loopback() && (allow_ipv6 || a.family() == AF_INET)) return a.ip();
  }
  return "127.0.0.1";
}

// ---- listening ----

Result<Fd> listen_everywhere(PortRange ports) {
  Fd fd;
  bool v6 = false;
  const int error = listen_on_all(fd, ports, v6);
  if (error == 0) return fd;
  return listening_failed(ports.first == 0 ? std::string("any port") : fmt::format("port {}", ports.first), error);
}

Result<Fd> listen_at(const SocketAddress& address) {
  Fd fd;
  const int error = listen_on_one_of(fd, address, {address.port(), address.port()});
  if (error == 0) return fd;
  return listening_failed(address.to_string(), error);
}

Result<Listener> listen_for_peers(const ListenOptions& options) {
  Listener listener;
  const bool any = options.bind_address.empty();
  bool v6 = true;
  int error = 0;
  if (any) {
    error = listen_on_all(listener.fd, options.ports, v6);
  } else {
    LONGSPAN_ASSIGN(const SocketAddress wanted, make_address(options.bind_address, 0));
    error = listen_on_one_of(listener.fd, wanted, options.ports);
  }
  if (error != 0) {
    const bool ranged = options.ports.first != 0;
    const std::string ports =
        ranged ? fmt::format(" on a port from {} to {}", options.ports.first, options.ports.last) : "";
    return system_error(fmt::format("cannot listen on {}{} ({})", any ? "any address" : options.bind_address, ports,
                                    error == EADDRINUSE && ranged ? "all of them are taken; ask for more ports"
                                                                  : "is it an address of this host?"),
                        error);
  }
  const SocketAddress bound = local_address(listener.fd.get());
  if (bound.port() == 0) return system_error("getsockname", errno);
  const bool advertised = !options.advertise_address.empty() && options.advertise_address != "none";
  const std::string ip = advertised ? options.advertise_address : any ? reachable_ip(v6) : options.bind_address;
  LONGSPAN_ASSIGN(listener.address, make_address(ip, bound.port()));
  return listener;
}

Fd accept_next(int listener) noexcept {
  Fd fd(::accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  if (fd.valid()) set_no_delay(fd.get());
  return fd;
}

// ---- dialing ----

void set_no_delay(int fd) noexcept { set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1); }

void set_keepalive(int fd, std::chrono::seconds idle, std::chrono::seconds interval, int probes) noexcept {
  set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
  set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, static_cast<int>(idle.count()));
  set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, static_cast<int>(interval.count()));
  set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, probes);
}

int begin_connect(int fd, const SocketAddress& to) noexcept {
  if (::connect(fd, to.get(), to.length) == 0 || errno == EINPROGRESS || errno == EINTR) return 0;
  return errno;
}

Result<Fd> dial(const SocketAddress& to) {
  Fd fd = stream_socket(to.family());
  if (!fd.valid()) return system_error("socket", errno);
  if (to.family() != AF_UNIX) set_no_delay(fd.get());
  const int error = begin_connect(fd.get(), to);
  if (error == 0) return fd;
  return Status(StatusCode::kPeerLost, fmt::format("{}: {}", to.to_string(), std::strerror(error)));
}

int connect_result(int fd) noexcept {
  int error = 0;
  socklen_t length = sizeof error;
  if (::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) != 0) return errno;
  if (error != 0) return error;
  const SocketAddress there = peer_address(fd);
  if (there.family() == AF_UNSPEC) return EINPROGRESS;  // the kernel still dials
  // A port of this machine that is free may be the one that the socket itself was given: it meets itself.
  return there.family() != AF_UNIX && there == local_address(fd) ? ECONNREFUSED : 0;
}

}  // namespace longspan
