// What needs a device: who is admitted, memory that is taken back while it is written to, memory that is freed.
#include <sys/mman.h>

#include <algorithm>

#include "side.hpp"

using namespace longspan;
using namespace longspan::verbs;
using namespace longspan::verbs::testing;
using std::chrono::milliseconds;

TEST_CASE("a rank of another job, and one with another key, are refused, and know why", "[verbs]") {
  if (!has_device()) return;
  const bool keys = GENERATE(false, true);
  if (keys && !LONGSPAN_TLS) return;
  Side a(1, keys ? 0xbeef : 0xaaaa, keys ? "the key of this job" : "");
  Side b(2, 0xbeef, keys ? "quite another key of it" : "");
  a.connect(2, b.endpoint->address(), milliseconds(3000));
  const Bytes data = pattern(100, 1);
  const Operation& sent = a.send(1, data);
  REQUIRE(drive(a, b, [&] { return sent.done() && !a.broken.empty(); }));
  CHECK(sent.last.status.code() == StatusCode::kPeerLost);
  CHECK(a.why().find("rank 2 of the test") != std::string::npos);
  CHECK(a.why().find(keys ? "key" : "another job") != std::string::npos);
}

TEST_CASE("ranks that hold the same key exchange data", "[verbs]") {
  if (!has_device() || !LONGSPAN_TLS) return;
  Side a(1, 0xbeef, "the key of this job");
  Side b(2, 0xbeef, "the key of this job");
  a.connect(2, b.endpoint->address());
  b.connect(1, a.endpoint->address());
  const Bytes data = pattern(300'000, 2);
  Bytes got(data.size());
  const Operation& received = b.receive(1, got);
  a.send(1, data);
  REQUIRE(drive(a, b, [&] { return received.done(); }));
  CHECK(received.ok());
  CHECK(got == data);
}

TEST_CASE("ranks that know each other by IPv6 addresses exchange data", "[verbs]") {
  if (!has_device()) return;
  if (!listen_at(make_address("::1", 0).value()).ok()) {
    fmt::print("SKIP: verbs: this host has no IPv6\n");
    return;
  }
  Side a(1, 0xbeef, "", "::1");
  Side b(2, 0xbeef, "", "::1");
  CHECK(b.endpoint->address().starts_with("[::1]:"));
  a.connect(2, b.endpoint->address());
  b.connect(1, a.endpoint->address());
  const Bytes data = pattern(300'000, 2);
  Bytes got(data.size());
  const Operation& received = b.receive(1, got);
  a.send(1, data);
  REQUIRE(drive(a, b, [&] { return received.done(); }));
  CHECK(received.ok());
  CHECK(got == data);
}

TEST_CASE("receives that are taken back again and again are not written any more, and others come whole", "[verbs]") {
  if (!has_device()) return;
  Side a(1);
  Side b(2);
  a.connect(2, b.endpoint->address());
  b.connect(1, a.endpoint->address());
  const Bytes doomed = pattern(2'000'000, 3);
  const Bytes data = pattern(700'000, 4);
  for (std::uint32_t round = 0; round < 5; ++round) {
    Bytes target(doomed.size());
    Bytes got(data.size());
    b.receive(round, target, 100 + round);
    const Operation& received = b.receive(round, got, 1);
    a.send(round, doomed, 100 + round);
    const Operation& sent = a.send(round, data, 1);
    for (std::uint32_t i = 0; i < 20 * round; ++i) {
      a.step();
      b.step();
    }
    b.endpoint->forget(100 + round);
    std::fill(target.begin(), target.end(), std::byte{0x5a});
    REQUIRE(drive(a, b, [&] { return received.done() && sent.done(); }));
    a.endpoint->forget(100 + round);
    CHECK(received.ok());
    CHECK(got == data);
    CHECK(std::all_of(target.begin(), target.end(), [](std::byte byte) { return byte == std::byte{0x5a}; }));
  }
  CHECK(a.broken.empty());
  CHECK(b.broken.empty());
}

TEST_CASE("memory that was freed and mapped anew at the same place receives what is sent to it", "[verbs]") {
  if (!has_device()) return;
  Side a(1);
  Side b(2);
  a.connect(2, b.endpoint->address());
  b.connect(1, a.endpoint->address());
  constexpr std::size_t kBytes = std::size_t{1} << 20;
  void* place = nullptr;
  for (std::uint32_t round = 0; round < 4; ++round) {
    void* const memory = ::mmap(place, kBytes, PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS | (place != nullptr ? MAP_FIXED_NOREPLACE : 0), -1, 0);
    REQUIRE(memory != MAP_FAILED);
    place = memory;
    const std::span<std::byte> target(static_cast<std::byte*>(memory), kBytes);
    const Bytes data = pattern(kBytes, 10 + round);
    const Operation& received = b.receive(round, target);
    a.send(round, data);
    REQUIRE(drive(a, b, [&] { return received.done(); }));
    CHECK(received.ok());
    CHECK(std::equal(data.begin(), data.end(), target.begin()));
    ::munmap(memory, kBytes);
  }
}

TEST_CASE("a pace is kept", "[verbs]") {
  if (!has_device()) return;
  Side a(1);
  Side b(2);
  a.connect(2, b.endpoint->address());
  b.connect(1, a.endpoint->address());
  const Bytes data = pattern(1'000'000, 5);
  Bytes got(data.size());
  const Operation& first = b.receive(0, got);
  a.send(0, data);
  REQUIRE(drive(a, b, [&] { return first.done(); }));
  a.channel->set_rate(2e6);
  const TimePoint start = Clock::now();
  const Operation& received = b.receive(1, got);
  a.send(1, data);
  REQUIRE(drive(a, b, [&] { return received.done(); }));
  // The last segment leaves when those before it would have.
  CHECK(Clock::now() - start > milliseconds(350));
}
