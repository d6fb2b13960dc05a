#include "bootstrap/socket.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <condition_variable>
#include <cstddef>
#include <cstring>
#include <memory>
#include <mutex>
#include <random>
#include <thread>

namespace longspan::bootstrap {
namespace {

sockaddr_in& as_v4(Address& a) { return reinterpret_cast<sockaddr_in&>(a.storage); }
const sockaddr_in& as_v4(const Address& a) { return reinterpret_cast<const sockaddr_in&>(a.storage); }
sockaddr_in6& as_v6(Address& a) { return reinterpret_cast<sockaddr_in6&>(a.storage); }
const sockaddr_in6& as_v6(const Address& a) { return reinterpret_cast<const sockaddr_in6&>(a.storage); }

Address copy_of(const sockaddr* raw, socklen_t length) {
  Address a;
  a.length = std::min<socklen_t>(length, sizeof a.storage);
  std::memcpy(&a.storage, raw, a.length);
  return a;
}

// A dual-stack listener sees IPv4 peers as ::ffff:a.b.c.d, which is useless to hosts without IPv6.
Address unmapped(const Address& a) {
  if (a.family() != AF_INET6 || !IN6_IS_ADDR_V4MAPPED(&as_v6(a).sin6_addr)) return a;
  Address v4;
  v4.length = sizeof(sockaddr_in);
  as_v4(v4).sin_family = AF_INET;
  as_v4(v4).sin_port = as_v6(a).sin6_port;
  std::memcpy(&as_v4(v4).sin_addr, &as_v6(a).sin6_addr.s6_addr[12], 4);
  return v4;
}

struct Lookup {
  std::mutex mutex;
  std::condition_variable done_changed;
  bool done = false;
  int error = 0;
  std::vector<Address> found;
};

int look_up(const std::string& host, std::uint16_t port, int flags, std::vector<Address>& found) {
  addrinfo hints = {};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags;
  addrinfo* list = nullptr;
  const int error = ::getaddrinfo(host.c_str(), nullptr, &hints, &list);
  if (error != 0) return error;
  for (const addrinfo* i = list; i != nullptr; i = i->ai_next) {
    found.push_back(copy_of(i->ai_addr, i->ai_addrlen));
    found.back().set_port(port);
  }
  ::freeaddrinfo(list);
  return 0;
}

Result<Fd> bind_and_listen(Fd fd, const Address& at) {
  if (::bind(fd.get(), at.raw(), at.length) != 0 || ::listen(fd.get(), SOMAXCONN) != 0) {
    const int error = errno;
    const Status status = system_error(fmt::format("listening on {}", at.text()), error);
    if (error == EADDRINUSE) return Status(StatusCode::kResource, std::string(status.message()));
    return status;
  }
  return fd;
}

}  // namespace

std::uint16_t Address::port() const noexcept {
  if (family() == AF_INET) return ntohs(as_v4(*this).sin_port);
  if (family() == AF_INET6) return ntohs(as_v6(*this).sin6_port);
  return 0;
}

void Address::set_port(std::uint16_t port) noexcept {
  if (family() == AF_INET) as_v4(*this).sin_port = htons(port);
  if (family() == AF_INET6) as_v6(*this).sin6_port = htons(port);
}

bool Address::loopback() const noexcept {
  if (family() == AF_INET) return (ntohl(as_v4(*this).sin_addr.s_addr) >> 24) == 127;
  if (family() == AF_INET6) return IN6_IS_ADDR_LOOPBACK(&as_v6(*this).sin6_addr);
  return true;
}

std::string Address::ip() const {
  char name[INET6_ADDRSTRLEN + IF_NAMESIZE + 1] = {};
  if (family() != AF_INET && family() != AF_INET6) return {};
  if (::getnameinfo(raw(), length, name, sizeof name, nullptr, 0, NI_NUMERICHOST) != 0) return {};
  return name;
}

std::string Address::text() const {
  if (family() == AF_UNIX) {
    const auto& un = reinterpret_cast<const sockaddr_un&>(storage);
    const std::size_t bytes = length > offsetof(sockaddr_un, sun_path) ? length - offsetof(sockaddr_un, sun_path) : 0;
    return bytes > 1 ? fmt::format("unix:@{}", std::string_view(un.sun_path + 1, bytes - 1)) : "a unix socket";
  }
  return family() == AF_INET6 ? fmt::format("[{}]:{}", ip(), port()) : fmt::format("{}:{}", ip(), port());
}

Result<std::vector<Address>> resolve(const std::string& host, std::uint16_t port, TimePoint deadline) {
  std::vector<Address> found;
  if (look_up(host, port, AI_NUMERICHOST, found) == 0) return found;
  // getaddrinfo knows no deadline: it runs on a thread that is left behind when a name server does not answer.
  auto lookup = std::make_shared<Lookup>();  // second owner: that thread
  std::thread([lookup, host, port] {
    std::vector<Address> addresses;
    const int error = look_up(host, port, AI_ADDRCONFIG, addresses);
    const std::lock_guard lock(lookup->mutex);
    lookup->error = error;
    lookup->found = std::move(addresses);
    lookup->done = true;
    lookup->done_changed.notify_one();
  }).detach();
  std::unique_lock lock(lookup->mutex);
  if (!lookup->done_changed.wait_until(lock, deadline, [&] { return lookup->done; })) {
    return Status(StatusCode::kTimeout, fmt::format("no name server answered for '{}'", host));
  }
  if (lookup->error != 0) {
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("'{}' cannot be resolved: {}", host, ::gai_strerror(lookup->error)));
  }
  return std::move(lookup->found);
}

