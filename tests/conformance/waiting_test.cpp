#include <algorithm>
#include <atomic>
#include <barrier>
#include <thread>

#include "cases.hpp"

using namespace longspan;
using namespace longspan::conformance;
using std::chrono::seconds;

TEST_CASE("who blocks on wait_fd after arm() is woken for every message", "[conformance]") {
  auto& transport = each_transport();
  CAPTURE(transport.name());
  constexpr std::uint32_t kRounds = kSanitized ? 200 : 2000;
  Peer a(transport, 1);
  Peer b(transport, 2);
  a.connect(2, b.address());
  b.connect(1, a.address());
  const auto play = [](Peer& self, spi::PeerId other, bool serves) {
    Bytes ball(64);
    for (std::uint32_t i = 0; i < kRounds; ++i) {
      if (serves) self.send(other, id(i, 0), ball);
      Op& op = self.recv(other, id(i, serves ? 1 : 0), ball);
      if (!drive({&self}, [&] { return op.done(); })) return false;
      if (!serves) self.send(other, id(i, 1), ball);
    }
    return drive({&self}, [&] { return self.open_operations() == 0; });
  };
  bool b_won = false;
  std::thread other([&] { b_won = play(b, 1, false); });
  const bool a_won = play(a, 2, true);
  other.join();
  CHECK(a_won);
  CHECK(b_won);
}

TEST_CASE("eight endpoints in eight threads exchange with each other", "[conformance]") {
  auto& transport = each_transport();
  CAPTURE(transport.name());
  constexpr spi::PeerId kPeers = 8;
  constexpr std::uint32_t kRounds = kSanitized ? 4 : 20;
  constexpr std::size_t kSize = 40'000;
  std::vector<std::unique_ptr<Peer>> peers;
  for (spi::PeerId i = 0; i < kPeers; ++i) {
    peers.push_back(std::make_unique<Peer>(transport, i, std::size_t{128} << 10));
  }
  std::vector<std::string> addresses;
  for (const auto& peer : peers) addresses.push_back(peer->address());
  std::atomic<int> right{0};
  std::atomic<int> unbroken{0};
  const auto run = [&](spi::PeerId me) {
    Peer& self = *peers[me];
    std::vector<Bytes> sent(kPeers);
    std::vector<Bytes> got(kPeers * kRounds, Bytes(kSize));
    for (spi::PeerId other = 0; other < kPeers; ++other) {
      if (other != me) self.connect(other, addresses[other]);
      sent[other] = pattern(kSize, me * 100 + other);
    }
    for (std::uint32_t round = 0; round < kRounds; ++round) {
      for (spi::PeerId other = 0; other < kPeers; ++other) {
        if (other == me) continue;
        self.send(other, id(round), sent[other]);
        self.recv(other, id(round), got[other * kRounds + round]);
      }
    }
    bool good = drive({&self}, [&] { return self.open_operations() == 0; });
    for (spi::PeerId other = 0; other < kPeers; ++other) {
      const Bytes expected = pattern(kSize, other * 100 + me);
      for (std::uint32_t round = 0; other != me && round < kRounds; ++round) {
        good = good && got[other * kRounds + round] == expected;
      }
    }
    if (good) ++right;
    self.endpoint().close(within(seconds(5)));
    self.step();
    if (self.broken.empty()) ++unbroken;
  };
  std::vector<std::thread> threads;
  for (spi::PeerId i = 1; i < kPeers; ++i) threads.emplace_back(run, i);
  run(0);
  for (auto& thread : threads) thread.join();
  CHECK(right == static_cast<int>(kPeers));
  CHECK(unbroken == static_cast<int>(kPeers));
}

TEST_CASE("an endpoint may send to itself", "[conformance]") {
  auto& transport = each_transport();
  CAPTURE(transport.name());
  Peer self(transport, 1);
  self.connect(1, self.address());
  const Bytes sent = pattern(300'000, 1);
  Bytes got(sent.size());
  self.recv(1, id(1), got);
  self.send(1, id(1), sent);
  REQUIRE(drive({&self}, [&] { return self.open_operations() == 0; }));
  CHECK(got == sent);
}

TEST_CASE("data that came before connect is delivered", "[conformance]") {
  auto& transport = each_transport();
  CAPTURE(transport.name());
  Peer a(transport, 1);
  Peer b(transport, 2);
  a.connect(2, b.address());
  const Bytes sent = pattern(10'000, 2);
  Bytes got(sent.size());
  a.send(2, id(1), sent);
  REQUIRE(drive({&a, &b}, [&] { return !b.arrivals.empty() && a.open_operations() == 0; }));
  b.connect(1, a.address());
  b.recv(1, id(1), got);
  REQUIRE(drive({&a, &b}, [&] { return b.open_operations() == 0; }));
  CHECK(got == sent);
}

TEST_CASE("figures of a channel count what went through it", "[conformance]") {
  auto& transport = each_transport();
  CAPTURE(transport.name());
  Pair pair(transport);
  const Bytes sent = pattern(500'000, 3);
  Bytes got(sent.size());
  pair.b.recv(1, id(1), got);
  pair.a.send(2, id(1), sent);
  REQUIRE(pair.settle());
  pair.a.channel(2).set_rate(0);
  CHECK(pair.a.channel(2).stats().bytes_sent == sent.size());
  CHECK(pair.a.channel(2).stats().messages_sent == 1);
  CHECK(pair.b.channel(1).stats().bytes_received == sent.size());
  CHECK(pair.b.channel(1).stats().messages_received == 1);
}

TEST_CASE("memory can be registered", "[conformance]") {
  auto& transport = each_transport();
  CAPTURE(transport.name());
  Peer self(transport, 1);
  Bytes memory(4096);
  auto region = self.endpoint().register_memory(memory);
  REQUIRE(region.ok());
  CHECK(*region != nullptr);
}
