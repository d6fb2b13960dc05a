// A rate of IP packets becomes a rate of payload, which is what the kernel paces.
#include <poll.h>
#include <sys/socket.h>

#include <cstdint>
#include <cstdio>
#include <string>

#include "base/fd.hpp"
#include "base/sockets.hpp"
#include "support/catch.hpp"
#include "tcp/socket_options.hpp"

using namespace longspan;
using namespace longspan::tcp;

namespace {

constexpr double kRate = 100e6;

std::uint64_t pace_of(int fd) {
  std::uint64_t rate = 0;
  socklen_t length = sizeof rate;
  REQUIRE(::getsockopt(fd, SOL_SOCKET, SO_MAX_PACING_RATE, &rate, &length) == 0);
  return rate;
}

int family_of(int fd) {
  sockaddr_storage local{};
  socklen_t length = sizeof local;
  REQUIRE(::getsockname(fd, reinterpret_cast<sockaddr*>(&local), &length) == 0);
  return local.ss_family;
}

/// Both ends of a connection to `ip`, where a listener for all addresses accepts it.
struct Pair {
  explicit Pair(const std::string& ip) {
    const auto listener = listen_for_peers({});
    REQUIRE(listener.ok());
    auto dialing = dial(make_address(ip, listener->address.port()).value());
    if (!dialing.ok()) return;
    dialed = std::move(*dialing);
    pollfd wait{listener->fd.get(), POLLIN, 0};
    if (::poll(&wait, 1, 5000) == 1) accepted = accept_next(listener->fd.get());
  }
  Fd dialed;
  Fd accepted;
};

std::uint64_t payload_rate(int fd, double headers) {
  const double mss = lane_info(fd).mss;
  return static_cast<std::uint64_t>(kRate * mss / (mss + headers));
}

}  // namespace

TEST_CASE("A pace counts the headers of the protocol that carries it, also on a socket for both families",
          "[tcp][pacing]") {
  const Pair v4("127.0.0.1");
  REQUIRE(v4.accepted.valid());
  for (const Fd* end : {&v4.dialed, &v4.accepted}) {
    set_pacing(end->get(), kRate);
    CHECK(pace_of(end->get()) == payload_rate(end->get(), 20 + 20 + 12));
  }
  const Pair v6("::1");
  if (!v6.accepted.valid()) {
    std::puts("SKIP: tcp: this host has no IPv6");
    return;
  }
  CHECK(family_of(v4.accepted.get()) == AF_INET6);  // or the case above was none
  for (const Fd* end : {&v6.dialed, &v6.accepted}) {
    set_pacing(end->get(), kRate);
    CHECK(pace_of(end->get()) == payload_rate(end->get(), 40 + 20 + 12));
  }
}

TEST_CASE("No rate is no pace", "[tcp][pacing]") {
  const Pair ends("127.0.0.1");
  REQUIRE(ends.accepted.valid());
  set_pacing(ends.dialed.get(), kRate);
  set_pacing(ends.dialed.get(), 0);
  CHECK(pace_of(ends.dialed.get()) == ~std::uint64_t{0});
}
