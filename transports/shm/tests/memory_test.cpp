// Memory that peers share: nobody can take it away from under another, and nobody else gets it.
#include <fcntl.h>
#include <poll.h>
#include <rapidcheck.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <iterator>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "shm/bell.hpp"
#include "shm/copy.hpp"
#include "shm/heap.hpp"
#include "shm/peer_memory.hpp"
#include "shm/shared_memory.hpp"
#include "shm/sockets.hpp"
#include "support/catch.hpp"

using namespace longspan;
using namespace longspan::shm;

namespace {

bool readable(int fd, int timeout_ms = 0) {
  pollfd wait{fd, POLLIN, 0};
  return ::poll(&wait, 1, timeout_ms) == 1;
}

Fd copy_of(int fd) { return Fd(::fcntl(fd, F_DUPFD_CLOEXEC, 0)); }

/// Memory as a peer could send it, with other seals than ours.
Fd foreign_memory(std::size_t bytes, int seals) {
  Fd fd(::memfd_create("foreign", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  REQUIRE(::ftruncate(fd.get(), static_cast<off_t>(bytes)) == 0);
  if (seals != 0) REQUIRE(::fcntl(fd.get(), F_ADD_SEALS, seals) == 0);
  return fd;
}

/// Exit code of `body` in a forked process.
template <typename Body>
int in_child(Body body) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(body());
  int status = 0;
  if (::waitpid(child, &status, 0) != child || !WIFEXITED(status)) return -1;
  return WEXITSTATUS(status);
}

}  // namespace

TEST_CASE("two who map the same shared memory see the same bytes, zero at first", "[shm]") {
  const SharedMemory mine = SharedMemory::create(10'000, "test").value();
  const auto theirs = SharedMemory::attach(copy_of(mine.fd()), 10'000);
  REQUIRE(theirs.ok());
  CHECK(theirs->data()[9'999] == std::byte{0});
  mine.data()[9'999] = std::byte{7};
  CHECK(theirs->data()[9'999] == std::byte{7});
}

TEST_CASE("nobody can shrink shared memory under the other's feet", "[shm]") {
  const SharedMemory memory = SharedMemory::create(8192, "test").value();
  CHECK(::ftruncate(memory.fd(), 4096) != 0);
  CHECK(::ftruncate(memory.fd(), 16'384) != 0);
}

TEST_CASE("memory that its sender could shrink, or that is something else, is refused", "[shm]") {
  CHECK_FALSE(SharedMemory::attach(foreign_memory(8192, 0), 8192).ok());
  CHECK_FALSE(SharedMemory::attach(foreign_memory(8192, F_SEAL_GROW), 8192).ok());
  CHECK_FALSE(SharedMemory::attach(foreign_memory(4096, F_SEAL_SHRINK), 8192).ok());
  CHECK_FALSE(SharedMemory::attach(foreign_memory(16'384, F_SEAL_SHRINK), 8192).ok());
  CHECK_FALSE(SharedMemory::attach(Fd(::open("/dev/zero", O_RDWR | O_CLOEXEC)), 8192).ok());
  CHECK_FALSE(SharedMemory::attach(Fd(), 8192).ok());
  CHECK(SharedMemory::attach(foreign_memory(8192, F_SEAL_SHRINK), 8192).ok());
}

TEST_CASE("a forked child does not hold its parent's shared memory", "[shm]") {
  const SharedMemory memory = SharedMemory::create(8192, "test").value();
  std::memset(memory.data(), 1, 8192);
  const int errno_of_child = in_child([&] {
    unsigned char resident[2];
    return ::mincore(memory.data(), 8192, resident) == 0 ? 0 : errno;
  });
  CHECK(errno_of_child == ENOMEM);  // nothing is mapped there
  CHECK(memory.data()[8191] == std::byte{1});
}

TEST_CASE("blocks of the staging heap are large enough, inside it, and nobody else's", "[shm]") {
  StagingHeap heap = StagingHeap::create().value();
  CHECK(rc::check("whatever is taken and given back", [&heap] {
    std::map<std::size_t, std::pair<std::size_t, StagingHeap::Block>> out;  // by offset: bytes asked for
    const auto give_back = [&](auto which) {
      heap.give_back(which->second.second);
      out.erase(which);
    };
    const auto asked =
        *rc::gen::container<std::vector<std::size_t>>(rc::gen::inRange<std::size_t>(1, StagingHeap::kLargest + 1));
    for (const std::size_t bytes : asked) {
      const auto block = heap.take(bytes);
      if (!block) {
        RC_ASSERT(!out.empty());
        give_back(out.begin());
        continue;
      }
      const auto offset = static_cast<std::size_t>(heap.at(*block) - heap.at({0, 0}));
      RC_ASSERT(offset + bytes <= StagingHeap::kBytes);
      const auto after = out.lower_bound(offset);
      // In parentheses: RC_ASSERT's own || evaluates both sides.
      RC_ASSERT((after == out.end() || offset + bytes <= after->first));
      RC_ASSERT((after == out.begin() || std::prev(after)->first + std::prev(after)->second.first <= offset));
      out.emplace(offset, std::pair(bytes, *block));
      if (bytes % 3 == 0) give_back(std::prev(out.end()));
    }
    while (!out.empty()) give_back(out.begin());
  }));
}

TEST_CASE("a staging heap runs out, and goes on with what is given back, the last first", "[shm]") {
  StagingHeap heap = StagingHeap::create().value();
  std::vector<StagingHeap::Block> blocks;
  while (const auto block = heap.take(StagingHeap::kLargest)) blocks.push_back(*block);
  CHECK(blocks.size() * StagingHeap::kLargest == StagingHeap::kBytes);
  heap.give_back(blocks[3]);
  heap.give_back(blocks[5]);
  const auto warm = heap.take(StagingHeap::kLargest);
  REQUIRE(warm);
  CHECK(heap.at(*warm) == heap.at(blocks[5]));
  CHECK(heap.take(1));  // a large block serves when no small one is left
  CHECK_FALSE(heap.take(1));
}

TEST_CASE("a peer's memory is read the best way that is allowed", "[shm]") {
  const std::uint64_t value = 0x1234'5678'9abc'def0;
  const auto at = reinterpret_cast<std::uint64_t>(&value);
  const auto mode = [&](std::uint64_t address, std::uint64_t expected, FetchMode best, pid_t pid = ::getpid()) {
    return PeerMemory(pid, address, expected, best).mode();
  };
  CHECK(mode(at, value, FetchMode::kDirect) == FetchMode::kDirect);
  CHECK(mode(at, value, FetchMode::kStaged) == FetchMode::kStaged);
  // What stands there is not what the peer says: it is another process than it seems, by its pid in another namespace.
  CHECK(mode(at, value + 1, FetchMode::kCopy) == FetchMode::kStaged);
  CHECK(mode(8, value, FetchMode::kCopy) == FetchMode::kStaged);
  CHECK(mode(at, value, FetchMode::kDirect, 0) == FetchMode::kStaged);
  CHECK(mode(at, value, FetchMode::kDirect, -1) == FetchMode::kStaged);
}

TEST_CASE("memory that cannot be read is said to be so, and is not tried again", "[shm]") {
  const std::uint64_t value = 42;
  PeerMemory memory(::getpid(), reinterpret_cast<std::uint64_t>(&value), value, FetchMode::kCopy);
  if (memory.mode() != FetchMode::kCopy) {
    WARN("process_vm_readv is not permitted here");
    return;
  }
  std::uint64_t got = 0;
  CHECK(memory.read(reinterpret_cast<std::byte*>(&got), reinterpret_cast<std::uint64_t>(&value), sizeof got));
  CHECK(got == 42);
  CHECK_FALSE(memory.read(reinterpret_cast<std::byte*>(&got), 8, sizeof got));
  CHECK(memory.mode() == FetchMode::kStaged);
}

TEST_CASE("a bell wakes who sleeps, once, and costs nothing otherwise", "[shm]") {
  Bell bell = Bell::create().value();
  const PeerBell peer = PeerBell::attach(copy_of(bell.page_fd()), copy_of(bell.fd())).value();
  peer.ring();
  CHECK_FALSE(readable(bell.fd()));  // nobody slept
  bell.sleep();
  peer.ring();
  CHECK(readable(bell.fd()));
  bell.drain();
  peer.ring();
  CHECK_FALSE(readable(bell.fd()));
  bell.sleep();
  bell.awake();
  peer.ring();
  CHECK_FALSE(readable(bell.fd()));
}

TEST_CASE("packets carry bytes and descriptors, and the end is told", "[shm]") {
  const Listener listener = listen_anywhere().value();
  std::optional<Fd> dialed = dial(listener.name).value();
  REQUIRE(dialed);
  const Fd accepted = accept_next(listener.fd);
  REQUIRE(accepted.valid());
  CHECK_FALSE(accept_next(listener.fd).valid());
  CHECK(process_behind(accepted).pid == ::getpid());
  CHECK(process_behind(accepted).uid == ::geteuid());

  const std::string text = "hello";
  const SharedMemory memory = SharedMemory::create(4096, "test").value();
  memory.data()[5] = std::byte{9};
  const std::array<int, 1> fds{memory.fd()};
  REQUIRE(send_packet(*dialed, std::as_bytes(std::span(text)), fds).ok());
  std::array<std::byte, 64> bytes;
  std::size_t length = 0;
  std::vector<Fd> received;
  REQUIRE(receive_packet(accepted, bytes, length, received) == Received::kPacket);
  CHECK(length == text.size());
  REQUIRE(received.size() == 1);
  CHECK(SharedMemory::attach(std::move(received[0]), 4096).value().data()[5] == std::byte{9});

  CHECK(receive_packet(accepted, bytes, length, received) == Received::kNothing);
  dialed->reset();
  CHECK(receive_packet(accepted, bytes, length, received) == Received::kEnd);
}

TEST_CASE("nobody listens under a name that is gone", "[shm]") {
  std::string name;
  {
    const Listener listener = listen_anywhere().value();
    name = listener.name;
    CHECK(listen_anywhere().value().name != name);
  }
  CHECK_FALSE(dial(name).ok());
}

TEST_CASE("a watched process is seen to die", "[shm]") {
  int gate[2];
  REQUIRE(::pipe2(gate, O_CLOEXEC) == 0);
  const pid_t child = ::fork();  // before the ends are Fds, which a child closes
  if (child == 0) {
    ::close(gate[1]);
    char byte = 0;
    [[maybe_unused]] const ssize_t got = ::read(gate[0], &byte, 1);  // until the parent closes
    ::_exit(0);
  }
  const Fd read_end(gate[0]);
  Fd write_end(gate[1]);
  const Fd watched = watch_process(child);
  if (!watched.valid()) WARN("this kernel has no pidfd");
  if (watched.valid()) CHECK_FALSE(readable(watched.get()));
  write_end.reset();
  if (watched.valid()) CHECK(readable(watched.get(), 10'000));
  ::waitpid(child, nullptr, 0);
  CHECK_FALSE(watch_process(0).valid());
}

TEST_CASE("a copy past the cache is a copy, from anywhere to anywhere, and nothing else is written", "[shm]") {
  CHECK(rc::check("any place and length", [] {
    const auto length = *rc::gen::inRange<std::size_t>(0, 2000);
    const auto from = *rc::gen::inRange<std::size_t>(0, 130);
    const auto to = *rc::gen::inRange<std::size_t>(0, 130);
    std::vector<std::byte> source(3000);
    for (std::size_t i = 0; i < source.size(); ++i) source[i] = static_cast<std::byte>(i * 7 % 251 + 1);
    std::vector<std::byte> target(3000, std::byte{0});
    std::vector<std::byte> wanted = target;
    std::copy_n(source.begin() + static_cast<long>(from), length, wanted.begin() + static_cast<long>(to));
    copy_past_cache(target.data() + to, source.data() + from, length);
    RC_ASSERT((target == wanted));
  }));
}
