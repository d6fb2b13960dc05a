// Several connections to one peer: who carries what.
#include <algorithm>

#include "support/catch.hpp"
#include "two_ends.hpp"

using namespace longspan;
using namespace longspan::tcp::testing;
using std::chrono::milliseconds;
using std::chrono::seconds;

TEST_CASE("a slow connection takes only what it can carry: the others lose less than a tenth", "[tcp][lanes]") {
  constexpr double kFast = 25e6;  // slow enough for any machine to keep up
  constexpr std::size_t kLanes = 4;
  constexpr std::size_t kBytes = std::size_t{192} << 20;
  Settings settings;
  settings.lanes = kLanes;
  TwoEnds ends(settings);
  for (std::size_t i = 0; i <= kLanes; ++i) ends.to_b->throttle(i, i == 0 ? kFast / 10 : kFast);
  const Bytes data = pattern(kBytes, 1);
  Bytes got(kBytes);
  ends.receive(ends.b, 1, got);
  const TimePoint begin = Clock::now();
  ends.send(ends.a, 1, data);
  REQUIRE(ends.settle());
  CHECK(got == data);
  CHECK(ends.to_b->bytes(0, true) > 0);
  // Taken from the clock of this very transfer, so that a machine that cannot fill the fast ones does not fail it.
  TimePoint others_done = begin;
  for (std::size_t i = 1; i < kLanes; ++i) others_done = std::max(others_done, ends.to_b->last_passed(i, true));
  const std::chrono::duration<double> tail = ends.to_b->last_passed(0, true) - others_done;
  const std::chrono::duration<double> others = others_done - begin;
  INFO("the slow connection carried " << ends.to_b->bytes(0, true) << " of " << kBytes << " bytes");
  CHECK(tail.count() <= others.count() / 9);
}

TEST_CASE("small messages pass while every connection for bulk data stands still", "[tcp][lanes]") {
  for (const bool wan : {false, true}) {
    Settings settings;
    settings.lanes = wan ? 1 : 2;
    settings.tier = wan ? Tier::kWan : Tier::kSite;
    settings.window = wan ? std::size_t{4} << 20 : 0;
    settings.rtt = milliseconds(2000);  // silence is noticed after four times that
    TwoEnds ends(settings);
    const auto bulk_lanes = static_cast<std::size_t>(settings.lanes);
    for (std::size_t i = 0; i < bulk_lanes; ++i) ends.to_b->inject({Fault::Kind::kStall, i, true, 200'000});
    const Bytes bulk = pattern(std::size_t{32} << 20, 1);
    Bytes got_bulk(bulk.size());
    ends.receive(ends.b, 1, got_bulk);
    ends.send(ends.a, 1, bulk);
    REQUIRE(ends.drive([&] { return ends.to_b->faults_done() == bulk_lanes; }));
    std::vector<Bytes> got(50, Bytes(4096));
    const Bytes small = pattern(4096, 2);
    for (std::uint32_t i = 0; i < got.size(); ++i) {
      Operation& received = ends.receive(ends.b, 10 + i, got[i]);
      ends.send(ends.a, 10 + i, small);
      // Sooner than silence is noticed: they did not wait for a new connection.
      REQUIRE(ends.drive([&] { return received.completions > 0; }, milliseconds(6000)));
      CHECK(got[i] == small);
      if (ends.reconnects() > 0) break;  // a machine so slow that the bulk lanes were replaced meanwhile
    }
    ends.to_b->resume();
    CHECK(ends.settle());
    CHECK(got_bulk == bulk);
  }
}

TEST_CASE("without bulk data every lane carries small messages", "[tcp][lanes]") {
  Settings settings;
  settings.lanes = 2;
  TwoEnds ends(settings);
  const Bytes small = pattern(8000, 3);
  std::vector<Bytes> got(300, Bytes(small.size()));
  for (std::uint32_t i = 0; i < got.size(); ++i) ends.receive(ends.b, i, got[i]);
  REQUIRE(ends.drive([&] { return ends.to_b->connections() == 3; }));
  for (std::uint32_t i = 0; i < got.size(); ++i) {
    ends.send(ends.a, i, small);
    ends.drive([polls = 0]() mutable { return ++polls > 1; });
  }
  REQUIRE(ends.settle());
  for (std::size_t i = 0; i < 3; ++i) CHECK(ends.to_b->bytes(i, true) > 100'000);
  CHECK(std::all_of(got.begin(), got.end(), [&](const Bytes& one) { return one == small; }));
}

namespace {

/// Median time of a 4 KiB message from a to b, in microseconds.
double latency_us(TwoEnds& ends, std::uint32_t first) {
  const Bytes small = pattern(4096, 2);
  Bytes got(small.size());
  std::vector<double> times;
  for (std::uint32_t i = 0; i < 201; ++i) {
    Operation& received = ends.receive(ends.b, first + i, got);
    const TimePoint start = Clock::now();
    ends.send(ends.a, first + i, small);
    if (!ends.drive([&] { return received.completions > 0; })) return -1;
    times.push_back(std::chrono::duration<double>(Clock::now() - start).count() * 1e6);
    ends.drive([] { return false; }, milliseconds(4));  // not so many that they are bulk data themselves
  }
  std::nth_element(times.begin(), times.begin() + 100, times.end());
  return times[100];
}

}  // namespace

TEST_CASE("how long a small message takes beside bulk data", "[tcp][.measure]") {
  for (const bool paced : {false, true}) {
    Settings settings;
    settings.tier = Tier::kWan;
    settings.window = std::size_t{4} << 20;
    settings.rate = paced ? 50e6 : 0;
    TwoEnds ends(settings);
    if (!paced) ends.to_b->throttle(0, 50e6);
    REQUIRE(ends.drive([&] { return ends.to_b->connections() == 2; }));
    const double idle = latency_us(ends, 10);
    const Bytes bulk = pattern(std::size_t{64} << 20, 1);
    Bytes got(bulk.size());
    Operation& received = ends.receive(ends.b, 1, got);
    ends.send(ends.a, 1, bulk);
    const double busy = latency_us(ends, 1000);
    WARN((paced ? "paced" : "throttled") << " to 50 MB/s: idle " << idle << " us, beside bulk data " << busy << " us"
                                         << (received.completions > 0 ? " (bulk was over)" : ""));
    CHECK(ends.settle(seconds(30)));
  }
}
