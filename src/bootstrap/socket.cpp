#include "bootstrap/socket.hpp"

#include <fmt/format.h>
#include <netdb.h>
#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <condition_variable>
#include <cstring>
#include <memory>
#include <mutex>
#include <random>
#include <thread>

namespace longspan::bootstrap {
namespace {

struct Lookup {
  std::mutex mutex;
  std::condition_variable done_changed;
  bool done = false;
  int error = 0;
  std::vector<SocketAddress> found;
};

int look_up(const std::string& host, std::uint16_t port, int flags, std::vector<SocketAddress>& found) {
  addrinfo hints = {};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags;
  addrinfo* list = nullptr;
  const int error = ::getaddrinfo(host.c_str(), nullptr, &hints, &list);
  if (error != 0) return error;
  for (const addrinfo* i = list; i != nullptr; i = i->ai_next) {
    SocketAddress& address = found.emplace_back();
    address.length = std::min<socklen_t>(i->ai_addrlen, sizeof address.storage);
    std::memcpy(&address.storage, i->ai_addr, address.length);
    address.set_port(port);
  }
  ::freeaddrinfo(list);
  return 0;
}

}  // namespace

Result<std::vector<SocketAddress>> resolve(const std::string& host, std::uint16_t port, TimePoint deadline) {
  std::vector<SocketAddress> found;
  if (look_up(host, port, AI_NUMERICHOST, found) == 0) return found;
  // getaddrinfo knows no deadline: it runs on a thread that is left behind when a name server does not answer.
  auto lookup = std::make_shared<Lookup>();  // second owner: that thread
  std::thread([lookup, host, port] {
    std::vector<SocketAddress> addresses;
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
  return Status(StatusCode::kInvalidArgument,
                fmt::format("found '{}', expected a port or a range of ports, e.g. 20000-20100", text));
}

Result<Fd> listen_on_port_of(PortRange ports) {
  Result<Fd> listener = listen_everywhere(ports);
  if (listener.ok() || ports.first == 0 || listener.status().code() != StatusCode::kResource) return listener;
  return Status(StatusCode::kResource,
                fmt::format("LONGSPAN_PORT_RANGE: all ports from {} to {} are taken on this host ({}); each rank "
                            "needs three, ask for more",
                            ports.first, ports.last, this_host_name()));
}

Result<Fd> connect_to(const SocketAddress& to, TimePoint deadline) {
  LONGSPAN_ASSIGN(Fd fd, dial(to));
  if (!wait_ready(fd.get(), POLLOUT, deadline)) {
    return Status(StatusCode::kTimeout, fmt::format("{}: no answer", to.to_string()));
  }
  if (const int error = connect_result(fd.get()); error != 0) {
    return Status(StatusCode::kPeerLost, fmt::format("{}: {}", to.to_string(), std::strerror(error)));
  }
  return fd;
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
