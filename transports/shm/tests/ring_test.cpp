// A ring hands over records whole, in order and once, whatever their sizes and wherever they lie.
#include "shm/ring.hpp"

#include <rapidcheck.h>

#include <cstring>
#include <deque>
#include <memory>
#include <thread>
#include <vector>

#include "base/clock.hpp"
#include "shm/shared_memory.hpp"
#include "support/catch.hpp"

using namespace longspan;
using namespace longspan::shm;

namespace {

constexpr std::size_t kRing = 4096;

/// Both ends of a ring, as its two processes have it.
struct Ring {
  explicit Ring(std::size_t bytes = kRing) : memory(SharedMemory::create(bytes, "ring-test").value()) {
    writer = RingWriter(memory.data(), bytes, &state, memory.data());
    reader = RingReader(memory.data(), bytes, &state, memory.data());
  }
  /// False: full.
  bool write(std::uint32_t number, std::size_t payload) {
    Record* record = writer.reserve(payload);
    if (record == nullptr) return false;
    record->kind = RecordKind::kEager;
    record->seq = number;
    std::memset(record->data(), static_cast<int>(number & 0xff), payload);
    writer.publish(record);
    return true;
  }
  /// Takes the oldest record, which must be this one.
  bool read(std::uint32_t number, std::size_t payload) {
    const Record* record = reader.front();
    if (record == nullptr || record->seq != number || record->payload != payload) return false;
    for (std::size_t i = 0; i < payload; ++i) {
      if (record->data()[i] != static_cast<std::byte>(number & 0xff)) return false;
    }
    reader.pop(record);
    return true;
  }

  RingState state;
  SharedMemory memory;
  RingWriter writer;
  RingReader reader;
};

}  // namespace

TEST_CASE("what is written to a ring is read whole, in order and once", "[shm]") {
  CHECK(rc::check("any sizes, any pace", [] {
    Ring ring;
    std::deque<std::pair<std::uint32_t, std::size_t>> inside;
    std::uint32_t number = 0;
    const auto sizes = *rc::gen::container<std::vector<std::size_t>>(rc::gen::inRange<std::size_t>(0, kRing / 4));
    const auto pace = *rc::gen::inRange(1, 5);
    for (const std::size_t size : sizes) {
      while (!ring.write(number, size)) {
        RC_ASSERT(!inside.empty());  // an empty ring takes any record of a quarter
        RC_ASSERT(ring.read(inside.front().first, inside.front().second));
        inside.pop_front();
        ring.reader.commit();
      }
      inside.emplace_back(number++, size);
      if (number % static_cast<unsigned>(pace) != 0) continue;
      RC_ASSERT(ring.read(inside.front().first, inside.front().second));
      inside.pop_front();
      ring.reader.commit();
    }
    for (const auto& [each, size] : inside) RC_ASSERT(ring.read(each, size));
    RC_ASSERT(ring.reader.front() == nullptr);
    RC_ASSERT(!ring.reader.corrupt());
  }));
}

TEST_CASE("a record is not seen before it is published", "[shm]") {
  Ring ring;
  CHECK_FALSE(ring.reader.ready());
  Record* record = ring.writer.reserve(100);
  REQUIRE(record != nullptr);
  record->kind = RecordKind::kEager;
  CHECK_FALSE(ring.reader.ready());
  CHECK(ring.reader.front() == nullptr);
  ring.writer.publish(record);
  CHECK(ring.reader.ready());
  CHECK(ring.reader.front() == record);
}

TEST_CASE("a full ring takes nothing until its reader gave room back, and loses nothing", "[shm]") {
  Ring ring;
  std::uint32_t written = 0;
  while (ring.write(written, 200)) ++written;
  REQUIRE(written >= 8);
  // Read, but not given back: the reader may still look at them.
  for (std::uint32_t i = 0; i < 4; ++i) REQUIRE(ring.read(i, 200));
  CHECK_FALSE(ring.write(written, 200));
  ring.reader.commit();
  CHECK(ring.write(written, 200));
  for (std::uint32_t i = 4; i <= written; ++i) CHECK(ring.read(i, 200));
}

TEST_CASE("a writer that waits is to be woken once, when there is room", "[shm]") {
  Ring ring;
  std::uint32_t written = 0;
  while (ring.write(written, 200)) ++written;
  CHECK_FALSE(ring.writer.wait_for_room(200));
  CHECK_FALSE(ring.reader.commit());  // nothing was read: nobody to wake
  for (std::uint32_t i = 0; i < written; ++i) REQUIRE(ring.read(i, 200));
  CHECK(ring.reader.commit());
  CHECK(ring.write(written, 200));
  REQUIRE(ring.read(written, 200));
  CHECK_FALSE(ring.reader.commit());
}

TEST_CASE("a writer that would wait is told when room came meanwhile", "[shm]") {
  Ring ring;
  std::uint32_t written = 0;
  while (ring.write(written, 200)) ++written;
  for (std::uint32_t i = 0; i < written; ++i) REQUIRE(ring.read(i, 200));
  ring.reader.commit();
  CHECK(ring.writer.wait_for_room(200));
}

TEST_CASE("two threads pass records through a small ring", "[shm]") {
  constexpr std::uint32_t kRecords = 20'000;
  Ring ring;
  const TimePoint deadline = Clock::now() + std::chrono::seconds(60);
  std::thread writer([&] {
    for (std::uint32_t i = 0; i < kRecords && Clock::now() < deadline;) {
      if (ring.write(i, i % 700)) {
        ++i;
      } else {
        std::this_thread::yield();
      }
    }
  });
  std::uint32_t read = 0;
  bool good = true;
  while (good && read < kRecords && Clock::now() < deadline) {
    if (!ring.reader.ready()) {
      std::this_thread::yield();
      continue;
    }
    const Record* record = ring.reader.front();
    if (record == nullptr) continue;
    good = ring.read(read, read % 700);
    ++read;
    ring.reader.commit();
  }
  writer.join();
  CHECK(good);
  CHECK(read == kRecords);
}

TEST_CASE("a ring whose writer went mad is corrupt, and nothing outside it is read", "[shm]") {
  const auto kind = GENERATE(RecordKind::kEager, RecordKind::kSkip);
  const std::uint32_t payload =
      GENERATE(std::uint32_t{kRing}, std::uint32_t{kRing - 48 + 1}, UINT32_MAX, UINT32_MAX - 100);
  Ring ring;
  Record* record = ring.writer.reserve(0);
  REQUIRE(record != nullptr);
  record->kind = kind;
  record->payload = payload;
  record->ready.store(1);
  CHECK(ring.reader.front() == nullptr);
  CHECK(ring.reader.corrupt());
  CHECK(ring.reader.front() == nullptr);
}