Result<Address> parse_ip(const std::string& ip, std::uint16_t port) {
  std::vector<Address> found;
  if (look_up(ip, port, AI_NUMERICHOST, found) != 0 || found.empty()) {
    return Status(StatusCode::kInvalidArgument, fmt::format("'{}' is not an IP address", ip));
  }
  return found.front();
}

Address unix_address(const std::string& name) {
  Address a;
  auto& un = reinterpret_cast<sockaddr_un&>(a.storage);
  un.sun_family = AF_UNIX;
  const std::size_t bytes = std::min(name.size(), sizeof un.sun_path - 1);
  std::memcpy(un.sun_path + 1, name.data(), bytes);
  a.length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + bytes);
  return a;
}

Result<Fd> listen_on_port(std::uint16_t port) {
  const int one = 1;
  const int zero = 0;
  Fd fd(::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  Address any;
  if (fd.valid() && ::setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof zero) == 0) {
    as_v6(any).sin6_family = AF_INET6;
    any.length = sizeof(sockaddr_in6);
    any.set_port(port);
    ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    auto listener = bind_and_listen(std::move(fd), any);
    if (listener.ok() || listener.status().code() == StatusCode::kResource) return listener;
  }
  fd = Fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return system_error("socket", errno);
  any = Address();
  as_v4(any).sin_family = AF_INET;
  any.length = sizeof(sockaddr_in);
  any.set_port(port);
  ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  return bind_and_listen(std::move(fd), any);
}

Result<PortRange> parse_port_range(std::string_view text) {
  const auto port = [](std::string_view digits, std::uint16_t& out) {
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), out);
    return error == std::errc() && end == digits.data() + digits.size() && out != 0;
  };
  const std::size_t dash = text.find('-');
  PortRange range;
  const bool one = dash == std::string_view::npos;
  if (port(text.substr(0, dash), range.first) && (one || port(text.substr(dash + 1), range.last))) {
    if (one) range.last = range.first;
    if (range.first <= range.last) return range;
  }
  return Status(StatusCode::kInvalidArgument, fmt::format("found '{}', expected a port or a range of ports, e.g. 20000-20100", text));
}

Result<Fd> listen_on_port_of(PortRange ports) {
  if (ports.first == 0) return listen_on_port(0);
  for (unsigned port = ports.first; port <= ports.last; ++port) {
    auto listener = listen_on_port(static_cast<std::uint16_t>(port));
    if (listener.ok() || listener.status().code() != StatusCode::kResource) return listener;
  }
  return Status(StatusCode::kResource, fmt::format("LONGSPAN_PORT_RANGE: all ports from {} to {} are taken on this host ({}); each rank "
                                                   "needs three, ask for more",
                                                   ports.first, ports.last, this_host_name()));
}

