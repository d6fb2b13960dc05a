#include "proxy.hpp"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <stdexcept>

#include "base/sockets.hpp"

namespace longspan::tcp::testing {
namespace {

constexpr std::size_t kBuffer = std::size_t{64} << 10;

void close_with_reset(Fd& fd) {
  const linger hard{1, 0};
  ::setsockopt(fd.get(), SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
  fd.reset();
}

}  // namespace

Proxy::Proxy(const std::string& upstream) : upstream_(upstream) {
  Result<Fd> listener = listen_at(make_address("127.0.0.1", 0).value());
  if (!listener.ok()) throw std::runtime_error("the test's proxy cannot listen");
  listener_ = std::move(*listener);
  address_ = local_address(listener_.get()).to_string();
}

Proxy::~Proxy() = default;

void Proxy::throttle(std::size_t connection, double bytes_per_second) {
  throttles_.emplace_back(connection, bytes_per_second);
}

void Proxy::resume() {
  for (const auto& link : links_) link->stalled = false;
}

void Proxy::vanish() {
  listener_.reset();
  for (const auto& link : links_) strike(*link, Fault::Kind::kReset);
}

std::size_t Proxy::bytes(std::size_t connection, bool forward) const {
  if (connection >= links_.size()) return 0;
  return (forward ? links_[connection]->forward : links_[connection]->backward).passed;
}

TimePoint Proxy::last_passed(std::size_t connection, bool forward) const {
  if (connection >= links_.size()) return {};
  return (forward ? links_[connection]->forward : links_[connection]->backward).last;
}

void Proxy::accept_all() {
  while (listener_.valid()) {
    Fd client(::accept4(listener_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (!client.valid()) return;
    auto link = std::make_unique<Link>();
    link->client = std::move(client);
    link->swallow = swallow_new_;
    if (!link->swallow) {
      const SocketAddress to = parse_address(upstream_).value();
      link->server.reset(::socket(to.family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
      if (::connect(link->server.get(), to.get(), to.length) != 0) {
        close_with_reset(link->client);
        link->server.reset();
      }
    }
    const int on = 1;
    for (const Fd* fd : {&link->client, &link->server}) {
      ::setsockopt(fd->get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    }
    link->since = Clock::now();
    for (const auto& [connection, rate] : throttles_) {
      if (connection == links_.size()) link->rate = rate;
    }
    links_.push_back(std::move(link));
  }
}

/// How many bytes may pass now: a fault strikes at its byte exactly.
std::size_t Proxy::room(const Link& link, const Direction& way, std::size_t index, bool forward) const {
  std::size_t room = kBuffer;
  for (const Fault& fault : faults_) {
    if (fault.connection == index && fault.forward == forward && fault.at >= way.passed) {
      room = std::min(room, fault.at - way.passed);
    }
  }
  if (link.rate > 0) {
    const double allowed = link.rate * std::chrono::duration<double>(Clock::now() - link.since).count() + 4096;
    room = std::min(room, static_cast<std::size_t>(std::max(0.0, allowed - static_cast<double>(way.passed))));
  }
  return room;
}

bool Proxy::strike(std::size_t index, bool forward) {
  Link& link = *links_[index];
  const std::size_t passed = (forward ? link.forward : link.backward).passed;
  const auto found = std::find_if(faults_.begin(), faults_.end(), [&](const Fault& fault) {
    return fault.connection == index && fault.forward == forward && fault.at == passed;
  });
  if (found == faults_.end()) return false;
  const Fault::Kind kind = found->kind;
  faults_.erase(found);
  ++done_;
  strike(link, kind);
  return true;
}

void Proxy::strike(Link& link, Fault::Kind kind) {
  switch (kind) {
    case Fault::Kind::kReset:
      close_with_reset(link.client);
      close_with_reset(link.server);
      return;
    case Fault::Kind::kEnd:
      // What is unread would turn the end into a reset.
      for (Fd* fd : {&link.client, &link.server}) {
        std::array<std::byte, 4096> rest;
        while (::recv(fd->get(), rest.data(), rest.size(), MSG_DONTWAIT) > 0) {
        }
        fd->reset();
      }
      return;
    case Fault::Kind::kSwallow: link.swallow = true; return;
    case Fault::Kind::kStall: link.stalled = true; return;
    case Fault::Kind::kHalfOpen:
      close_with_reset(link.server);
      link.swallow = true;
      return;
  }
}

bool Proxy::swallow(Link& link) {
  bool any = false;
  std::array<std::byte, 4096> bin;
  for (Fd* fd : {&link.client, &link.server}) {
    if (!fd->valid()) continue;
    const ssize_t got = ::recv(fd->get(), bin.data(), bin.size(), MSG_DONTWAIT);
    if (got == 0 || (got < 0 && errno != EAGAIN)) fd->reset();
    any |= got > 0;
  }
  return any;
}

bool Proxy::move(std::size_t index, bool forward) {
  Link& link = *links_[index];
  Direction& way = forward ? link.forward : link.backward;
  const Fd& from = forward ? link.client : link.server;
  const Fd& to = forward ? link.server : link.client;
  if (!from.valid() || !to.valid() || link.stalled || link.swallow) return false;
  if (strike(index, forward)) return true;
  bool any = false;
  if (way.buffer.empty() && !way.ended) {
    way.buffer.resize(kBuffer);
    const ssize_t got = ::recv(from.get(), way.buffer.data(), way.buffer.size(), MSG_DONTWAIT);
    way.buffer.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
    way.begin = 0;
    if (got < 0 && errno != EAGAIN) {
      strike(link, Fault::Kind::kReset);
      return true;
    }
    if (got == 0) {
      way.ended = true;
      ::shutdown(to.get(), SHUT_WR);
    }
    any = got >= 0;
  }
  const std::size_t part = std::min(way.buffer.size() - way.begin, room(link, way, index, forward));
  if (part == 0) return any;
  const ssize_t sent = ::send(to.get(), way.buffer.data() + way.begin, part, MSG_NOSIGNAL | MSG_DONTWAIT);
  if (sent <= 0) return any;
  way.begin += static_cast<std::size_t>(sent);
  way.passed += static_cast<std::size_t>(sent);
  way.last = Clock::now();
  if (way.begin == way.buffer.size()) way.buffer.clear();
  return true;
}

bool Proxy::step() {
  accept_all();
  bool any = false;
  for (std::size_t i = 0; i < links_.size(); ++i) {
    any |= move(i, true);
    any |= move(i, false);
    if (links_[i]->swallow) any |= swallow(*links_[i]);
  }
  return any;
}

void Proxy::add_waits(std::vector<pollfd>& waits) const {
  if (listener_.valid()) waits.push_back({listener_.get(), POLLIN, 0});
  for (const auto& link : links_) {
    if (link->stalled || link->rate > 0) continue;
    for (const Fd* fd : {&link->client, &link->server}) {
      if (fd->valid()) waits.push_back({fd->get(), POLLIN, 0});
    }
  }
}

}  // namespace longspan::tcp::testing
