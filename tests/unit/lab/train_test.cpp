// Trains of packets: what segmentation offload leaves to the lab, taken apart as a network card would.
#include <rapidcheck.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "lab/packet_train.hpp"
#include "lab/wan_link.hpp"
#include "support/catch.hpp"

using namespace longspan;
using namespace longspan::lab;
using std::chrono::milliseconds;

namespace {

using Bytes = std::vector<std::byte>;

enum class Kind { kTcp4, kTcp6, kUdp4 };

struct Shape {
  Kind kind = Kind::kTcp4;
  std::size_t ip = 20;
  std::size_t transport = 32;  ///< TCP with timestamps
  std::uint8_t type = 1;
  std::size_t headers() const { return ip + transport; }
};

Shape shape_of(Kind kind) {
  switch (kind) {
    case Kind::kTcp6: return {kind, 40, 32, 4};
    case Kind::kUdp4: return {kind, 20, 8, 5};
    case Kind::kTcp4: break;
  }
  return {};
}

std::uint8_t get(const Bytes& bytes, std::size_t offset) { return std::to_integer<std::uint8_t>(bytes[offset]); }

std::uint32_t get_16(const Bytes& bytes, std::size_t offset) {
  return static_cast<std::uint32_t>(get(bytes, offset) << 8 | get(bytes, offset + 1));
}

void put(Bytes& bytes, std::size_t offset, std::size_t value) { bytes[offset] = static_cast<std::byte>(value); }

void put_16(Bytes& bytes, std::size_t offset, std::size_t value) {
  put(bytes, offset, value >> 8 & 0xff);
  put(bytes, offset + 1, value & 0xff);
}

std::uint32_t folded(std::uint32_t sum) {
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  return sum;
}

/// A frame of `payload` bytes for packets with `segment` bytes of it each.
Bytes frame_of(Kind kind, std::size_t payload, std::size_t segment) {
  constexpr std::size_t kIp = PacketTrain::kPrefix;
  const Shape shape = shape_of(kind);
  Bytes frame(kIp + shape.headers() + payload);
  put(frame, 0, 1);
  put(frame, 1, shape.type);
  // The kernel writes these in the machine's own order.
  const std::array<std::uint16_t, 4> numbers{200, static_cast<std::uint16_t>(segment),
                                             static_cast<std::uint16_t>(shape.ip), 16};
  std::memcpy(frame.data() + 2, numbers.data(), sizeof numbers);
  const bool v6 = kind == Kind::kTcp6;
  put(frame, kIp, v6 ? 0x60 : 0x45);
  put_16(frame, kIp + (v6 ? 4 : 2), v6 ? shape.transport + payload : shape.headers() + payload);
  put_16(frame, kIp + (v6 ? 38 : 18), 0x1234);
  if (!v6) put_16(frame, kIp + 4, 0xfffe);
  const std::size_t transport = kIp + shape.ip;
  if (kind == Kind::kUdp4) {
    put_16(frame, transport + 4, 8 + payload);
  } else {
    put_16(frame, transport + 4, 0xffff);
    put_16(frame, transport + 6, 0xff00);
    put(frame, transport + 12, (shape.transport / 4) << 4);
    put(frame, transport + 13, 0x99);  // CWR, ACK, PSH, FIN
  }
  for (std::size_t i = 0; i < payload; ++i) put(frame, kIp + shape.headers() + i, i * 7 & 0xff);
  return frame;
}

PacketTrain parsed(std::span<const std::byte> frame) {
  const auto train = PacketTrain::parse(frame);
  REQUIRE(train.has_value());
  return *train;
}

Bytes part(const PacketTrain& train, std::uint32_t first, std::uint32_t count) {
  Bytes out(train.frame_bytes(first, count));
  train.write(first, count, out);
  return out;
}

std::uint32_t sequence_of(const Bytes& frame, Kind kind) {
  const std::size_t at = PacketTrain::kPrefix + shape_of(kind).ip + 4;
  return get_16(frame, at) << 16 | get_16(frame, at + 2);
}

/// 1 GB/s, so that every byte takes exactly a nanosecond.
LinkSettings fast_link(std::uint64_t buffer, double loss = 0) {
  LinkSettings settings;
  settings.rate = Bandwidth{1e9};
  settings.delay = milliseconds(1);
  settings.buffer_bytes = buffer;
  settings.loss = loss;
  return settings;
}

}  // namespace

