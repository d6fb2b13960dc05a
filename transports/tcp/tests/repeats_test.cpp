// What a lossy path's repair lanes repeat: it comes in time, once, and never late.
#include <algorithm>

#include "support/catch.hpp"
#include "tcp/wire.hpp"
#include "two_ends.hpp"

using namespace longspan;
using namespace longspan::tcp;
using namespace longspan::tcp::testing;
using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {

constexpr std::size_t kDataLanes = 2;

/// A path that is known to lose packets; its RTT is long, so that everything in these tests is young enough to be
/// repeated.
Settings lossy() {
  Settings settings;
  settings.tier = Tier::kWan;
  settings.loss = 1e-3;
  settings.rtt = milliseconds(1000);
  settings.rate = 50e6;
  settings.credit = std::size_t{64} << 20;
  return settings;
}

bool same(const Bytes& one, const Bytes& other) {
  return std::equal(one.begin(), one.end(), other.begin(), other.end());
}

}  // namespace

TEST_CASE("what a stalled connection holds comes over another one, and is not written again when it goes on",
          "[tcp][repeats]") {
  for (const std::size_t at : {std::size_t{5'000}, std::size_t{100'000}, std::size_t{400'123}}) {
    TwoEnds ends(lossy());
    REQUIRE(ends.drive([&] { return ends.to_b->connections() == kDataLanes + 4 + 1; }));
    ends.to_b->inject({Fault::Kind::kStall, 1, true, at});
    const Bytes data = pattern(std::size_t{4} << 20, 1);
    Bytes got(data.size());
    Operation& received = ends.receive(ends.b, 1, got);
    ends.send(ends.a, 1, data);
    // Sooner than silence is noticed: no connection was replaced.
    REQUIRE(ends.drive([&] { return received.completions > 0; }, milliseconds(3000)));
    REQUIRE(ends.to_b->faults_done() == 1);
    CHECK(ends.reconnects() == 0);
    CHECK(same(got, data));
    // The buffer is its owner's again: late originals must not touch it.
    const Bytes mine = pattern(data.size(), 99);
    got = mine;
    ends.to_b->resume();
    Bytes next(data.size());
    ends.receive(ends.b, 2, next);
    ends.send(ends.a, 2, data);
    REQUIRE(ends.settle());
    CHECK(same(next, data));
    CHECK(same(got, mine));
    CHECK(ends.exactly_once());
    CHECK(ends.b.broken.empty());
  }
}

TEST_CASE("what was repeated is not applied again when its connection is replaced", "[tcp][repeats]") {
  for (const Fault::Kind kind : {Fault::Kind::kReset, Fault::Kind::kEnd}) {
    TwoEnds ends(lossy());
    REQUIRE(ends.drive([&] { return ends.to_b->connections() == kDataLanes + 4 + 1; }));
    std::vector<Bytes> got(40, Bytes(300'000));
    std::vector<Bytes> sent;
    for (std::uint32_t i = 0; i < got.size(); ++i) {
      sent.push_back(pattern(got[i].size(), i));
      ends.receive(ends.b, i, got[i]);
    }
    for (std::size_t lane = 0; lane < kDataLanes + 4; ++lane) {
      ends.to_b->inject({kind, lane, true, 200'000 + 77'777 * lane});
    }
    for (std::uint32_t i = 0; i < got.size(); ++i) {
      ends.send(ends.a, i, sent[i]);
      if (i % 8 == 7) ends.drive([] { return false; }, milliseconds(60));  // pauses, in which repeats begin
    }
    REQUIRE(ends.settle());
    for (std::size_t i = 0; i < got.size(); ++i) CHECK(same(got[i], sent[i]));
    CHECK(ends.exactly_once());
    CHECK(ends.a.broken.empty());
    CHECK(ends.b.broken.empty());
  }
}

TEST_CASE("small messages are repeated too, and messages nobody waits for yet", "[tcp][repeats]") {
  TwoEnds ends(lossy());
  REQUIRE(ends.drive([&] { return ends.to_b->connections() == kDataLanes + 4 + 1; }));
  for (std::size_t lane = 0; lane < kDataLanes; ++lane) ends.to_b->inject({Fault::Kind::kStall, lane, true, 2000});
  ends.to_b->inject({Fault::Kind::kStall, kDataLanes + 4, true, 2000});
  std::vector<Bytes> got(20, Bytes(1000));
  std::vector<Bytes> sent;
  for (std::uint32_t i = 0; i < got.size(); ++i) sent.push_back(pattern(1000, i));
  for (std::uint32_t i = 0; i < got.size(); ++i) ends.send(ends.a, i, sent[i]);
  ends.drive([] { return false; }, milliseconds(100));
  for (std::uint32_t i = 0; i < got.size(); ++i) {
    Operation& received = ends.receive(ends.b, i, got[i]);
    REQUIRE(ends.drive([&] { return received.completions > 0; }, milliseconds(3000)));
    CHECK(same(got[i], sent[i]));
  }
  ends.to_b->resume();
  CHECK(ends.settle());
  CHECK(ends.exactly_once());
  CHECK(ends.b.broken.empty());
}

TEST_CASE("forgetting a communicator in the middle of repeats leaves nothing behind", "[tcp][repeats]") {
  TwoEnds ends(lossy());
  REQUIRE(ends.drive([&] { return ends.to_b->connections() == kDataLanes + 4 + 1; }));
  ends.to_b->inject({Fault::Kind::kStall, 0, true, 100'000});
  ends.to_b->inject({Fault::Kind::kStall, kDataLanes, true, 50'000});  // a repair lane, in the middle of a repeat
  const Bytes data = pattern(std::size_t{2} << 20, 1);
  Bytes got(data.size());
  ends.receive(ends.b, 1, got, 5);
  ends.send(ends.a, 1, data, 5);
  ends.drive([] { return false; }, milliseconds(150));
  ends.b.endpoint->forget(5);
  ends.a.endpoint->forget(5);
  ends.to_b->resume();
  Bytes next(data.size());
  Operation& received = ends.receive(ends.b, 1, next, 6);
  ends.send(ends.a, 1, data, 6);
  REQUIRE(ends.drive([&] { return received.completions > 0; }));
  CHECK(same(next, data));
  CHECK(ends.a.broken.empty());
  CHECK(ends.b.broken.empty());
}

TEST_CASE("the name of a repeated frame gives back its number, near where the lane is", "[tcp][repeats]") {
  for (const std::uint64_t number : {std::uint64_t{0}, std::uint64_t{5}, std::uint64_t{0xffffff},
                                     std::uint64_t{0x1000000}, std::uint64_t{0x123456789}}) {
    for (const std::int64_t distance : {-1000, -1, 0, 1, 1000}) {
      const auto near = static_cast<std::int64_t>(number) + distance;
      if (near < 0) continue;
      const std::uint32_t name = wire::name_of_repeated(200, number);
      CHECK(wire::lane_of_repeated(name) == 200);
      CHECK(wire::number_of_repeated(name, static_cast<std::uint64_t>(near)) == number);
    }
  }
}
