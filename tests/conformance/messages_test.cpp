#include <algorithm>
#include <numeric>

#include "cases.hpp"

using namespace longspan;
using namespace longspan::conformance;

TEST_CASE("a message arrives with the right bytes, once, whichever side posts first", "[conformance]") {
  auto& transport = each_transport();
  CAPTURE(transport.name());
  const std::size_t size = GENERATE(std::size_t{1}, 7, 8, 64, 1000, 4096, 65'535, 65'536, 65'537, 262'144, 1'000'003);
  const bool receive_first = GENERATE(true, false);
  CAPTURE(size, receive_first);
  Pair pair(transport);
  const Bytes sent = pattern(size, size);
  Bytes got(size);
  Op* received = receive_first ? &pair.b.recv(1, id(1), got) : nullptr;
  Op& send = pair.a.send(2, id(1), sent);
  if (!receive_first) {
    REQUIRE(pair.drive([&] { return !pair.b.arrivals.empty(); }));
    received = &pair.b.recv(1, id(1), got);
  }
  REQUIRE(pair.settle());
  CHECK(send.ok());
  CHECK(received->ok());
  CHECK(received->last.bytes == size);
  CHECK(got == sent);
  CHECK(pair.a.exactly_once());
  CHECK(pair.b.exactly_once());
}

TEST_CASE("nothing completes inside send and post_recv", "[conformance]") {
  auto& transport = each_transport();
  CAPTURE(transport.name());
  Pair pair(transport);
  const Bytes sent = pattern(100, 1);
  Bytes first(100);
  Bytes second(100);
  Op& early = pair.b.recv(1, id(1), first);
  Op& send = pair.a.send(2, id(1), sent);
  pair.a.send(2, id(2), sent);
  CHECK_FALSE(send.done());
  CHECK_FALSE(early.done());
  REQUIRE(pair.drive([&] { return !pair.b.arrivals.empty(); }));
  Op& late = pair.b.recv(1, id(2), second);
  CHECK_FALSE(late.done());
  REQUIRE(pair.settle());
  CHECK(first == sent);
  CHECK(second == sent);
}

TEST_CASE("an empty message is a message", "[conformance]") {
  auto& transport = each_transport();
  CAPTURE(transport.name());
  Pair pair(transport);
  Op& posted = pair.b.recv(1, id(1), {});
  pair.a.send(2, id(1), {});
  pair.a.send(2, id(2), {});
  REQUIRE(pair.drive([&] { return !pair.b.arrivals.empty(); }));
  CHECK(pair.b.arrivals.front().bytes == 0);
  Op& late = pair.b.recv(1, id(2), {});
  REQUIRE(pair.settle());
  CHECK(posted.ok());
  CHECK(late.ok());
  CHECK(late.last.bytes == 0);
}

TEST_CASE("a huge message arrives whole, both ways at once and over several lanes", "[conformance]") {
  auto& transport = each_transport();
  CAPTURE(transport.name());
  const int lanes = GENERATE(1, 4);
  const bool receive_first = GENERATE(true, false);
  CAPTURE(lanes, receive_first);
  Pair pair(transport, std::size_t{1} << 20, lanes);
  const Bytes there = pattern(kHuge, 1);
  const Bytes back = pattern(kHuge, 2);
  Bytes got_there(kHuge);
  Bytes got_back(kHuge);
  const auto post = [&] {
    pair.b.recv(1, id(1), got_there);
    pair.a.recv(2, id(1), got_back);
  };
  if (receive_first) post();
  pair.a.send(2, id(1), there);
  pair.b.send(1, id(1), back);
  if (!receive_first) {
    REQUIRE(pair.drive([&] { return !pair.a.arrivals.empty() && !pair.b.arrivals.empty(); }));
    post();
  }
  REQUIRE(pair.settle());
  CHECK(got_there == there);
  CHECK(got_back == back);
}

