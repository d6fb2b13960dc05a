#include "ucx/sockets.hpp"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <memory>

namespace longspan::ucx {
namespace {

struct Address {
  sockaddr_storage storage{};
  socklen_t length = 0;

  sockaddr* get() noexcept { return reinterpret_cast<sockaddr*>(&storage); }
  std::uint16_t& port() noexcept {
    return storage.ss_family == AF_INET6 ? reinterpret_cast<sockaddr_in6*>(&storage)->sin6_port
                                         : reinterpret_cast<sockaddr_in*>(&storage)->sin_port;
  }
};

Result<Address> make_address(std::string_view ip, std::uint16_t port) {
  Address address;
  const std::string text(ip);
  auto* v4 = reinterpret_cast<sockaddr_in*>(&address.storage);
  auto* v6 = reinterpret_cast<sockaddr_in6*>(&address.storage);
  if (::inet_pton(AF_INET, text.c_str(), &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    address.length = sizeof *v4;
  } else if (::inet_pton(AF_INET6, text.c_str(), &v6->sin6_addr) == 1) {
    v6->sin6_family = AF_INET6;
    address.length = sizeof *v6;
  } else {
    return Status(StatusCode::kInvalidArgument, fmt::format("'{}' is no IPv4 or IPv6 address", text));
  }
  address.port() = htons(port);
  return address;
}

/// The first address of this host that is no loopback, IPv4 before IPv6.
std::string reachable_ip(bool allow_ipv6) {
  ifaddrs* list = nullptr;
  if (::getifaddrs(&list) != 0) return "127.0.0.1";
  const std::unique_ptr<ifaddrs, void (*)(ifaddrs*)> owner(list, &::freeifaddrs);
  std::string v6;
  for (const ifaddrs* entry = list; entry != nullptr; entry = entry->ifa_next) {
    if (entry->ifa_addr == nullptr || (entry->ifa_flags & IFF_UP) == 0 || (entry->ifa_flags & IFF_LOOPBACK) != 0) continue;
    char text[INET6_ADDRSTRLEN] = "";
    if (entry->ifa_addr->sa_family == AF_INET) {
      ::inet_ntop(AF_INET, &reinterpret_cast<const sockaddr_in*>(entry->ifa_addr)->sin_addr, text, sizeof text);
      return text;
    }
    if (entry->ifa_addr->sa_family != AF_INET6 || !v6.empty() || !allow_ipv6) continue;
    const in6_addr& address = reinterpret_cast<const sockaddr_in6*>(entry->ifa_addr)->sin6_addr;
    if (IN6_IS_ADDR_LINKLOCAL(&address)) continue;
    ::inet_ntop(AF_INET6, &address, text, sizeof text);
    v6 = text;
  }
  return v6.empty() ? "127.0.0.1" : v6;
}

/// Leaves errno. Ranks of one host share a range: where another listens, the next port is tried.
bool listen_on_free_port(Fd& fd, Address wanted, unsigned first, unsigned last) {
  const int on = 1;
  const int off = 0;
  for (unsigned port = first; port <= std::max(first, last); ++port) {
    fd.reset(::socket(wanted.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (!fd.valid()) return false;
    if (wanted.storage.ss_family == AF_INET6) ::setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    wanted.port() = htons(static_cast<std::uint16_t>(port));
    if (::bind(fd.get(), wanted.get(), wanted.length) == 0 && ::listen(fd.get(), SOMAXCONN) == 0) return true;
    if (errno != EADDRINUSE) return false;
  }
  return false;
}

}  // namespace

Result<Listener> listen(const spi::EndpointOptions& options) {
  Listener listener;
  const bool any = options.bind_address.empty();
  LONGSPAN_ASSIGN(Address wanted, make_address(any ? "::" : options.bind_address, 0));
  bool dual = any;
  bool listening = listen_on_free_port(listener.fd, wanted, options.first_port, options.last_port);
  if (!listening && dual && errno != EADDRINUSE) {  // a kernel without IPv6
    dual = false;
    LONGSPAN_ASSIGN(wanted, make_address("0.0.0.0", 0));
    listening = listen_on_free_port(listener.fd, wanted, options.first_port, options.last_port);
  }
  if (!listening) {
    return system_error(fmt::format("ucx: cannot listen on {}{}", any ? "any address" : options.bind_address,
                                    options.first_port == 0 ? "" : fmt::format(", ports {} to {}", options.first_port, options.last_port)),
                        errno);
  }
  Address bound;
  bound.length = sizeof bound.storage;
  if (::getsockname(listener.fd.get(), bound.get(), &bound.length) != 0) return system_error("ucx: getsockname", errno);
  const bool advertised = !options.advertise_address.empty() && options.advertise_address != "none";
  const std::string ip = advertised ? options.advertise_address : any ? reachable_ip(dual) : options.bind_address;
  LONGSPAN_TRY(make_address(ip, 0).status());
  listener.address = fmt::format("{}:{}", ip, ntohs(bound.port()));
  return listener;
}

Fd accept_next(const Fd& listener) noexcept {
  Fd fd(::accept4(listener.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  const int on = 1;
  if (fd.valid()) ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  return fd;
}

Result<Fd> dial(std::string_view address) {
  const std::size_t colon = std::min(address.rfind(':'), address.size());
  const std::string_view digits = address.substr(std::min(colon + 1, address.size()));
  std::uint16_t port = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
  if (error != std::errc() || end != digits.data() + digits.size() || port == 0) {
    return Status(StatusCode::kInvalidArgument, fmt::format("'{}' is no address of the ucx transport (ip:port)", address));
  }
  LONGSPAN_ASSIGN(Address there, make_address(address.substr(0, colon), port));
  Fd fd(::socket(there.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return system_error("ucx: socket", errno);
  const int on = 1;
  ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  if (::connect(fd.get(), there.get(), there.length) != 0 && errno != EINPROGRESS) {
    return Status(StatusCode::kPeerLost, system_error(fmt::format("ucx: cannot connect to {}", address), errno).to_string());
  }
  return fd;
}

int connection_error(const Fd& fd) noexcept {
  int error = 0;
  socklen_t length = sizeof error;
  return ::getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &error, &length) == 0 ? error : errno;
}

}  // namespace longspan::ucx
