// Pairs of which one side cannot be dialed: behind a NAT, or a firewall that lets nothing in.
#include <algorithm>
#include <array>

#include "support/catch.hpp"
#include "two_ends.hpp"

using namespace longspan;
using namespace longspan::tcp::testing;
using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {

using Kind = Fault::Kind;

enum class Wall : std::uint8_t { kRefuses, kSwallows };

/// What `a` dials leads nowhere.
void put_up(Wall wall, TwoEnds& ends) {
  if (wall == Wall::kRefuses) ends.to_b->vanish();
  else ends.to_b->swallow_new(true);
}

/// Messages of all sizes both ways.
class Exchange {
 public:
  explicit Exchange(TwoEnds& ends, std::uint32_t first = 0) {
    const std::array<std::size_t, 6> sizes{0, 100, 5000, 70'000, 600'000, 2'000'000};
    for (std::uint32_t i = 0; i < 2 * sizes.size(); ++i) {
      sent_.push_back(pattern(sizes[i / 2], i));
      got_.emplace_back(sizes[i / 2]);
    }
    for (std::uint32_t i = 0; i < sent_.size(); ++i) {
      ends.receive(i % 2 == 0 ? ends.b : ends.a, first + i, got_[i]);
      ends.send(i % 2 == 0 ? ends.a : ends.b, first + i, sent_[i]);
    }
  }
  bool right() const { return got_ == sent_; }

 private:
  std::vector<Bytes> sent_;
  std::vector<Bytes> got_;
};

}  // namespace

TEST_CASE("One side that can be dialed is enough", "[tcp][offers]") {
  for (const Wall wall : {Wall::kRefuses, Wall::kSwallows}) {
    for (const char* key : {"", "a key of both sides"}) {
      if (!LONGSPAN_TLS && *key != '\0') continue;
      CAPTURE(static_cast<int>(wall), key);
      Settings settings;
      settings.lanes = 3;
      settings.tier = Tier::kWan;
      settings.key = key;
      TwoEnds ends(settings);
      put_up(wall, ends);
      const Exchange exchange(ends);
      REQUIRE(ends.settle());
      CHECK(exchange.right());
      CHECK(ends.exactly_once());
      CHECK(ends.a.broken.empty());
      CHECK(ends.b.broken.empty());
    }
  }
}

TEST_CASE("Who knows that it cannot be dialed does not wait to be", "[tcp][offers]") {
  bool soon = false;
  for (int attempt = 0; attempt < 5 && !soon; ++attempt) {  // the machine may stall, but hardly each time
    Settings settings;
    settings.b_unreachable = true;
    TwoEnds ends(settings);
    put_up(Wall::kRefuses, ends);
    const TimePoint begin = Clock::now();
    const Exchange exchange(ends);
    REQUIRE(ends.settle());
    CHECK(exchange.right());
    soon = Clock::now() - begin < milliseconds(900);
  }
  CHECK(soon);
}

TEST_CASE("Connections that the other side has made heal from there, too", "[tcp][offers]") {
  for (const Kind kind : {Kind::kReset, Kind::kEnd}) {
    for (const bool forward : {true, false}) {
      CAPTURE(static_cast<int>(kind), forward);
      Settings settings;
      settings.b_unreachable = true;
      TwoEnds ends(settings);
      put_up(Wall::kRefuses, ends);
      const Exchange before(ends);
      REQUIRE(ends.settle());
      // All that goes through now was dialed by b: what it sends, and what it was offered for.
      for (std::size_t i = 0; i < ends.to_a->connections(); ++i) {
        ends.to_a->inject({kind, i, forward, ends.to_a->bytes(i, forward) + 50'000});
      }
      const Exchange during(ends, 100);
      REQUIRE(ends.settle());
      CHECK(before.right());
      CHECK(during.right());
      CHECK(ends.exactly_once());
      CHECK(ends.to_a->faults_done() > 0);
      CHECK(ends.a.broken.empty());
      CHECK(ends.b.broken.empty());
    }
  }
}

TEST_CASE("Offers that nobody needs change nothing", "[tcp][offers]") {
  Settings settings;
  settings.b_unreachable = true;  // it believes so; a dials it all the same
  settings.lanes = 2;
  TwoEnds ends(settings);
  const Exchange exchange(ends);
  REQUIRE(ends.settle());
  CHECK(exchange.right());
  const TimePoint until = Clock::now() + milliseconds(300);
  ends.drive([&] { return Clock::now() >= until; });
  const Exchange again(ends, 100);
  REQUIRE(ends.settle());
  CHECK(again.right());
  CHECK(ends.reconnects() == 0);
}

TEST_CASE("Where neither side can be dialed both say so at their deadline", "[tcp][offers]") {
  Settings settings;
  settings.patience = milliseconds(2500);
  TwoEnds ends(settings);
  ends.to_a->vanish();
  ends.to_b->vanish();
  const Exchange exchange(ends);
  REQUIRE(ends.drive([&] { return !ends.a.broken.empty() && !ends.b.broken.empty(); }));
  CHECK(std::string(ends.a.broken.front().status.message()).find("cannot be reached") != std::string::npos);
  REQUIRE(ends.settle());
}
