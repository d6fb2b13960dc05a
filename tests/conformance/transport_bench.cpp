// Throughput and latency of one transport between two processes of this host, beside raw loopback sockets.
//   transport_bench [transport] [lanes] [bytes of a message] [messages] [small messages]   (with bytes: without the
//   sockets) a last argument "spin": large messages, too, are waited for without sleeping, as ucx_perftest does
#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <string_view>

#include "harness.hpp"
#include "longspan/spi/registry.hpp"

using namespace longspan;
using namespace longspan::conformance;
using std::chrono::seconds;

namespace {

constexpr std::size_t kLarge = std::size_t{64} << 20;
constexpr std::uint32_t kLargeRounds = 32;
constexpr std::size_t kSmall = 1024;
constexpr std::uint32_t kSmallRounds = 20'000;

double seconds_since(TimePoint start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

/// Polls without ever blocking: what an executor does that expects its data soon.
template <class Done>
bool spin_until(Peer& peer, Done done) {
  const TimePoint deadline = within(seconds(60));
  for (std::uint32_t i = 0; !done(); ++i) {
    peer.step();
    if (i % 4096 == 0 && Clock::now() > deadline) return false;
  }
  return true;
}

bool spin(Peer& peer, const Op& op) {
  return spin_until(peer, [&] { return op.done(); }) && op.ok();
}

bool wait_for_large(Peer& peer, bool spins, const std::function<bool()>& done) {
  return spins ? spin_until(peer, done) : drive({&peer}, done, within(seconds(60)));
}

void ping_pong(Peer& self, spi::PeerId other, bool serves, std::span<std::byte> ball, std::uint32_t rounds) {
  for (std::uint32_t i = 0; i < rounds; ++i) {
    if (serves) self.send(other, id(i, 0, 0, 2), ball);
    Op& op = self.recv(other, id(i, serves ? 1 : 0, 0, 2), ball);
    if (!spin(self, op)) std::abort();
    if (!serves) self.send(other, id(i, 1, 0, 2), ball);
  }
  drive({&self}, [&] { return self.open_operations() == 0; });
}

void bench_transport(spi::Transport& transport, int lanes, std::size_t bytes, std::uint32_t rounds,
                     std::uint32_t small_rounds, bool spins) {
  Bytes data(bytes, std::byte{1});
  Bytes ball(kSmall);
  Child child([&](Line& line) {
    Peer self(transport, 2, std::size_t{4} << 20);
    line.tell(self.address());
    self.connect(1, line.hear(), in_time(), lanes);
    for (std::uint32_t i = 0; i < rounds; ++i) self.recv(1, id(i), data);
    wait_for_large(self, spins, [&] { return self.open_operations() == 0; });
    if (!spin(self, self.send(1, id(0, 7), {}))) std::abort();
    ping_pong(self, 1, false, ball, small_rounds);
    line.hear();
  });
  Peer self(transport, 1, std::size_t{4} << 20);
  self.connect(2, child.line().hear(), in_time(), lanes);
  child.line().tell(self.address());
  Op& done = self.recv(2, id(0, 7), {});
  const TimePoint start = Clock::now();
  for (std::uint32_t i = 0; i < rounds; ++i) self.send(2, id(i), data);
  wait_for_large(self, spins, [&] { return done.done(); });
  const double large = seconds_since(start);
  const TimePoint small_start = Clock::now();
  ping_pong(self, 2, true, ball, small_rounds);
  const double small = seconds_since(small_start);
  fmt::print("{:8} lanes {}: {} KiB messages {:8.4f} GB/s; 1 KiB one way {:6.2f} us\n", transport.name(), lanes,
             bytes >> 10, static_cast<double>(bytes) * rounds / large / 1e9, small / small_rounds / 2 * 1e6);
  child.line().tell("done");
}

bool move_all(int fd, std::byte* at, std::size_t bytes, bool out, int flags) {
  while (bytes > 0) {
    const ssize_t moved = out ? ::send(fd, at, bytes, MSG_NOSIGNAL) : ::recv(fd, at, bytes, flags);
    if (moved < 0 && errno == EAGAIN) continue;
    if (moved <= 0) return false;
    at += moved;
    bytes -= static_cast<std::size_t>(moved);
  }
  return true;
}

Fd dial(std::uint16_t port) {
  Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = port;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const int on = 1;
  ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  if (::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) std::abort();
  return fd;
}

/// The same with nothing between the program and the socket.
void bench_raw() {
  Fd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  if (::bind(listener.get(), reinterpret_cast<sockaddr*>(&address), length) != 0 || ::listen(listener.get(), 1) != 0 ||
      ::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &length) != 0) {
    std::abort();
  }
  Bytes data(kLarge, std::byte{1});
  std::array<std::byte, kSmall> ball{};
  constexpr std::size_t kPiece = std::size_t{128} << 10;
  Child child([&](Line&) {
    Fd fd = dial(address.sin_port);
    for (std::size_t i = 0; i < kLarge / kPiece * kLargeRounds; ++i) {
      if (!move_all(fd.get(), data.data() + i * kPiece % kLarge, kPiece, false, MSG_WAITALL)) std::abort();
    }
    move_all(fd.get(), ball.data(), 1, true, 0);
    for (int spins = 0; spins < 2; ++spins) {
      for (std::uint32_t i = 0; i < kSmallRounds; ++i) {
        move_all(fd.get(), ball.data(), kSmall, false, spins != 0 ? MSG_DONTWAIT : 0);
        move_all(fd.get(), ball.data(), kSmall, true, 0);
      }
    }
  });
  Fd fd(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  const int on = 1;
  ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  const TimePoint start = Clock::now();
  for (std::size_t i = 0; i < kLarge / kPiece * kLargeRounds; ++i) {
    if (!move_all(fd.get(), data.data() + i * kPiece % kLarge, kPiece, true, 0)) std::abort();
  }
  move_all(fd.get(), ball.data(), 1, false, 0);
  const double large = seconds_since(start);
  std::array<double, 2> small{};
  for (int spins = 0; spins < 2; ++spins) {
    const TimePoint small_start = Clock::now();
    for (std::uint32_t i = 0; i < kSmallRounds; ++i) {
      move_all(fd.get(), ball.data(), kSmall, true, 0);
      move_all(fd.get(), ball.data(), kSmall, false, spins != 0 ? MSG_DONTWAIT : 0);
    }
    small[static_cast<std::size_t>(spins)] = seconds_since(small_start) / kSmallRounds / 2 * 1e6;
  }
  fmt::print("sockets        : 64 MiB messages {:6.2f} GB/s; 1 KiB one way {:6.2f} us blocking, {:6.2f} us spinning\n",
             static_cast<double>(kLarge) * kLargeRounds / large / 1e9, small[0], small[1]);
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view wanted = argc > 1 ? argv[1] : "tcp";
  const int lanes = argc > 2 ? std::atoi(argv[2]) : 1;
  const std::size_t bytes = argc > 3 ? static_cast<std::size_t>(std::atoll(argv[3])) : kLarge;
  const auto rounds = argc > 4 ? static_cast<std::uint32_t>(std::atoi(argv[4])) : kLargeRounds;
  const auto small_rounds = argc > 5 ? static_cast<std::uint32_t>(std::atoi(argv[5])) : kSmallRounds;
  if (argc <= 3) bench_raw();
  const bool spins = argc > 6 && std::string_view(argv[6]) == "spin";
  for (spi::Transport* transport : spi::all_transports()) {
    if (transport->name() == wanted) bench_transport(*transport, lanes, bytes, rounds, small_rounds, spins);
  }
  return 0;
}