TEST_CASE("A train counts as the packets it stands for, each with its own headers") {
  const Bytes frame = frame_of(Kind::kTcp4, 20'000, 8948);
  const PacketTrain train = parsed(frame);
  CHECK(train.packets() == 3);
  CHECK(train.wire_bytes(0, 1) == 9000);
  CHECK(train.wire_bytes(2, 1) == 52 + 20'000 - 2 * 8948);
  CHECK(train.wire_bytes(0, 3) == 20'000 + 3 * 52);
}

TEST_CASE("A frame without segmentation is one packet and goes through untouched") {
  Bytes frame = frame_of(Kind::kTcp4, 100, 0);
  put(frame, 1, 0);
  const PacketTrain train = parsed(frame);
  CHECK(train.packets() == 1);
  CHECK(train.wire_bytes(0, 1) == 152);
  CHECK(part(train, 0, 1) == frame);
}

TEST_CASE("Every packet taken from a train has the headers that a network card would give it") {
  for (const Kind kind : {Kind::kTcp4, Kind::kTcp6, Kind::kUdp4}) {
    const Shape shape = shape_of(kind);
    const Bytes frame = frame_of(kind, 2500, 1000);
    const PacketTrain train = parsed(frame);
    REQUIRE(train.packets() == 3);
    const Bytes last = part(train, 2, 1);
    constexpr std::size_t kIp = PacketTrain::kPrefix;
    CHECK(last.size() == kIp + shape.headers() + 500);
    CHECK(get(last, 0) == 1);
    CHECK(get(last, 1) == 0);
    CHECK(std::equal(last.begin() + static_cast<std::ptrdiff_t>(kIp + shape.headers()), last.end(), frame.end() - 500));
    const std::size_t transport = kIp + shape.ip;
    if (kind == Kind::kTcp6) {
      CHECK(get_16(last, kIp + 4) == shape.transport + 500);
    } else {
      CHECK(get_16(last, kIp + 2) == shape.headers() + 500);
      CHECK(get_16(last, kIp + 4) == 0);  // 0xfffe + 2
      std::uint32_t sum = 0;
      for (std::size_t i = 0; i < shape.ip; i += 2) sum += get_16(last, kIp + i);
      CHECK(folded(sum) == 0xffff);
    }
    const std::uint32_t protocol = kind == Kind::kUdp4 ? 17 : 6;
    const std::uint32_t pseudo = folded(0x1234 + protocol + static_cast<std::uint32_t>(shape.transport + 500));
    CHECK(get_16(last, transport + (kind == Kind::kUdp4 ? 6 : 16)) == pseudo);
    if (kind == Kind::kUdp4) {
      CHECK(get_16(last, transport + 4) == 508);
    } else {
      CHECK(sequence_of(last, kind) == 0xffffff00U + 2000);
      CHECK(get(last, transport + 13) == 0x19);  // no CWR any more
      CHECK(get(part(train, 0, 2), transport + 13) == 0x90);
    }
  }
}

TEST_CASE("A train cut up anyhow, and its pieces again, holds the same packets") {
  const bool held = rc::check([](std::uint16_t payload_seed, std::uint16_t segment_seed, std::uint8_t cut_seed) {
    const Kind kind = static_cast<Kind>(cut_seed % 3);
    const Bytes frame = frame_of(kind, 1 + payload_seed % 60'000, 500 + segment_seed % 9000);
    const PacketTrain train = parsed(frame);
    const std::uint32_t cut = train.packets() < 2 ? 1 : 1 + cut_seed % (train.packets() - 1);
    std::uint64_t bytes = 0;
    for (std::uint32_t first = 0; first < train.packets(); first += cut) {
      const std::uint32_t count = std::min(cut, train.packets() - first);
      const Bytes piece = part(train, first, count);
      const PacketTrain again = parsed(piece);
      RC_ASSERT(again.packets() == count);
      bytes += again.wire_bytes(0, count);
      for (std::uint32_t i = 0; i < count; ++i) RC_ASSERT(part(again, i, 1) == part(train, first + i, 1));
    }
    RC_ASSERT(bytes == train.wire_bytes(0, train.packets()));
  });
  CHECK(held);
}

TEST_CASE("Pieces that follow each other, joined again, hold the same packets") {
  const bool held = rc::check([](std::uint16_t payload_seed, std::uint16_t segment_seed, std::uint8_t cut_seed) {
    const Kind kind = static_cast<Kind>(cut_seed % 3);
    const Bytes frame = frame_of(kind, 1 + payload_seed % 60'000, 500 + segment_seed % 5000);
    const PacketTrain train = parsed(frame);
    if (train.packets() <= 2) return;
    const std::uint32_t from = cut_seed % (train.packets() - 2);
    Bytes joined = part(train, from, 1);
    const Bytes last = part(train, from + 1, train.packets() - from - 1);
    const std::size_t headers = PacketTrain::kPrefix + train.layout().headers;
    PacketTrain::join(train.layout(), joined, last.size() - headers, last);
    joined.insert(joined.end(), last.begin() + static_cast<std::ptrdiff_t>(headers), last.end());
    const PacketTrain again = parsed(joined);
    RC_ASSERT(again.packets() == train.packets() - from);
    for (std::uint32_t i = 0; i < again.packets(); ++i) RC_ASSERT(part(again, i, 1) == part(train, from + i, 1));
  });
  CHECK(held);
}

TEST_CASE("Frames that make no sense are refused") {
  const Bytes good = frame_of(Kind::kTcp4, 3000, 1000);
  CHECK_FALSE(PacketTrain::parse(std::span(good).first(20)).has_value());
  const auto refused = [&good](std::size_t offset, int value) {
    Bytes bad = good;
    put(bad, offset, static_cast<std::size_t>(value));
    return !PacketTrain::parse(bad).has_value();
  };
  CHECK(refused(1, 3));     // a kind of segmentation that was not asked for
  CHECK(refused(6, 4));     // a transport header inside the IP header
  CHECK(refused(7, 0xff));  // and one behind the end
  Bytes no_size = good;
  put(no_size, 4, 0);
  put(no_size, 5, 0);
  CHECK_FALSE(PacketTrain::parse(no_size).has_value());
}

TEST_CASE("A link treats a train as its packets one by one: counters, drops, loss and times") {
  const bool held = rc::check([](const std::vector<std::uint16_t>& seeds, bool lossy) {
    const LinkSettings settings = fast_link(200'000, lossy ? 0.1 : 0.0);
    EmulatedLink whole(settings, settings, 7);
    EmulatedLink apart(settings, settings, 7);
    TimePoint now{std::chrono::seconds(10)};
    for (const std::uint16_t seed : seeds) {
      const Bytes frame = frame_of(Kind::kTcp4, 1 + seed * 13U % 62'000, 1000 + seed % 8000);
      const PacketTrain train = parsed(frame);
      whole.offer(train, now);
      for (std::uint32_t i = 0; i < train.packets(); ++i) apart.offer(parsed(part(train, i, 1)), now);
      now += std::chrono::microseconds(seed % 64);
    }
    std::vector<TimePoint> due;
    for (; whole.next_due() != TimePoint::max(); whole.pop_delivered()) due.push_back(whole.next_due());
    std::size_t matched = 0;
    for (; apart.next_due() != TimePoint::max(); apart.pop_delivered()) {
      if (matched < due.size() && apart.next_due() == due[matched]) ++matched;
    }
    // What arrives together arrives when its last packet would have.
    RC_ASSERT(matched == due.size());
    const LinkCounters& a = whole.counters();
    const LinkCounters& b = apart.counters();
    RC_ASSERT(a.offered_packets == b.offered_packets && a.offered_bytes == b.offered_bytes);
    RC_ASSERT(a.delivered_packets == b.delivered_packets && a.delivered_bytes == b.delivered_bytes);
    RC_ASSERT(a.dropped_packets == b.dropped_packets && a.dropped_bytes == b.dropped_bytes);
    RC_ASSERT(a.lost_packets == b.lost_packets && a.sent_bytes == b.sent_bytes);
    RC_ASSERT(a.largest_queue_bytes == b.largest_queue_bytes && a.busy_time == b.busy_time);
  });
  CHECK(held);
}

TEST_CASE("Packets that take long on the link arrive one by one though they came as a train") {
  LinkSettings slow = fast_link(1'000'000);
  slow.rate = Bandwidth{10e6};
  EmulatedLink link(slow, slow, 1);
  const Bytes frame = frame_of(Kind::kTcp4, 27'000, 8948);
  link.offer(parsed(frame), TimePoint{});
  std::vector<std::uint32_t> together;
  for (; link.next_due() != TimePoint::max(); link.pop_delivered()) together.push_back(link.front().packets);
  CHECK(together == std::vector<std::uint32_t>{1, 1, 1, 1});
}

TEST_CASE("A train that stays where it was read leaves a link as the bytes that a copied one would be") {
  const bool held = rc::check([](const std::vector<std::uint16_t>& seeds) {
    TrainMemory memory(0);
    const LinkSettings settings = fast_link(500'000);
    EmulatedLink kept(settings, settings, 7);
    EmulatedLink copied(settings, settings, 7);
    const auto deliver = [&kept, &copied] {
      PacketRecord& a = kept.front();
      PacketRecord& b = copied.front();
      Bytes whole(a.bytes().begin(), a.bytes().end());
      whole.insert(whole.end(), a.elsewhere.begin(), a.elsewhere.end());
      RC_ASSERT(whole == Bytes(b.bytes().begin(), b.bytes().end()));
      RC_ASSERT(a.due == b.due && a.continues == b.continues && a.packets == b.packets);
      kept.pop_delivered();
      copied.pop_delivered();
    };
    TimePoint now{std::chrono::seconds(10)};
    for (const std::uint16_t seed : seeds) {
      const Bytes frame = frame_of(Kind::kTcp4, 1 + seed * 13U % 62'000, 1000 + seed % 8000);
      TrainMemory::Block& block = memory.next();
      std::memcpy(block.bytes().data(), frame.data(), frame.size());
      kept.offer(parsed(std::span<const std::byte>(block.bytes()).first(frame.size())), now, Duration{0}, &block);
      copied.offer(parsed(frame), now);
      now += std::chrono::microseconds(seed % 512);
      while (kept.next_due() <= now) deliver();
    }
    while (kept.next_due() != TimePoint::max()) deliver();
    RC_ASSERT(copied.next_due() == TimePoint::max());
  });
  CHECK(held);
}

TEST_CASE("A block comes back when the last link that holds a part of it lets go, also by going down") {
  TrainMemory memory(0);
  const LinkSettings settings = fast_link(500'000);
  EmulatedLink link(settings, settings, 1);
  const Bytes frame = frame_of(Kind::kTcp4, 60'000, 8948);
  const auto offer = [&](TimePoint now) {
    TrainMemory::Block& block = memory.next();
    std::memcpy(block.bytes().data(), frame.data(), frame.size());
    const auto train = PacketTrain::parse(std::span<const std::byte>(block.bytes()).first(frame.size()));
    link.offer(*train, now, Duration{0}, &block);
    return &block;
  };
  const TimePoint start{std::chrono::seconds(10)};
  TrainMemory::Block* const first = offer(start);
  CHECK(&memory.next() != first);
  link.set_down(true, start);
  link.set_down(false, start);
  // Given back latest first, after the one that is already waiting for the next frame.
  TrainMemory::Block* const second = offer(start + std::chrono::seconds(1));
  CHECK(second != first);
  CHECK(&memory.next() == first);
  while (link.next_due() != TimePoint::max()) link.pop_delivered();
}
