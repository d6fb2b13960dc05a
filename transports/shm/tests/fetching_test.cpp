// However bytes come out of the sender's memory (by pointer, by the kernel, through shared memory, mapped), the
// promises are the same.
#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "shm/tests/side.hpp"

using namespace longspan;
using namespace longspan::shm;

namespace {

const char* name_of(FetchMode mode) {
  switch (mode) {
    case FetchMode::kDirect: return "direct";
    case FetchMode::kCopy: return "copy";
    case FetchMode::kStaged: return "staged";
  }
  return "?";
}

/// `a` sends to `b`, which fetches as told.
struct Pair {
  explicit Pair(FetchMode fetch, std::size_t credit = std::size_t{1} << 20)
      : a(1, FetchMode::kDirect, credit), b(2, fetch, credit) {
    a.connect(2, b.endpoint().address());
    b.connect(1, a.endpoint().address());
    // Met before the test begins: how messages travel may depend on what the welcome says.
    Bytes none;
    const Op& there = a.send(id(0, 999), none);
    const Op& here = b.recv(id(0, 999), none);
    REQUIRE(drive([&] { return there.ok() && here.ok() && a.welcomed(); }));
  }
  bool drive(const std::function<bool()>& done) { return shm::drive({&a, &b}, done); }
  Side a;
  Side b;
};

#define FOR_EACH_FETCH_MODE                                                                                  \
  const bool shared = GENERATE(false, true);                                                                 \
  const FetchMode mode =                                                                                     \
      shared ? GENERATE(FetchMode::kStaged)                                                                  \
             : GENERATE(FetchMode::kDirect, FetchMode::kCopy, FetchMode::kStaged);                           \
  INFO("fetching: " << (shared ? "mapped" : name_of(mode)))

}  // namespace

TEST_CASE("a message of any size arrives with its bytes, whichever side is first", "[shm]") {
  FOR_EACH_FETCH_MODE;
  const bool receive_first = GENERATE(true, false);
  Pair pair(mode);
  std::uint32_t seq = 0;
  const std::size_t ring = kForwardBytes;
  for (const std::size_t size : {std::size_t{0}, std::size_t{1}, std::size_t{63}, std::size_t{16 << 10},
                                 std::size_t{(16 << 10) + 1}, std::size_t{32 << 10}, ring - 1, ring, ring + 1,
                                 StagingHeap::kLargest, StagingHeap::kLargest + 1, 3 * StagingHeap::kLargest + 5}) {
    INFO("size " << size);
    const Source source(pair.a, pattern(size, size), shared);
    Bytes target(size);
    const Op* got = receive_first ? &pair.b.recv(id(seq), target) : nullptr;
    const Op& sent = pair.a.send(id(seq), source);
    if (!receive_first) {
      REQUIRE(pair.drive([&] { return !pair.b.arrivals.empty(); }));
      CHECK(pair.b.arrivals.front().bytes == size);
      pair.b.arrivals.clear();
      got = &pair.b.recv(id(seq), target);
    }
    REQUIRE(pair.drive([&] { return sent.done() && got->done(); }));
    CHECK(sent.ok());
    CHECK(got->ok());
    CHECK(got->last.bytes == size);
    CHECK(std::equal(target.begin(), target.end(), source.begin(), source.end()));
    ++seq;
  }
  CHECK(pair.b.arrivals.empty());
}

TEST_CASE("a source may be rewritten once its send has completed", "[shm]") {
  FOR_EACH_FETCH_MODE;
  Pair pair(mode);
  const std::size_t size = GENERATE(std::size_t{100}, std::size_t{100} << 10, std::size_t{5} << 20);
  const Bytes right = pattern(size, 1);
  Source source(pair.a, right, shared);
  Bytes target(size);
  const Op& sent = pair.a.send(id(1), source);
  // Most cannot complete before the receive is there; some (in the ring, or staged) can.
  Op* got = nullptr;
  bool rewritten = false;
  REQUIRE(pair.drive([&] {
    if (sent.done() && !rewritten) {
      std::fill(source.begin(), source.end(), std::byte{0xff});
      rewritten = true;
    }
    if (got == nullptr && !pair.b.arrivals.empty()) got = &pair.b.recv(id(1), target);
    return rewritten && got != nullptr && got->done();
  }));
  CHECK(got->ok());
  CHECK((target == right));
}

TEST_CASE("a view shows the bytes until it is released, and only then may its source change", "[shm]") {
  FOR_EACH_FETCH_MODE;
  Pair pair(mode);
  const std::size_t size = GENERATE(std::size_t{20} << 10, std::size_t{100} << 10, std::size_t{3} << 20);
  const Bytes right = pattern(size, 3);
  Source source(pair.a, right, shared);
  Bytes target(size);
  const Op& sent = pair.a.send(id(1), source);
  const Op& got = pair.b.recv(id(1), target, true);
  bool rewritten = false;
  REQUIRE(pair.drive([&] {
    if (sent.done() && !rewritten) {
      std::fill(source.begin(), source.end(), std::byte{0xff});
      rewritten = true;
    }
    return got.done();
  }));
  REQUIRE(got.ok());
  if (got.last.view != nullptr) {
    CHECK(std::equal(right.begin(), right.end(), got.last.view));
    if (got.last.view == source.data()) CHECK_FALSE(sent.done());
    pair.b.channel().release_view(got.last.view_token);
    pair.b.channel().release_view(got.last.view_token);  // once more does nothing
  } else {
    CHECK((target == right));
  }
  CHECK(pair.drive([&] { return sent.done(); }));
  CHECK(sent.ok());
}

