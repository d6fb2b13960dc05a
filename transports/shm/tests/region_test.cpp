// Memory that a rank has shared is read where it is, by peers that map it; and whatever becomes of it, of its owner or
// of its reader, nobody reads what is not there.
#include <fmt/format.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <fstream>

#include "shm/tests/side.hpp"

using namespace longspan;
using namespace longspan::shm;

namespace {

constexpr std::size_t kSize = std::size_t{1} << 20;

/// Two sides that take each other for other processes.
struct Pair {
  explicit Pair(std::size_t credit = std::size_t{4} << 20)
      : a(1, FetchMode::kStaged, credit), b(2, FetchMode::kStaged, credit) {
    a.connect(2, b.endpoint().address());
    b.connect(1, a.endpoint().address());
    meet();
  }
  /// Everything that was sent before has been taken.
  void meet() {
    const Bytes none;
    Bytes here;
    const Op& there = a.send(id(next_, 999), none);
    const Op& back = b.send(id(next_, 999), none);
    const Op& one = b.recv(id(next_, 999), here);
    const Op& two = a.recv(id(next_++, 999), here);
    REQUIRE(drive([&] { return there.ok() && back.ok() && one.ok() && two.ok() && a.welcomed(); }));
  }
  bool drive(const std::function<bool()>& done) { return shm::drive({&a, &b}, done); }
  Side a;
  Side b;

 private:
  std::uint32_t next_ = 0;
};

/// Mappings of `Source`s in this process.
int mappings() {
  std::ifstream maps("/proc/self/maps");
  int count = 0;
  for (std::string line; std::getline(maps, line);) count += line.find("test-region") != std::string::npos ? 1 : 0;
  return count;
}

}  // namespace

TEST_CASE("shared memory is seen in place, without a copy", "[shm]") {
  Pair pair;
  const Bytes right = pattern(kSize, 1);
  const Source source(pair.a, right);
  Bytes target(kSize / 2);
  const Op& sent = pair.a.send(id(1), std::span<const std::byte>(source).subspan(100, target.size()));
  const Op& got = pair.b.recv(id(1), target, true);
  REQUIRE(pair.drive([&] { return got.done(); }));
  REQUIRE(got.ok());
  REQUIRE(got.last.view != nullptr);
  CHECK(std::equal(target.begin(), target.end(), got.last.view) == false);
  CHECK(std::memcmp(got.last.view, right.data() + 100, target.size()) == 0);
  // It is the sender's memory itself: only therefore must the sender wait.
  source.data()[100] = std::byte{0x77};
  CHECK(got.last.view[0] == std::byte{0x77});
  pair.meet();
  CHECK_FALSE(sent.done());
  pair.b.channel().release_view(got.last.view_token);
  CHECK(pair.drive([&] { return sent.done(); }));
  CHECK(sent.ok());
}

TEST_CASE("a receive of shared memory that takes no view is one copy", "[shm]") {
  Pair pair;
  const Bytes right = pattern(3 * kSize + 5, 2);
  const Source source(pair.a, right);
  Bytes target(right.size());
  const Op& got = pair.b.recv(id(1), target);
  const Op& sent = pair.a.send(id(1), source);
  REQUIRE(pair.drive([&] { return got.done() && sent.done(); }));
  CHECK(sent.ok());
  CHECK(got.ok());
  CHECK((target == right));
  CHECK(pair.b.channel().stats().eager_bytes == 0);
}

TEST_CASE("memory is mapped once, at its first message, and let go when it is freed", "[shm]") {
  Pair pair;
  REQUIRE(mappings() == 0);
  Source source(pair.a, pattern(kSize, 3));
  CHECK(mappings() == 1);
  Bytes target(kSize);
  for (std::uint32_t i = 1; i < 5; ++i) {
    pair.a.send(id(i), source);
    const Op& got = pair.b.recv(id(i), target);
    REQUIRE(pair.drive([&] { return got.ok(); }));
    CHECK(mappings() == 2);
  }
  source.free();
  pair.meet();
  CHECK(mappings() == 0);
}

TEST_CASE("memory that was freed while a peer reads it stays until it has been read", "[shm]") {
  Pair pair;
  const Bytes right = pattern(kSize, 4);
  Source source(pair.a, right);
  Bytes target(kSize);
  pair.a.send(id(1), source);
  const Op& got = pair.b.recv(id(1), target, true);
  REQUIRE(pair.drive([&] { return got.done(); }));
  source.free();  // although its send has not completed
  pair.meet();
  CHECK(mappings() == 1);
  CHECK(std::memcmp(got.last.view, right.data(), kSize) == 0);
  pair.b.channel().release_view(got.last.view_token);
  CHECK(mappings() == 0);
}

TEST_CASE("other memory at the same address is other memory", "[shm]") {
  Pair pair;
  Bytes target(kSize);
  const std::byte* first = nullptr;
  for (std::uint32_t i = 1; i < 20; ++i) {
    const Bytes right = pattern(kSize, i);
    const Source source(pair.a, right);
    if (first == nullptr) first = source.data();
    const Op& sent = pair.a.send(id(i), source);
    const Op& got = pair.b.recv(id(i), target);
    REQUIRE(pair.drive([&] { return got.done() && sent.done(); }));
    REQUIRE((target == right));
  }
}

