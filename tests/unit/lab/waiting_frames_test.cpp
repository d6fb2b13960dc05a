#include <rapidcheck.h>

#include <algorithm>
#include <vector>

#include "lab/waiting_frames.hpp"
#include "lab/wan_link.hpp"
#include "support/catch.hpp"

using namespace longspan;
using namespace longspan::lab;
using std::chrono::milliseconds;

namespace {

constexpr TimePoint kFrom{std::chrono::seconds(100)};

std::vector<TimePoint> spread(const std::vector<std::size_t>& lengths, TimePoint from, TimePoint to) {
  TrainMemory memory(0);
  WaitingFrames waiting;
  for (const std::size_t length : lengths) waiting.add(memory.next(), length);
  std::vector<TimePoint> instants;
  waiting.spread(from, to, [&](TrainMemory::Block&, std::size_t, TimePoint instant) { instants.push_back(instant); });
  return instants;
}

}  // namespace

TEST_CASE("Frames read late have come one after the other while nobody looked, the last just now") {
  CHECK(rc::check([] {
    const auto lengths = *rc::gen::nonEmpty(rc::gen::container<std::vector<std::size_t>>(rc::gen::inRange(20, 65'000)));
    const TimePoint to = kFrom + Duration(*rc::gen::inRange(1'000'000, 100'000'000));
    const auto instants = spread(lengths, kFrom, to);
    RC_ASSERT(instants.size() == lengths.size());
    RC_ASSERT(instants.front() > kFrom);
    RC_ASSERT(std::is_sorted(instants.begin(), instants.end()));
    RC_ASSERT(instants.back() == to);
  }));
}

TEST_CASE("A frame that waited alone keeps the instant at which it was read") {
  CHECK(spread({9'000}, kFrom, kFrom + milliseconds(40)).front() == kFrom + milliseconds(40));
}

TEST_CASE("Frames are held until they have been spread, each in its own block") {
  TrainMemory memory(0);
  WaitingFrames waiting;
  TrainMemory::Block& first = memory.next();
  waiting.add(first, 100);
  TrainMemory::Block& second = memory.next();
  CHECK(&first != &second);
  waiting.add(second, 100);
  waiting.spread(kFrom, kFrom + milliseconds(2), [](TrainMemory::Block&, std::size_t, TimePoint) {});
  waiting.add(memory.next(), 100);
  CHECK(waiting.size() == 1);
}

TEST_CASE("What a paced sender sent while the emulator stood still makes no queue and leaves the link no gap") {
  LinkSettings settings;
  settings.rate = Bandwidth{1e6};
  settings.delay = milliseconds(20);
  settings.buffer_bytes = 10'000;
  EmulatedLink link(settings, settings, 1);
  TrainMemory memory(0);
  WaitingFrames waiting;
  const std::vector<std::byte> frame(PacketTrain::kPrefix + 1'000);
  constexpr int kPackets = 15;
  for (int i = 0; i < kPackets; ++i) {
    TrainMemory::Block& block = memory.next();
    std::copy(frame.begin(), frame.end(), block.bytes().begin());
    waiting.add(block, frame.size());
  }
  const TimePoint to = kFrom + milliseconds(kPackets);
  waiting.spread(kFrom, to, [&](TrainMemory::Block& block, std::size_t length, TimePoint at) {
    link.offer(*PacketTrain::parse(std::span<const std::byte>(block.bytes()).first(length)), at);
  });
  CHECK(link.counters().dropped_packets == 0);
  CHECK(link.counters().largest_queue_bytes <= 1'001);
  for (int i = 0; i < kPackets; ++i, link.pop_delivered()) {
    const Duration after = link.next_due() - (kFrom + settings.delay);
    CHECK(after <= milliseconds(i + 2));
    CHECK(after >= milliseconds(i + 1));
  }
}
