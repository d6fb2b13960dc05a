#include <algorithm>
#include <set>

#include "cases.hpp"

using namespace longspan;
using namespace longspan::conformance;

TEST_CASE("each message that nobody waits for is announced once", "[conformance]") {
  auto& transport = each_transport();
  CAPTURE(transport.name());
  const int lanes = GENERATE(1, 4);
  CAPTURE(lanes);
  Pair pair(transport, std::size_t{256} << 10, lanes);
  constexpr std::uint32_t kCount = 20;
  const Bytes data = pattern(300'000, 1);
  std::vector<Bytes> got(kCount, Bytes(data.size()));
  for (std::uint32_t i = 0; i < kCount; ++i) pair.a.send(2, id(i, 3, 4), data, 77);
  REQUIRE(pair.drive([&] { return pair.b.arrivals.size() >= kCount; }));
  std::set<std::uint32_t> seen;
  for (const auto& arrival : pair.b.arrivals) {
    CHECK(arrival.peer == 1);
    CHECK(arrival.digest == 77);
    CHECK(arrival.bytes == data.size());
    CHECK(arrival.id.comm == 1);
    CHECK(arrival.id.stream == 3);
    CHECK(arrival.id.chunk == 4);
    seen.insert(arrival.id.seq);
  }
  CHECK(seen.size() == kCount);
  for (std::uint32_t i = kCount; i-- > 0;) pair.b.recv(1, id(i, 3, 4), got[i], 77);
  REQUIRE(pair.settle());
  CHECK(std::all_of(got.begin(), got.end(), [&](const Bytes& one) { return one == data; }));
  CHECK(pair.b.arrivals.size() == kCount);
}

TEST_CASE("opposite orders of two communicators with more data than the credit do not deadlock", "[conformance]") {
  auto& transport = each_transport();
  CAPTURE(transport.name());
  const int lanes = GENERATE(1, 2);
  Pair pair(transport, std::size_t{128} << 10, lanes);
  constexpr std::uint32_t kCount = 8;
  const Bytes data = pattern(std::size_t{512} << 10, 2);
  std::vector<Bytes> got(std::size_t{4} * kCount, Bytes(data.size()));
  // a sends communicator 1 first, b receives communicator 2 first, and posts the next only when the last came.
  for (std::uint64_t comm = 1; comm <= 2; ++comm) {
    for (std::uint32_t i = 0; i < kCount; ++i) {
      pair.a.send(2, id(i, 0, 0, comm), data);
      pair.b.send(1, id(i, 0, 0, 3 - comm), data);
    }
  }
  std::size_t slot = 0;
  for (std::uint64_t comm = 2; comm >= 1; --comm) {
    for (std::uint32_t i = 0; i < kCount; ++i) {
      Op& at_b = pair.b.recv(1, id(i, 0, 0, comm), got[slot++]);
      Op& at_a = pair.a.recv(2, id(i, 0, 0, 3 - comm), got[slot++]);
      REQUIRE(pair.drive([&] { return at_a.done() && at_b.done(); }));
      CHECK(at_a.ok());
      CHECK(at_b.ok());
    }
  }
  REQUIRE(pair.settle());
  CHECK(std::all_of(got.begin(), got.end(), [&](const Bytes& one) { return one == data; }));
}

TEST_CASE("the last message gets through although all before it wait", "[conformance]") {
  auto& transport = each_transport();
  CAPTURE(transport.name());
  Pair pair(transport, std::size_t{64} << 10, 2);
  constexpr std::uint32_t kCount = 200;
  const Bytes data = pattern(5000, 3);
  std::vector<Bytes> got(kCount, Bytes(data.size()));
  for (std::uint32_t i = 0; i < kCount; ++i) pair.a.send(2, id(i), data);
  for (std::uint32_t i = kCount; i-- > 0;) {
    Op& op = pair.b.recv(1, id(i), got[i]);
    REQUIRE(pair.drive([&] { return op.done(); }));
    CHECK(op.ok());
  }
  REQUIRE(pair.settle());
  CHECK(std::all_of(got.begin(), got.end(), [&](const Bytes& one) { return one == data; }));
}

TEST_CASE("a receive of any length takes a shorter message and tells its length", "[conformance]") {
  auto& transport = each_transport();
  CAPTURE(transport.name());
  const std::size_t size = GENERATE(std::size_t{0}, 1, 70'000, 400'000);
  const bool receive_first = GENERATE(true, false);
  Pair pair(transport);
  const Bytes sent = pattern(size, 4);
  Bytes got(400'000, std::byte{0x5a});
  Op* received = receive_first ? &pair.b.recv(1, id(1), got, 1, true) : nullptr;
  pair.a.send(2, id(1), sent);
  if (!receive_first) {
    REQUIRE(pair.drive([&] { return !pair.b.arrivals.empty(); }));
    received = &pair.b.recv(1, id(1), got, 1, true);
  }
  REQUIRE(pair.settle());
  CHECK(received->ok());
  CHECK(received->last.bytes == size);
  CHECK(std::equal(sent.begin(), sent.end(), got.begin()));
  CHECK(std::all_of(got.begin() + static_cast<std::ptrdiff_t>(size), got.end(),
                    [](std::byte b) { return b == std::byte{0x5a}; }));
}

TEST_CASE("another length or digest is a mismatch that names the peer, and the channel goes on", "[conformance]") {
  auto& transport = each_transport();
  CAPTURE(transport.name());
  const bool receive_first = GENERATE(true, false);
  const std::size_t size = GENERATE(std::size_t{100}, 600'000);
  const bool wrong_digest = GENERATE(true, false);
  CAPTURE(receive_first, size, wrong_digest);
  Pair pair(transport, std::size_t{128} << 10);
  const Bytes sent = pattern(size, 5);
  Bytes got(wrong_digest ? size : size / 2);
  const std::uint64_t expected_digest = wrong_digest ? 2 : 1;
  Op* received = receive_first ? &pair.b.recv(1, id(1), got, expected_digest) : nullptr;
  Op& send = pair.a.send(2, id(1), sent, 1);
  if (!receive_first) {
    REQUIRE(pair.drive([&] { return !pair.b.arrivals.empty(); }));
    received = &pair.b.recv(1, id(1), got, expected_digest);
  }
  REQUIRE(pair.settle());
  CHECK(send.ok());
  CHECK(received->code() == StatusCode::kMismatch);
  CHECK(received->last.digest == 1);
  const std::string message(received->last.status.message());
  CHECK(message.find("message (comm 1, seq ") == 0);  // every transport says it in the same words
  CHECK(message.find("peer 1 of the test") != std::string::npos);
  CHECK(message.find(std::to_string(size)) != std::string::npos);
  CHECK(message.find(std::to_string(got.size())) != std::string::npos);
  Bytes next(size);
  pair.b.recv(1, id(2), next);
  pair.a.send(2, id(2), sent);
  REQUIRE(pair.settle());
  CHECK(next == sent);
  CHECK(pair.b.broken.empty());
}

TEST_CASE("a forgotten communicator leaves no completion, and others go on", "[conformance]") {
  auto& transport = each_transport();
  CAPTURE(transport.name());
  Pair pair(transport, std::size_t{128} << 10);
  const Bytes data = pattern(std::size_t{1} << 20, 6);
  Bytes got(data.size());
  Bytes other(data.size());
  Op& stuck = pair.a.send(2, id(1, 0, 0, 9), data);
  Op& partly = pair.a.send(2, id(2, 0, 0, 9), data);
  Op& waiting = pair.a.recv(2, id(3, 0, 0, 9), got);
  REQUIRE(pair.drive([&] { return !pair.b.arrivals.empty(); }));
  const auto completions = [&] { return stuck.completions + partly.completions + waiting.completions; };
  const int before = completions();
  pair.a.endpoint().forget(9);
  pair.b.endpoint().forget(9);
  Op& send = pair.a.send(2, id(1, 0, 0, 10), data);
  Op& receive = pair.b.recv(1, id(1, 0, 0, 10), other);
  REQUIRE(pair.drive([&] { return send.done() && receive.done(); }));
  CHECK(other == data);
  CHECK(completions() == before);
}

TEST_CASE("memory of a forgotten receive is not written any more", "[conformance]") {
  auto& transport = each_transport();
  CAPTURE(transport.name());
  Pair pair(transport, std::size_t{64} << 10, 2);
  const Bytes data = pattern(kHuge / 4, 7);
  Bytes got(data.size());
  Bytes other(1000);
  pair.b.recv(1, id(1, 0, 0, 9), got);
  pair.a.send(2, id(1, 0, 0, 9), data);
  for (int i = 0; i < 20; ++i) {
    pair.a.step();
    pair.b.step();
  }
  pair.a.endpoint().forget(9);
  pair.b.endpoint().forget(9);
  std::fill(got.begin(), got.end(), std::byte{0x5a});
  Op& receive = pair.b.recv(1, id(1, 0, 0, 10), other);
  pair.a.send(2, id(1, 0, 0, 10), std::span(data).first(1000));
  REQUIRE(pair.drive([&] { return receive.done(); }));
  CHECK(std::equal(other.begin(), other.end(), data.begin()));
  CHECK(std::all_of(got.begin(), got.end(), [](std::byte b) { return b == std::byte{0x5a}; }));
}

TEST_CASE("a receive that allows it may be given a view of the bytes until it is released", "[conformance]") {
  auto& transport = each_transport();
  CAPTURE(transport.name());
  if (!transport.capabilities().peer_mapped) return skip(transport, "it gives no views");
  Pair pair(transport);
  const std::size_t size = GENERATE(std::size_t{100}, 1'000'000);
  const Bytes sent = pattern(size, 8);
  Bytes got(size);
  Op& receive = pair.b.recv(1, id(1), got, 1, false, true);
  Op& send = pair.a.send(2, id(1), sent);
  REQUIRE(pair.drive([&] { return receive.done(); }));
  REQUIRE(receive.ok());
  const std::byte* bytes = receive.last.view != nullptr ? receive.last.view : got.data();
  CHECK(std::equal(sent.begin(), sent.end(), bytes));
  if (receive.last.view != nullptr) pair.b.channel(1).release_view(receive.last.view_token);
  REQUIRE(pair.drive([&] { return send.done(); }));
  CHECK(send.ok());
}