TEST_CASE("memory may start and end anywhere", "[conformance]") {
  auto& transport = each_transport();
  CAPTURE(transport.name());
  Pair pair(transport);
  const std::size_t size = GENERATE(std::size_t{3}, 1021, 300'001);
  CAPTURE(size);
  const Bytes source = pattern(size + 64, 3);
  Bytes target(size + 64, std::byte{0x5a});
  for (std::uint32_t shift = 1; shift < 16; shift += 2) {
    pair.b.recv(1, id(shift), std::span(target).subspan(shift + 8, size));
    pair.a.send(2, id(shift), std::span(source).subspan(16 - shift, size));
    REQUIRE(pair.settle());
    const auto* from = source.data() + 16 - shift;
    CHECK(std::equal(from, from + size, target.data() + shift + 8));
    CHECK(std::all_of(target.begin(), target.begin() + shift + 8, [](std::byte b) { return b == std::byte{0x5a}; }));
    CHECK(target[shift + 8 + size] == std::byte{0x5a});
    std::fill(target.begin(), target.end(), std::byte{0x5a});
  }
}

TEST_CASE("many messages may be in flight at once, posted before, after and in any order", "[conformance]") {
  auto& transport = each_transport();
  CAPTURE(transport.name());
  const int lanes = GENERATE(1, 3);
  CAPTURE(lanes);
  Pair pair(transport, std::size_t{64} << 10, lanes);
  constexpr std::size_t kSize = 48;
  const Bytes sent = pattern(kMany * kSize, 4);
  Bytes got(sent.size());
  const auto part = [](auto& bytes, std::uint32_t i) { return std::span(bytes).subspan(i * kSize, kSize); };
  for (std::uint32_t i = 0; i < kMany; i += 2) pair.b.recv(1, id(1, i % 5, i), part(got, i));
  for (std::uint32_t i = 0; i < kMany; ++i) pair.a.send(2, id(1, i % 5, i), part(sent, i));
  // The rest late and backwards: far more than the credit waits meanwhile.
  for (std::uint32_t i = kMany - 1; i < kMany; i -= 2) {
    pair.b.recv(1, id(1, i % 5, i), part(got, i));
    if (i % 64 == 1) pair.b.step();
  }
  REQUIRE(pair.settle());
  CHECK(got == sent);
  CHECK(pair.a.exactly_once());
  CHECK(pair.b.exactly_once());
}

TEST_CASE("small messages pass while a large one waits for its receive", "[conformance]") {
  auto& transport = each_transport();
  CAPTURE(transport.name());
  Pair pair(transport, std::size_t{64} << 10);
  const Bytes large = pattern(std::size_t{4} << 20, 5);
  const Bytes small = pattern(100, 6);
  Bytes got_large(large.size());
  Bytes got_small(100);
  pair.a.send(2, id(1, 0), large);
  pair.a.send(2, id(1, 1), small);
  Op& op = pair.b.recv(1, id(1, 1), got_small);
  REQUIRE(pair.drive([&] { return op.done(); }));
  CHECK(got_small == small);
  pair.b.recv(1, id(1, 0), got_large);
  REQUIRE(pair.settle());
  CHECK(got_large == large);
}

TEST_CASE("two sides that send to each other endlessly do not stop each other", "[conformance]") {
  auto& transport = each_transport();
  CAPTURE(transport.name());
  Pair pair(transport, std::size_t{256} << 10);
  const Bytes data = pattern(200'000, 7);
  constexpr std::uint32_t kRounds = kSanitized ? 20 : 100;
  std::vector<Bytes> at_a(kRounds, Bytes(data.size()));
  std::vector<Bytes> at_b(kRounds, Bytes(data.size()));
  for (std::uint32_t i = 0; i < kRounds; ++i) {
    pair.a.send(2, id(i), data);
    pair.b.send(1, id(i), data);
  }
  for (std::uint32_t i = 0; i < kRounds; ++i) {
    pair.a.recv(2, id(i), at_a[i]);
    pair.b.recv(1, id(i), at_b[i]);
  }
  REQUIRE(pair.settle());
  CHECK(std::all_of(at_a.begin(), at_a.end(), [&](const Bytes& got) { return got == data; }));
  CHECK(std::all_of(at_b.begin(), at_b.end(), [&](const Bytes& got) { return got == data; }));
}
