#include <rapidcheck.h>

#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "runtime/epoch_desk.hpp"
#include "support/catch.hpp"

using namespace longspan;
using namespace longspan::runtime;
using namespace std::chrono_literals;

namespace {

constexpr std::uint64_t kComm = 7;

/// Ranks whose notes take as long as the test wants; those between two ranks stay in order.
class Ranks {
 public:
  explicit Ranks(int size) {
    for (int r = 0; r < size; ++r) hosts.push_back(std::make_unique<Rank>(*this, r));
    for (int r = 0; r < size; ++r) {
      hosts[static_cast<std::size_t>(r)]->desk =
          std::make_unique<EpochDesk>(*hosts[static_cast<std::size_t>(r)], r, size, 1);
    }
  }

  struct Rank final : EpochDesk::Host {
    Rank(Ranks& all, int rank) : ranks(all), number(rank) {}
    void send(int rank, std::string note) override { ranks.wires[{number, rank}].push_back(std::move(note)); }
    bool gone(int rank) const override { return ranks.at(rank).left; }
    std::vector<EpochDesk::Position> positions() const override { return {{kComm, next}}; }
    TimePoint now() const override { return ranks.now; }
    void changed() override {}
    /// Starts its next collective, if it may; remembers from which epoch it planned it.
    bool start() {
      if (next >= desk->limit(kComm)) return false;
      planned.push_back(desk->epoch_of(kComm, next++, 0));
      return true;
    }
    Ranks& ranks;
    int number;
    bool left = false;
    std::uint32_t next = 0;
    std::vector<std::size_t> planned;
    std::unique_ptr<EpochDesk> desk;
  };

  Rank& at(int rank) { return *hosts[static_cast<std::size_t>(rank)]; }
  bool deliver(int from, int to) {
    auto& wire = wires[{from, to}];
    if (wire.empty()) return false;
    const std::string note = std::move(wire.front());
    wire.pop_front();
    at(to).desk->handle(from, note);
    return true;
  }
  void deliver_all() {
    for (bool any = true; any;) {
      any = false;
      for (int a = 0; a < static_cast<int>(hosts.size()); ++a) {
        for (int b = 0; b < static_cast<int>(hosts.size()); ++b) any |= deliver(a, b);
      }
    }
  }
  /// A steward sees this share for a while.
  void measure(int steward, double share, Duration time) {
    for (const TimePoint end = now + time; now < end; now += 100ms) at(steward).desk->measured(0, share);
  }

  TimePoint now{1h};
  std::map<std::pair<int, int>, std::deque<std::string>> wires;
  std::vector<std::unique_ptr<Rank>> hosts;
};

}  // namespace

TEST_CASE("A lasting difference becomes a new epoch on all ranks, and so does its end; a passing one does not") {
  Ranks ranks(4);
  ranks.measure(2, 0.6, 800ms);
  ranks.measure(2, 1.0, 3s);
  ranks.deliver_all();
  for (int r = 0; r < 4; ++r) CHECK(ranks.at(r).desk->latest() == 0);
  ranks.measure(2, 0.6, 2s);
  ranks.deliver_all();
  for (int r = 0; r < 4; ++r) {
    REQUIRE(ranks.at(r).desk->latest() == 1);
    CHECK(ranks.at(r).desk->epoch(1).shares[0] > 0.55);
    CHECK(ranks.at(r).desk->epoch(1).shares[0] < 0.65);
  }
  ranks.measure(2, 0.62, 20s);
  ranks.deliver_all();
  CHECK(ranks.at(1).desk->latest() == 1);
  ranks.measure(2, 1.0, 10s);
  ranks.deliver_all();
  for (int r = 0; r < 4; ++r) {
    REQUIRE(ranks.at(r).desk->latest() == 2);
    CHECK(ranks.at(r).desk->epoch(2).shares[0] == 1);
  }
}

TEST_CASE("Whatever the order of calls and notes, all ranks plan each collective from the same epoch") {
  CHECK(rc::check([] {
    const int size = *rc::gen::inRange(2, 6);
    Ranks ranks(size);
    for (int epoch = 1; epoch <= 3; ++epoch) {
      const int steps = *rc::gen::inRange(0, 60);
      ranks.measure(0, epoch % 2 == 1 ? 0.5 : 1.0, 15s);
      for (int i = 0; i < steps; ++i) {
        const int a = *rc::gen::inRange(0, size);
        const int b = *rc::gen::inRange(0, size);
        if (a == b) ranks.at(a).start();
        else ranks.deliver(a, b);
      }
      if (*rc::gen::arbitrary<bool>()) ranks.deliver_all();
    }
    ranks.deliver_all();
    for (int r = 0; r < size; ++r) {
      while (ranks.at(r).next < 300) RC_ASSERT(ranks.at(r).start());
      RC_ASSERT(ranks.at(r).planned == ranks.at(0).planned);
    }
    RC_ASSERT(ranks.at(0).planned.back() > 0U);
  }));
}

TEST_CASE("A rank that does not answer keeps the others waiting for a few seconds, and one that has left not at all") {
  Ranks ranks(3);
  ranks.measure(0, 0.5, 5s);
  ranks.deliver(0, 1);
  ranks.deliver(1, 0);
  while (ranks.at(1).start()) {
  }
  CHECK(ranks.at(1).next == 4);
  ranks.now += 6s;
  ranks.at(0).desk->poll();
  ranks.deliver(0, 1);
  CHECK(ranks.at(1).start());
  CHECK(ranks.at(1).desk->latest() == 0);
  ranks.at(2).left = true;
  ranks.measure(0, 0.5, 10s);
  while (ranks.deliver(0, 1) || ranks.deliver(1, 0)) {
  }
  CHECK(ranks.at(1).desk->latest() == 1);
  CHECK(ranks.at(0).desk->latest() == 1);
}

TEST_CASE("Notes that make no sense change nothing") {
  CHECK(rc::check([](const std::string& note) {
    Ranks ranks(2);
    ranks.at(0).desk->handle(1, note);
    ranks.at(1).desk->handle(0, note);
    RC_ASSERT(ranks.at(0).desk->latest() == 0U);
  }));
}