Result<Fd> listen_on(const Address& unix_socket) {
  Fd fd(::socket(unix_socket.family(), SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return system_error("socket", errno);
  return bind_and_listen(std::move(fd), unix_socket);
}

Result<Fd> start_connect(const Address& to) {
  Fd fd(::socket(to.family(), SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return system_error("socket", errno);
  const int one = 1;
  if (to.family() != AF_UNIX) ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  if (::connect(fd.get(), to.raw(), to.length) != 0 && errno != EINPROGRESS && errno != EINTR) {
    return Status(StatusCode::kPeerLost, fmt::format("{}: {}", to.text(), std::strerror(errno)));
  }
  return fd;
}

int connect_error(int fd) {
  int error = 0;
  socklen_t length = sizeof error;
  return ::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) == 0 ? error : errno;
}

Result<Fd> connect_to(const Address& to, TimePoint deadline) {
  LONGSPAN_ASSIGN(Fd fd, start_connect(to));
  if (!wait_ready(fd.get(), POLLOUT, deadline)) {
    return Status(StatusCode::kTimeout, fmt::format("{}: no answer", to.text()));
  }
  if (const int error = connect_error(fd.get()); error != 0) {
    return Status(StatusCode::kPeerLost, fmt::format("{}: {}", to.text(), std::strerror(error)));
  }
  // A connect to a free port of this machine's ephemeral range can meet itself (simultaneous open).
  const Address local = local_address(fd.get());
  if (to.family() != AF_UNIX && local.port() == to.port() && local.ip() == to.ip()) {
    return Status(StatusCode::kPeerLost, fmt::format("{}: {}", to.text(), std::strerror(ECONNREFUSED)));
  }
  return fd;
}

Fd accept_from(int listener) {
  Fd fd(::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  const int one = 1;
  if (fd.valid()) ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  return fd;
}

Address local_address(int fd) {
  Address a;
  a.length = sizeof a.storage;
  if (::getsockname(fd, a.raw(), &a.length) != 0) return Address();
  return unmapped(a);
}

Address peer_address(int fd) {
  Address a;
  a.length = sizeof a.storage;
  if (::getpeername(fd, a.raw(), &a.length) != 0) return Address();
  return unmapped(a);
}

std::vector<Address> interface_addresses() {
  std::array<std::vector<Address>, 4> found;  // likeliest to be reachable first
  ifaddrs* list = nullptr;
  if (::getifaddrs(&list) != 0) return {};
  for (const ifaddrs* i = list; i != nullptr; i = i->ifa_next) {
    if (i->ifa_addr == nullptr || (i->ifa_flags & IFF_UP) == 0) continue;
    const int family = i->ifa_addr->sa_family;
    if (family != AF_INET && family != AF_INET6) continue;
    const Address a = copy_of(i->ifa_addr, family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6));
    // A link-local address means something only together with the reader's own interface.
    if (family == AF_INET6 && IN6_IS_ADDR_LINKLOCAL(&as_v6(a).sin6_addr)) continue;
    found[(a.loopback() ? 2U : 0U) + (family == AF_INET6 ? 1U : 0U)].push_back(a);
  }
  ::freeifaddrs(list);
  std::vector<Address> all;
  for (const auto& group : found) all.insert(all.end(), group.begin(), group.end());
  return all;
}

std::string this_host_name() {
  char name[256] = {};
  if (::gethostname(name, sizeof name - 1) != 0) return "unknown";
  return name;
}

std::uint64_t random_number() {
  std::random_device device;
  return (std::uint64_t{device()} << 32) ^ device();
}

bool wait_ready(int fd, short events, TimePoint deadline) {
  while (true) {
    pollfd p = {fd, events, 0};
    const int ready = ::poll(&p, 1, poll_timeout_ms(Clock::now(), deadline));
    if (ready > 0) return true;
    if (ready < 0 && errno != EINTR) return true;  // let the call that follows say what is wrong
    if (Clock::now() >= deadline) return false;
  }
}

Status send_all(int fd, std::string_view bytes, TimePoint deadline) {
  while (!bytes.empty()) {
    const ssize_t put = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (put >= 0) {
      bytes.remove_prefix(static_cast<std::size_t>(put));
      continue;
    }
    if (errno == EINTR) continue;
    if (errno != EAGAIN && errno != EWOULDBLOCK) {
      return Status(StatusCode::kPeerLost, fmt::format("sending: {}", std::strerror(errno)));
    }
    if (!wait_ready(fd, POLLOUT, deadline)) return Status(StatusCode::kTimeout, "sending: the deadline passed");
  }
  return {};
}

Status send_all(Stream& stream, std::string_view bytes, TimePoint deadline) {
  while (!bytes.empty()) {
    const ssize_t put = stream.send(bytes.data(), bytes.size());
    if (put >= 0) {
      bytes.remove_prefix(static_cast<std::size_t>(put));
      continue;
    }
    if (errno == EINTR) continue;
    if (stream.failure() != security::Failure::kNone) {
      return Status(StatusCode::kPeerLost, std::string(security::describe(stream.failure())));
    }
    if (errno != EAGAIN && errno != EWOULDBLOCK) {
      return Status(StatusCode::kPeerLost, fmt::format("sending: {}", std::strerror(errno)));
    }
    if (!wait_ready(stream.fd(), stream.wait_to_send(), deadline)) {
      return Status(StatusCode::kTimeout, "sending: the deadline passed");
    }
  }
  return {};
}

Result<std::string> receive_exactly(int fd, std::size_t bytes, TimePoint deadline) {
  std::string out(bytes, '\0');
  std::size_t have = 0;
  while (have < bytes) {
    const ssize_t got = ::recv(fd, out.data() + have, bytes - have, MSG_DONTWAIT);
    if (got > 0) {
      have += static_cast<std::size_t>(got);
      continue;
    }
    if (got == 0) return Status(StatusCode::kPeerLost, "the other side closed the connection");
    if (errno == EINTR) continue;
    if (errno != EAGAIN && errno != EWOULDBLOCK) {
      return Status(StatusCode::kPeerLost, fmt::format("receiving: {}", std::strerror(errno)));
    }
    if (!wait_ready(fd, POLLIN, deadline)) return Status(StatusCode::kTimeout, "receiving: the deadline passed");
  }
  return out;
}

}  // namespace longspan::bootstrap
