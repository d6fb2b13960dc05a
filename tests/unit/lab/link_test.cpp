#include <array>
#include <vector>

#include "lab/wan_link.hpp"
#include "support/catch.hpp"

using namespace longspan;
using namespace longspan::lab;
using std::chrono::microseconds;
using std::chrono::milliseconds;

namespace {

constexpr TimePoint kStart{std::chrono::seconds(100)};
constexpr std::size_t kPacket = 1000;

/// 1 MB/s: a 1000-byte packet takes 1 ms.
LinkSettings slow_link() {
  LinkSettings settings;
  settings.rate = Bandwidth{1e6};
  settings.delay = milliseconds(20);
  settings.buffer_bytes = 10 * kPacket;
  return settings;
}

struct Fixture {
  explicit Fixture(const LinkSettings& settings = slow_link(), std::uint64_t seed = 1)
      : link(settings, settings, seed) {}

  void offer(TimePoint now, int count = 1) {
    const std::vector<std::byte> frame(PacketTrain::kPrefix + kPacket);
    for (int i = 0; i < count; ++i) link.offer(*PacketTrain::parse(frame), now);
  }
  std::vector<TimePoint> deliver_all() {
    std::vector<TimePoint> times;
    for (; link.next_due() != TimePoint::max(); link.pop_delivered()) times.push_back(link.next_due());
    return times;
  }

  EmulatedLink link;
};

}  // namespace

TEST_CASE("A packet arrives after its serialisation and the one-way delay") {
  Fixture fixture;
  fixture.offer(kStart);
  CHECK(fixture.link.next_due() == kStart + milliseconds(1) + milliseconds(20));
}

TEST_CASE("Packets offered together leave at the link's rate, in order") {
  Fixture fixture;
  fixture.offer(kStart, 5);
  const auto times = fixture.deliver_all();
  REQUIRE(times.size() == 5);
  for (std::size_t i = 0; i < times.size(); ++i) {
    CHECK(times[i] == kStart + milliseconds(21) + milliseconds(1) * static_cast<int>(i));
  }
}

TEST_CASE("An idle link keeps no memory of earlier packets") {
  Fixture fixture;
  fixture.offer(kStart);
  fixture.offer(kStart + milliseconds(50));
  CHECK(fixture.deliver_all().back() == kStart + milliseconds(50 + 21));
}

TEST_CASE("The queue drops what does not fit into the stated buffer, and nothing else") {
  Fixture fixture;
  fixture.offer(kStart, 15);
  CHECK(fixture.link.counters().dropped_packets == 5);
  CHECK(fixture.link.counters().dropped_bytes == 5 * kPacket);
  CHECK(fixture.link.counters().largest_queue_bytes == 10 * kPacket);
  // Half a packet's time later there is room for none, a whole one's time later for one.
  fixture.offer(kStart + microseconds(500));
  CHECK(fixture.link.counters().dropped_packets == 6);
  fixture.offer(kStart + milliseconds(1));
  CHECK(fixture.link.counters().dropped_packets == 6);
}

TEST_CASE("A queue drains at the link's rate") {
  Fixture fixture;
  fixture.offer(kStart, 10);
  CHECK(fixture.link.queued_bytes(kStart) == 10 * kPacket);
  CHECK(fixture.link.queued_bytes(kStart + milliseconds(4)) == 6 * kPacket);
  CHECK(fixture.link.queued_bytes(kStart + milliseconds(11)) == 0);
}

TEST_CASE("Random loss loses the stated share, takes its time on the link, and depends on the seed alone") {
  LinkSettings settings = slow_link();
  settings.loss = 0.1;
  settings.buffer_bytes = 100'000'000;
  const auto run = [&settings](std::uint64_t seed) {
    Fixture fixture(settings, seed);
    fixture.offer(kStart, 20'000);
    CHECK(fixture.link.counters().sent_bytes == 20'000 * kPacket);
    return std::pair(fixture.link.counters().lost_packets, fixture.deliver_all());
  };
  const auto [lost, times] = run(1);
  // 5 standard deviations of a binomial distribution.
  CHECK(lost > 2000 - 5 * 43);
  CHECK(lost < 2000 + 5 * 43);
  CHECK(times.size() == 20'000 - lost);
  CHECK(run(1).second == times);
  CHECK(run(2).second != times);
}

TEST_CASE("A new rate applies to what waits and not to what has left the queue") {
  Fixture fixture;
  fixture.offer(kStart, 4);
  LinkSettings slower = slow_link();
  slower.rate = Bandwidth{0.5e6};
  fixture.link.change(slower, kStart + milliseconds(2));
  const std::vector<TimePoint> expected{kStart + milliseconds(21), kStart + milliseconds(22), kStart + milliseconds(24),
                                        kStart + milliseconds(26)};
  CHECK(fixture.deliver_all() == expected);
  CHECK(fixture.link.queued_bytes(kStart + milliseconds(2)) == 2 * kPacket);
}

TEST_CASE("A shorter delay lets no packet overtake another") {
  Fixture fixture;
  fixture.offer(kStart);
  LinkSettings nearer = slow_link();
  nearer.delay = milliseconds(1);
  fixture.link.change(nearer, kStart + milliseconds(1));
  fixture.offer(kStart + milliseconds(1));
  const auto times = fixture.deliver_all();
  CHECK(times == std::vector<TimePoint>(2, kStart + milliseconds(21)));
}

TEST_CASE("A link that is down loses what waits and what comes, delivers what has left, and works again afterwards") {
  Fixture fixture;
  fixture.offer(kStart, 4);
  fixture.link.set_down(true, kStart + milliseconds(2));
  fixture.offer(kStart + milliseconds(3));
  CHECK(fixture.link.counters().down_packets == 3);
  CHECK(fixture.link.counters().dropped_packets == 0);
  CHECK(fixture.deliver_all().size() == 2);
  fixture.link.set_down(false, kStart + milliseconds(10));
  fixture.offer(kStart + milliseconds(10));
  CHECK(fixture.deliver_all() == std::vector<TimePoint>{kStart + milliseconds(31)});
  CHECK(fixture.link.counters().sent_bytes == 3 * kPacket);
  CHECK(fixture.link.counters().busy_time == milliseconds(3));
}

TEST_CASE("A buffer that is not stated is deep: 8 MB, or twice what is in flight in a round trip") {
  WanLink link;
  link.bandwidth = Bandwidth{1.25e8};
  link.latency = Latency(0.020);
  CHECK(settings_of(link, milliseconds(20)).buffer_bytes == 10'000'000);
  link.latency = Latency(0.005);
  CHECK(settings_of(link, milliseconds(5)).buffer_bytes == 8'000'000);
  link.buffer_bytes = 1234;
  CHECK(settings_of(link, milliseconds(5)).buffer_bytes == 1234);
}
