#include "verbs/sockets.hpp"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <memory>

namespace longspan::verbs {
namespace {

void set(int fd, int level, int option, int value) noexcept { ::setsockopt(fd, level, option, &value, sizeof value); }

Result<SocketAddress> make_address(std::string_view ip, std::uint16_t port) {
  SocketAddress address;
  const std::string text(ip);
  auto* v4 = reinterpret_cast<sockaddr_in*>(&address.storage);
  auto* v6 = reinterpret_cast<sockaddr_in6*>(&address.storage);
  if (::inet_pton(AF_INET, text.c_str(), &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = htons(port);
    address.length = sizeof *v4;
    return address;
  }
  if (::inet_pton(AF_INET6, text.c_str(), &v6->sin6_addr) == 1) {
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(port);
    address.length = sizeof *v6;
    return address;
  }
  return Status(StatusCode::kInvalidArgument, fmt::format("verbs: '{}' is no IPv4 or IPv6 address", text));
}

/// The first address of this host that is no loopback.
std::string reachable_ip() {
  ifaddrs* list = nullptr;
  if (::getifaddrs(&list) != 0) return "127.0.0.1";
  const std::unique_ptr<ifaddrs, void (*)(ifaddrs*)> owner(list, &::freeifaddrs);
  for (const ifaddrs* entry = list; entry != nullptr; entry = entry->ifa_next) {
    if (entry->ifa_addr == nullptr || entry->ifa_addr->sa_family != AF_INET) continue;
    if ((entry->ifa_flags & IFF_UP) == 0 || (entry->ifa_flags & IFF_LOOPBACK) != 0) continue;
    char text[INET_ADDRSTRLEN] = "";
    ::inet_ntop(AF_INET, &reinterpret_cast<const sockaddr_in*>(entry->ifa_addr)->sin_addr, text, sizeof text);
    return text;
  }
  return "127.0.0.1";
}

}  // namespace

Result<SocketAddress> parse_address(std::string_view text) {
  const std::size_t colon = text.rfind(':');
  std::uint16_t port = 0;
  if (colon != std::string_view::npos) {
    const std::string_view digits = text.substr(colon + 1);
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
    std::string_view ip = text.substr(0, colon);
    if (ip.size() >= 2 && ip.front() == '[' && ip.back() == ']') ip = ip.substr(1, ip.size() - 2);
    if (error == std::errc() && end == digits.data() + digits.size() && port != 0) return make_address(ip, port);
  }
  return Status(StatusCode::kInvalidArgument, fmt::format("'{}' is no address of the verbs transport (ip:port)", text));
}

Result<Listener> listen_for_peers(const spi::EndpointOptions& options) {
  const std::string bound = options.bind_address.empty() ? "0.0.0.0" : options.bind_address;
  LONGSPAN_ASSIGN(SocketAddress wanted, make_address(bound, 0));
  Listener listener;
  int error = EADDRINUSE;
  for (unsigned port = options.first_port; port <= std::max(options.first_port, options.last_port) && error == EADDRINUSE; ++port) {
    listener.fd.reset(::socket(wanted.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    set(listener.fd.get(), SOL_SOCKET, SO_REUSEADDR, 1);
    LONGSPAN_ASSIGN(wanted, make_address(bound, static_cast<std::uint16_t>(port)));
    error = ::bind(listener.fd.get(), wanted.get(), wanted.length) == 0 && ::listen(listener.fd.get(), SOMAXCONN) == 0 ? 0 : errno;
  }
  if (error != 0) return system_error(fmt::format("verbs: cannot listen on {} (ports {} to {})", bound, options.first_port, options.last_port), error);
  if (::getsockname(listener.fd.get(), wanted.get(), &wanted.length) != 0) return system_error("verbs: getsockname", errno);
  const bool v6 = wanted.storage.ss_family == AF_INET6;
  const std::uint16_t port = ntohs(v6 ? reinterpret_cast<const sockaddr_in6*>(wanted.get())->sin6_port : reinterpret_cast<const sockaddr_in*>(wanted.get())->sin_port);
  const std::string ip = !options.advertise_address.empty() ? options.advertise_address : options.bind_address.empty() ? reachable_ip() : bound;
  listener.address = fmt::format(fmt::runtime(ip.find(':') != std::string::npos ? "[{}]:{}" : "{}:{}"), ip, port);
  return listener;
}

Fd begin_connect(const SocketAddress& address) noexcept {
  Fd fd(::socket(address.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return fd;
  set(fd.get(), IPPROTO_TCP, TCP_NODELAY, 1);
  if (::connect(fd.get(), address.get(), address.length) != 0 && errno != EINPROGRESS) {
    const int error = errno;
    fd.reset();
    errno = error;
  }
  return fd;
}

int connect_result(int fd) noexcept {
  pollfd ready{fd, POLLOUT, 0};
  if (::poll(&ready, 1, 0) <= 0) return EINPROGRESS;
  int error = 0;
  socklen_t length = sizeof error;
  return ::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) == 0 ? error : errno;
}

void watch_peer(int fd) noexcept {
  set(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
  set(fd, IPPROTO_TCP, TCP_KEEPIDLE, 3);
  set(fd, IPPROTO_TCP, TCP_KEEPINTVL, 2);
  set(fd, IPPROTO_TCP, TCP_KEEPCNT, 4);
}

}  // namespace longspan::verbs
