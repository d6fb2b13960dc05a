#include <unistd.h>

#include <algorithm>

#include "cases.hpp"

using namespace longspan;
using namespace longspan::conformance;
using std::chrono::milliseconds;
using std::chrono::seconds;

TEST_CASE("a peer that closes is a goodbye, after everything it sent", "[conformance]") {
  auto& transport = each_transport();
  CAPTURE(transport.name());
  const int lanes = GENERATE(1, 3);
  Pair pair(transport, std::size_t{4} << 20, lanes);
  const Bytes data = pattern(100'000, 1);
  Bytes got(data.size());
  Bytes late(data.size());
  Bytes never(10);
  pair.b.recv(1, id(1), got);
  pair.a.send(2, id(1), data);
  pair.a.send(2, id(2), data);
  REQUIRE(pair.drive([&] { return !pair.b.arrivals.empty(); }));
  Op& unanswered = pair.b.recv(1, id(3), never);
  pair.a.endpoint().close(within(seconds(5)));
  pair.a.destroy();
  REQUIRE(drive({&pair.b}, [&] { return !pair.b.closed.empty(); }));
  CHECK(pair.b.broken.empty());
  CHECK(pair.b.closed.front().peer == 1);
  CHECK(got == data);
  REQUIRE(drive({&pair.b}, [&] { return unanswered.done(); }));
  CHECK(unanswered.code() == StatusCode::kPeerLost);
  Op& picked_up = pair.b.recv(1, id(2), late);
  REQUIRE(drive({&pair.b}, [&] { return picked_up.done(); }));
  CAPTURE(picked_up.last.status.to_string());
  CHECK(picked_up.ok());
  CHECK(late == data);
}

TEST_CASE("operations after the goodbye fail instead of hanging", "[conformance]") {
  auto& transport = each_transport();
  CAPTURE(transport.name());
  Pair pair(transport);
  const Bytes data = pattern(100, 2);
  Bytes got(100);
  pair.b.recv(1, id(1), got);
  pair.a.send(2, id(1), data);
  REQUIRE(pair.settle());
  pair.a.endpoint().close(within(seconds(5)));
  REQUIRE(drive({&pair.b}, [&] { return !pair.b.closed.empty(); }));
  Op& send = pair.b.send(1, id(2), data);
  Op& receive = pair.b.recv(1, id(2), got);
  CHECK_FALSE(send.done());
  CHECK_FALSE(receive.done());
  REQUIRE(drive({&pair.b}, [&] { return send.done() && receive.done(); }));
  CHECK(send.code() == StatusCode::kPeerLost);
  CHECK(receive.code() == StatusCode::kPeerLost);
}

TEST_CASE("closing under load flushes what can be sent and returns in time", "[conformance]") {
  auto& transport = each_transport();
  CAPTURE(transport.name());
  Pair pair(transport, std::size_t{64} << 10, 2);
  const Bytes data = pattern(std::size_t{1} << 20, 3);
  Bytes got(data.size());
  for (std::uint32_t i = 0; i < 20; ++i) {
    pair.a.send(2, id(i), data);
    pair.b.send(1, id(i), data);
  }
  pair.b.recv(1, id(0), got);
  for (int i = 0; i < 10; ++i) {
    pair.a.step();
    pair.b.step();
  }
  const TimePoint before = Clock::now();
  pair.a.endpoint().close(within(milliseconds(200)));
  CHECK(Clock::now() - before < seconds(15));  // 200 ms were given; what is sent could never all be flushed
  REQUIRE(drive({&pair.a}, [&] { return pair.a.open_operations() == 0; }));
  // b is told, one way or the other, and nothing of it hangs either.
  REQUIRE(drive({&pair.b},
                [&] { return pair.b.open_operations() == 0 && pair.b.closed.size() + pair.b.broken.size() > 0; }));
  CHECK(pair.b.closed.size() + pair.b.broken.size() == 1);
  CHECK(pair.a.exactly_once());
  CHECK(pair.b.exactly_once());
}

TEST_CASE("closing both sides at once is quiet", "[conformance]") {
  auto& transport = each_transport();
  CAPTURE(transport.name());
  Pair pair(transport);
  const Bytes data = pattern(1000, 4);
  Bytes got(1000);
  pair.b.recv(1, id(1), got);
  pair.a.send(2, id(1), data);
  REQUIRE(pair.settle());
  pair.a.endpoint().close(within(seconds(2)));
  pair.b.endpoint().close(within(seconds(2)));
  pair.a.step();
  pair.b.step();
  CHECK(pair.a.broken.empty());
  CHECK(pair.b.broken.empty());
}

TEST_CASE("an endpoint that vanishes without a goodbye breaks the channel", "[conformance]") {
  auto& transport = each_transport();
  CAPTURE(transport.name());
  Pair pair(transport);
  const Bytes data = pattern(1000, 5);
  Bytes got(1000);
  pair.b.recv(1, id(1), got);
  pair.a.send(2, id(1), data);
  REQUIRE(pair.settle());
  Op& waiting = pair.b.recv(1, id(2), got);
  pair.a.destroy();
  REQUIRE(drive({&pair.b}, [&] { return waiting.done() && !pair.b.broken.empty(); }, within(seconds(5))));
  CHECK(waiting.code() == StatusCode::kPeerLost);
  CHECK(pair.b.broken.front().status.code() == StatusCode::kPeerLost);
  CHECK(pair.b.broken.front().peer == 1);
  CHECK(std::string(pair.b.broken.front().status.message()).find("peer 1 of the test") != std::string::npos);
}

TEST_CASE("a peer that nobody can reach is lost at the deadline, and named", "[conformance]") {
  auto& transport = each_transport();
  CAPTURE(transport.name());
  Peer a(transport, 1);
  std::string address;
  {
    Peer gone(transport, 2);
    address = gone.address();
  }
  a.connect(2, address, within(milliseconds(300)));
  const Bytes data = pattern(10, 6);
  Bytes got(10);
  Op& send = a.send(2, id(1), data);
  Op& receive = a.recv(2, id(1), got);
  REQUIRE(drive({&a}, [&] { return send.done() && receive.done() && !a.broken.empty(); }, within(seconds(5))));
  CHECK(send.code() == StatusCode::kPeerLost);
  CHECK(receive.code() == StatusCode::kPeerLost);
  CHECK(a.broken.front().status.code() == StatusCode::kPeerLost);
  CHECK(std::string(a.broken.front().status.message()).find("peer 2 of the test") != std::string::npos);
}

TEST_CASE("a peer that starts late is met", "[conformance]") {
  auto& transport = each_transport();
  CAPTURE(transport.name());
  Pair pair(transport);  // connected before either side was polled even once
  const Bytes data = pattern(5000, 7);
  Bytes got(5000);
  Op& send = pair.a.send(2, id(1), data);
  drive({&pair.a}, [] { return false; }, within(milliseconds(50)));  // only a runs, for a while
  pair.b.recv(1, id(1), got);
  REQUIRE(pair.settle());
  CHECK(send.ok());
  CHECK(got == data);
}

namespace {

/// Sends `count` messages of `size` bytes, and keeps running until it is killed or its line ends.
void sender_process(spi::Transport& transport, Line& line, std::uint32_t count, std::size_t size) {
  Peer self(transport, 2, std::size_t{256} << 10);
  line.tell(self.address());
  self.connect(1, line.hear(), in_time(), 2);
  const Bytes data = pattern(size, 8);
  for (std::uint32_t i = 0; i < count; ++i) self.send(1, id(i), data);
  drive({&self}, [] { return false; }, within(seconds(30)));
}

}  // namespace

TEST_CASE("a killed process is a lost peer, soon, for everything that waits for it", "[conformance]") {
  auto& transport = each_transport();
  CAPTURE(transport.name());
  if (transport.capabilities().one_process) return skip(transport, "it joins only endpoints of one process");
  constexpr std::size_t kSize = 1 << 20;
  constexpr std::uint32_t kCount = 64;
  Child child([&](Line& line) { sender_process(transport, line, kCount, kSize); });
  Peer self(transport, 1, std::size_t{256} << 10);
  const std::string address = child.line().hear();
  REQUIRE_FALSE(address.empty());
  self.connect(2, address, in_time(), 2);
  child.line().tell(self.address());
  std::vector<Bytes> got(kCount, Bytes(kSize));
  std::vector<Op*> receives;
  for (std::uint32_t i = 0; i < 20; ++i) receives.push_back(&self.recv(2, id(i), got[i]));
  REQUIRE(drive({&self}, [&] { return receives[3]->done(); }));
  receives.push_back(&self.recv(2, id(1000), got[50]));
  const Bytes data = pattern(std::size_t{4} << 20, 9);
  Op& send = self.send(2, id(1), data);  // larger than the credit, never received: in flight for good
  child.kill();
  REQUIRE(drive({&self}, [&] { return self.open_operations() == 0 && !self.broken.empty(); }, within(seconds(5))));
  CHECK(self.broken.size() == 1);
  CHECK(self.broken.front().status.code() == StatusCode::kPeerLost);
  CHECK(receives[3]->ok());
  CHECK(receives.back()->code() == StatusCode::kPeerLost);
  CHECK(send.code() == StatusCode::kPeerLost);
  CHECK(self.exactly_once());
}

TEST_CASE("a process that exits without closing is a lost peer", "[conformance]") {
  auto& transport = each_transport();
  CAPTURE(transport.name());
  if (transport.capabilities().one_process) return skip(transport, "it joins only endpoints of one process");
  Child child([&](Line& line) {
    Peer self(transport, 2);
    line.tell(self.address());
    self.connect(1, line.hear());
    const Bytes data = pattern(100, 1);
    Op& op = self.send(1, id(1), data);
    drive({&self}, [&] { return op.done(); });
    line.hear();  // the other side has it
    // Returning leaves by _exit: no destructor runs, as in a crash.
    ::_exit(0);
  });
  Peer self(transport, 1);
  self.connect(2, child.line().hear());
  child.line().tell(self.address());
  Bytes got(100);
  Op& received = self.recv(2, id(1), got);
  REQUIRE(drive({&self}, [&] { return received.done(); }));
  CHECK(received.ok());
  child.line().tell("you may go");
  REQUIRE(drive({&self}, [&] { return !self.broken.empty(); }, within(seconds(5))));
  CHECK(self.broken.front().status.code() == StatusCode::kPeerLost);
}

TEST_CASE("two processes exchange data and part in peace", "[conformance]") {
  auto& transport = each_transport();
  CAPTURE(transport.name());
  if (transport.capabilities().one_process) return skip(transport, "it joins only endpoints of one process");
  constexpr std::uint32_t kCount = 50;
  constexpr std::size_t kSize = 100'000;
  const auto exchange = [](Peer& self, spi::PeerId other) {
    const Bytes mine = pattern(kSize, self.self());
    const Bytes theirs = pattern(kSize, other);
    std::vector<Bytes> got(kCount, Bytes(kSize));
    for (std::uint32_t i = 0; i < kCount; ++i) self.send(other, id(i), mine);
    for (std::uint32_t i = 0; i < kCount; ++i) self.recv(other, id(i), got[i]);
    return drive({&self}, [&] { return self.open_operations() == 0; }) &&
           std::all_of(got.begin(), got.end(), [&](const Bytes& one) { return one == theirs; });
  };
  Child child([&](Line& line) {
    Peer self(transport, 2);
    line.tell(self.address());
    self.connect(1, line.hear());
    const bool right = exchange(self, 1);
    self.endpoint().close(within(seconds(5)));
    line.tell(right ? "right" : "wrong");
    line.hear();
  });
  Peer self(transport, 1);
  self.connect(2, child.line().hear());
  child.line().tell(self.address());
  CHECK(exchange(self, 2));
  REQUIRE(drive({&self}, [&] { return !self.closed.empty() || !self.broken.empty(); }));
  CHECK(self.broken.empty());
  self.endpoint().close(within(seconds(5)));
  CHECK(child.line().hear() == "right");
}

TEST_CASE("two processes read each other's shared memory until each has released it", "[conformance]") {
  auto& transport = each_transport();
  CAPTURE(transport.name());
  if (transport.capabilities().one_process) return skip(transport, "it joins only endpoints of one process");
  constexpr std::uint32_t kRounds = 20;
  constexpr std::size_t kSize = 1'000'003;
  // Each round rewrites what was sent as soon as its send has completed, and reads by view where it is given one.
  const auto exchange = [](Peer& self, spi::PeerId other) {
    const SharedBytes mine(self, Bytes(kSize));
    Bytes got(kSize);
    for (std::uint32_t round = 0; round < kRounds; ++round) {
      const Bytes right = pattern(kSize, 100 * self.self() + round);
      std::copy(right.begin(), right.end(), mine.bytes().begin());
      Op& receive = self.recv(other, id(round), got, 1, false, round % 3 != 0);
      Op& send = self.send(other, id(round), mine.bytes());
      if (!drive({&self}, [&] { return receive.done(); }) || !receive.ok()) return false;
      const std::byte* bytes = receive.last.view != nullptr ? receive.last.view : got.data();
      const Bytes theirs = pattern(kSize, 100 * other + round);
      if (!std::equal(theirs.begin(), theirs.end(), bytes)) return false;
      if (receive.last.view != nullptr) self.channel(other).release_view(receive.last.view_token);
      if (!drive({&self}, [&] { return send.done(); }) || !send.ok()) return false;
    }
    return true;
  };
  Child child([&](Line& line) {
    Peer self(transport, 2);
    line.tell(self.address());
    self.connect(1, line.hear());
    const bool right = exchange(self, 1);
    self.endpoint().close(within(seconds(5)));
    line.tell(right ? "right" : "wrong");
    line.hear();
  });
  Peer self(transport, 1);
  self.connect(2, child.line().hear());
  child.line().tell(self.address());
  CHECK(exchange(self, 2));
  REQUIRE(drive({&self}, [&] { return !self.closed.empty() || !self.broken.empty(); }));
  CHECK(self.broken.empty());
  self.endpoint().close(within(seconds(5)));
  CHECK(child.line().hear() == "right");
}