TEST_CASE("a message beside, across or larger than shared memory goes another way", "[shm]") {
  Pair pair;
  const SharedMemory memory = SharedMemory::create(2 * kSize, "test").value();
  const Bytes right = pattern(2 * kSize, 5);
  std::copy(right.begin(), right.end(), memory.data());
  const auto region = pair.a.endpoint().share_memory(std::span(memory.data() + 4096, kSize), memory.fd());
  std::uint32_t seq = 1;
  for (const auto& [offset, size] : {std::pair<std::size_t, std::size_t>{0, 4096 + 40'000},
                                     {4096 + kSize - 20'000, 40'000},
                                     {0, 2 * kSize},
                                     {4096 + kSize, 40'000}}) {
    Bytes target(size);
    pair.a.send(id(seq), std::span<const std::byte>(memory.data(), memory.size()).subspan(offset, size));
    const Op& got = pair.b.recv(id(seq++), target);
    REQUIRE(pair.drive([&] { return got.done(); }));
    CHECK(std::memcmp(target.data(), right.data() + offset, size) == 0);
  }
}

TEST_CASE("more shared memory than a peer will map still arrives", "[shm]") {
  Pair pair;
  constexpr std::size_t kBytes = 20'000;
  std::deque<Source> sources;
  Bytes target(kBytes);
  for (std::uint32_t i = 0; i < kMostRegions + 20; ++i) {
    sources.emplace_back(pair.a, pattern(kBytes, i));
    const Op& sent = pair.a.send(id(i), sources.back());
    const Op& got = pair.b.recv(id(i), target);
    REQUIRE(pair.drive([&] { return got.done() && sent.done(); }));
    REQUIRE(std::memcmp(target.data(), sources.back().data(), kBytes) == 0);
  }
}

TEST_CASE("memory that its owner could cut off is not mapped, and its messages arrive all the same", "[shm]") {
  Pair pair;
  const Bytes right = pattern(kSize, 6);
  const Fd memfd(::memfd_create("test-unsealed", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  REQUIRE(::ftruncate(memfd.get(), kSize) == 0);
  Bytes memory = right;
  const auto region = pair.a.endpoint().share_memory(memory, memfd.get());
  Bytes target(kSize);
  pair.a.send(id(1), memory);
  const Op& got = pair.b.recv(id(1), target, true);
  REQUIRE(pair.drive([&] { return got.done(); }));
  CHECK(got.ok());
  CHECK(got.last.view == nullptr);
  CHECK((target == right));
}

TEST_CASE("a process that dies while its memory is read takes nothing away from its reader", "[shm]") {
  int addresses[2];
  int back[2];
  REQUIRE(::pipe(addresses) == 0);
  REQUIRE(::pipe(back) == 0);
  const Bytes right = pattern(kSize, 7);
  const pid_t child = ::fork();
  if (child == 0) {
    Side side(1);
    const std::string mine = side.endpoint().address();
    std::string theirs(mine.size(), ' ');
    if (::write(addresses[1], mine.data(), mine.size()) < 0 || ::read(back[0], theirs.data(), theirs.size()) <= 0) {
      ::_exit(1);
    }
    side.connect(2, theirs);
    const Source source(side, right);
    static_cast<void>(drive({&side}, [&] { return side.welcomed(); }));
    side.send(id(1), source);
    side.send(id(2), source);
    static_cast<void>(drive({&side}, [] { return false; }));  // until it is killed
    ::_exit(0);
  }
  Side side(2);
  const std::string mine = side.endpoint().address();
  std::string theirs(mine.size(), ' ');
  REQUIRE(::read(addresses[0], theirs.data(), theirs.size()) > 0);
  REQUIRE(::write(back[1], mine.data(), mine.size()) > 0);
  side.connect(1, theirs);
  Bytes target(kSize);
  const Op& got = side.recv(id(1), target, true);
  REQUIRE(drive({&side}, [&] { return got.done() && side.arrivals.size() == 1; }));
  REQUIRE(got.ok());
  REQUIRE(got.last.view != nullptr);
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  CHECK(drive({&side}, [&] { return !side.broken.empty(); }));
  CHECK(side.broken.at(0).status.code() == StatusCode::kPeerLost);
  CHECK(std::memcmp(got.last.view, right.data(), kSize) == 0);
  side.channel().release_view(got.last.view_token);
  const Op& never = side.recv(id(2), target);
  REQUIRE(drive({&side}, [&] { return never.done(); }));
  CHECK(never.last.status.code() == StatusCode::kPeerLost);
  for (const int fd : {addresses[0], addresses[1], back[0], back[1]}) ::close(fd);
}

TEST_CASE("giving up many views that a peer still reads costs one short wait in all", "[shm]") {
  Pair pair;
  const Source source(pair.a, pattern(kSize, 8));
  Bytes target(20'000);
  std::vector<const Op*> got;
  for (std::uint32_t i = 0; i < 20; ++i) {
    pair.a.send(id(i, 7), std::span<const std::byte>(source).subspan(0, target.size()));
    got.push_back(&pair.b.recv(id(i, 7), target, true));
  }
  REQUIRE(pair.drive([&] { return std::all_of(got.begin(), got.end(), [](const Op* op) { return op->done(); }); }));
  const TimePoint start = Clock::now();
  pair.a.endpoint().forget(7);
  CHECK(Clock::now() - start < std::chrono::milliseconds(1500));  // a wait each would be 4 s
  pair.b.endpoint().forget(7);
}
