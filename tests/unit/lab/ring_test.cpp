#include <rapidcheck.h>

#include <cstring>
#include <deque>
#include <vector>

#include "lab/packet_ring.hpp"
#include "support/catch.hpp"

using namespace longspan;
using namespace longspan::lab;

namespace {

std::vector<std::byte> packet_of(std::size_t length, int seed) {
  std::vector<std::byte> packet(length);
  for (std::size_t i = 0; i < length; ++i) packet[i] = static_cast<std::byte>(seed + static_cast<int>(i));
  return packet;
}

PacketRecord* push(PacketRing& ring, const std::vector<std::byte>& packet) {
  PacketRecord* const record = ring.push(packet.size());
  if (record != nullptr) std::memcpy(record->bytes().data(), packet.data(), packet.size());
  return record;
}

bool same(std::span<const std::byte> a, const std::vector<std::byte>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), b.size()) == 0;
}

}  // namespace

TEST_CASE("A ring gives back what was put in, in order, however packets of all sizes wrap around its end") {
  const bool held = rc::check([](const std::vector<std::uint16_t>& choices) {
    PacketRing ring(4096);
    std::deque<std::vector<std::byte>> model;
    for (std::size_t i = 0; i < choices.size() * 8; ++i) {
      const unsigned choice = choices[i % choices.size()] + static_cast<unsigned>(i) * 7;
      if (choice % 3 != 0) {
        auto packet = packet_of(1 + choice % 900, static_cast<int>(choice));
        if (push(ring, packet) != nullptr) model.push_back(std::move(packet));
      } else if (!model.empty()) {
        RC_ASSERT(same(ring.front().bytes(), model.front()));
        ring.pop();
        model.pop_front();
      }
      RC_ASSERT(ring.records() == model.size());
    }
    for (; !model.empty(); model.pop_front(), ring.pop()) RC_ASSERT(same(ring.front().bytes(), model.front()));
    RC_ASSERT(ring.empty());
  });
  CHECK(held);
}

TEST_CASE("A full ring refuses a packet and keeps the others") {
  PacketRing ring(4096);
  const auto packet = packet_of(1000, 1);
  int taken = 0;
  while (push(ring, packet) != nullptr) ++taken;
  CHECK(taken >= 3);
  CHECK(ring.records() == static_cast<std::size_t>(taken));
  CHECK(same(ring.front().bytes(), packet));
}

TEST_CASE("Truncation removes the packets that leave later, also across the end of the ring") {
  PacketRing ring(5000);  // room for five
  const auto packet = packet_of(900, 1);
  const TimePoint start{};
  int number = 0;
  const auto push_next = [&] { push(ring, packet)->departs = start + std::chrono::seconds(number++); };
  for (int i = 0; i < 5; ++i) push_next();
  for (int i = 0; i < 4; ++i) ring.pop();
  for (int i = 0; i < 3; ++i) push_next();  // 4 is left, 5 to 7 wrapped
  CHECK(ring.truncate_after(start + std::chrono::seconds(5)) == 2);
  CHECK(ring.records() == 2);
  push_next();
  std::vector<TimePoint> left;
  ring.for_each([&left](const PacketRecord& record) {
    left.push_back(record.departs);
    return true;
  });
  CHECK(left == std::vector<TimePoint>{start + std::chrono::seconds(4), start + std::chrono::seconds(5),
                                       start + std::chrono::seconds(8)});
}