TEST_CASE("more large messages than there are slots and blocks all arrive, in any order", "[shm]") {
  FOR_EACH_FETCH_MODE;
  Pair pair(mode);
  const std::size_t count = kOfferSlots + 100;
  const std::size_t size = (16 << 10) + 8;
  const Source source(pair.a, pattern(size + count, 5), shared);
  std::vector<const Op*> ops;
  for (std::uint32_t i = 0; i < count; ++i) {
    ops.push_back(&pair.a.send(id(i), std::span<const std::byte>(source).subspan(i, size)));
  }
  REQUIRE(pair.drive([&] { return pair.b.arrivals.size() == count; }));
  std::vector<Bytes> targets(count, Bytes(size));
  std::vector<std::uint32_t> order(count);
  std::iota(order.begin(), order.end(), 0U);
  for (std::size_t i = 0; i < count; ++i) std::swap(order[i], order[(i * 7919) % count]);
  for (const std::uint32_t i : order) ops.push_back(&pair.b.recv(id(i), targets[i]));
  REQUIRE(pair.drive([&] { return std::all_of(ops.begin(), ops.end(), [](const Op* op) { return op->done(); }); }));
  CHECK(std::all_of(ops.begin(), ops.end(), [](const Op* op) { return op->ok(); }));
  std::size_t wrong = 0;
  for (std::size_t i = 0; i < count; ++i)
    wrong += std::equal(targets[i].begin(), targets[i].end(), source.begin() + i) ? 0 : 1;
  CHECK(wrong == 0);
}

TEST_CASE("what a peer sends ahead of its receives is kept within the credit", "[shm]") {
  FOR_EACH_FETCH_MODE;
  constexpr std::size_t kCredit = 64 << 10;
  Pair pair(mode, kCredit);
  const std::size_t size = 4 << 10;
  const Source source(pair.a, pattern(size, 7), shared);
  constexpr std::uint32_t kCount = 200;  // many times the credit
  std::vector<const Op*> sent;
  for (std::uint32_t i = 0; i < kCount; ++i) sent.push_back(&pair.a.send(id(i), source));
  REQUIRE(pair.drive([&] { return pair.b.arrivals.size() == kCount; }));  // all are announced
  CHECK(pair.b.channel().stats().eager_bytes <= kCredit);
  Bytes target(size);
  for (std::uint32_t i = 0; i < kCount; ++i) {
    const Op& got = pair.b.recv(id(i), target);
    REQUIRE(pair.drive([&] { return got.done(); }));
    REQUIRE(got.ok());
    REQUIRE(std::equal(target.begin(), target.end(), source.begin()));
  }
  CHECK(pair.drive([&] { return std::all_of(sent.begin(), sent.end(), [](const Op* op) { return op->ok(); }); }));
}

TEST_CASE("memory of a communicator that its sender gave up is not read any more", "[shm]") {
  FOR_EACH_FETCH_MODE;
  Pair pair(mode);
  const std::size_t size = std::size_t{4} << 20;
  Source source(pair.a, pattern(size, 9), shared);
  const Op& sent = pair.a.send(id(1, 7), source);
  REQUIRE(pair.drive([&] { return pair.b.arrivals.size() == 1; }));
  pair.a.endpoint().forget(7);
  std::fill(source.begin(), source.end(), std::byte{0xee});
  source.free();  // a sanitizer would tell of a read
  Bytes target(size);
  const Op& got = pair.b.recv(id(1, 7), target);
  // Another communicator's message, sent and asked for afterwards, shows that all before it had its chance.
  const Bytes other = pattern(size, 10);
  Bytes target_of_other(size);
  const Op& other_sent = pair.a.send(id(1, 8), other);
  const Op& other_got = pair.b.recv(id(1, 8), target_of_other);
  REQUIRE(pair.drive([&] { return other_sent.done() && other_got.done(); }));
  CHECK(target_of_other == other);
  CHECK_FALSE(sent.done());
  CHECK_FALSE(got.done());  // it ends with its communicator
  CHECK(std::none_of(target.begin(), target.end(), [](std::byte byte) { return byte == std::byte{0xee}; }));
  pair.b.endpoint().forget(7);
}

TEST_CASE("what was sent and not yet asked for can be received after its sender has left", "[shm]") {
  FOR_EACH_FETCH_MODE;
  Pair pair(mode, std::size_t{4} << 20);
  std::deque<Source> sources;
  std::vector<const Op*> sent;
  for (const std::size_t size :
       {std::size_t{0}, std::size_t{100}, std::size_t{16} << 10, std::size_t{100} << 10, std::size_t{3} << 20}) {
    sources.emplace_back(pair.a, pattern(size, size + 1), shared);
  }
  for (std::uint32_t i = 0; i < sources.size(); ++i) sent.push_back(&pair.a.send(id(i), sources[i]));
  pair.a.endpoint().close(Clock::now() + std::chrono::seconds(10));
  while (pair.a.step() > 0) {
  }
  CHECK(std::all_of(sent.begin(), sent.end(), [](const Op* op) { return op->ok(); }));
  REQUIRE(drive({&pair.b}, [&] { return pair.b.arrivals.size() == sources.size(); }));
  for (std::uint32_t i = 0; i < sources.size(); ++i) {
    Bytes target(sources[i].size());
    const Op& got = pair.b.recv(id(i), target);
    REQUIRE(drive({&pair.b}, [&] { return got.done(); }));
    CHECK(got.ok());
    CHECK(std::equal(target.begin(), target.end(), sources[i].begin()));
  }
  CHECK(drive({&pair.b}, [&] { return pair.b.closed.size() == 1; }));
  CHECK(pair.b.broken.empty());
}
