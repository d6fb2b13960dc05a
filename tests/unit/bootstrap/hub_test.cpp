#include "bootstrap/hub.hpp"

#include "support/catch.hpp"

using namespace longspan;
using namespace longspan::bootstrap;
using std::chrono::milliseconds;

namespace {

struct Recorder final : Hub::Outlet {
  void send(int rank, const ControlMessage& message) override {
    sent.emplace_back(rank, message.type);
    inquiry = message.inquiry;
  }
  void decided(const Verdict& verdict) override { verdicts.push_back(verdict); }
  WaitReport own_report(std::uint64_t comm, std::uint64_t seq) override { return in_it(comm, seq); }
  static WaitReport in_it(std::uint64_t comm, std::uint64_t seq) {
    WaitReport r;
    r.comm = comm;
    r.seq = seq;
    r.member = true;
    r.next_seq = seq + 1;
    return r;
  }
  std::vector<std::pair<int, ControlType>> sent;
  std::vector<Verdict> verdicts;
  std::uint32_t inquiry = 0;
};

Fault timeout_in(std::uint64_t comm, int blamed) {
  return Fault{comm, 7, -1, StatusCode::kTimeout, blamed, "timed out", -1};
}

struct Fixture {
  Recorder out;
  TimePoint now = Clock::now();
  Hub hub{0, 4, true, true, HubOptions{}, out, now};
};

}  // namespace

TEST_CASE("the hub asks all ranks once, and decides as soon as all have answered") {
  Fixture f;
  f.hub.fault(1, timeout_in(5, 2), f.now);
  f.hub.fault(3, timeout_in(5, 2), f.now);
  CHECK(f.out.sent.size() == 3);
  for (const int rank : {1, 2, 3}) {
    f.hub.tick(f.now);
    CHECK(f.out.verdicts.empty());
    WaitReport r = Recorder::in_it(5, 7);
    if (rank == 2) r.next_seq = 7;
    f.hub.report(rank, f.out.inquiry, r, f.now);
  }
  CHECK(f.hub.next_deadline() <= f.now);
  f.hub.tick(f.now);
  REQUIRE(f.out.verdicts.size() == 1);
  CHECK(f.out.verdicts[0].root == 2);
  // Who reports late gets the same verdict.
  f.out.sent.clear();
  f.hub.fault(2, timeout_in(5, 1), f.now);
  CHECK(f.out.sent == std::vector<std::pair<int, ControlType>>{{2, ControlType::kVerdict}});
  f.hub.tick(f.now + std::chrono::seconds(5));
  CHECK(f.out.verdicts.size() == 1);
}

TEST_CASE("the hub decides without those that do not answer") {
  Fixture f;
  f.hub.fault(1, timeout_in(5, 3), f.now);
  for (const int rank : {1, 2}) f.hub.report(rank, f.out.inquiry, Recorder::in_it(5, 7), f.now);
  f.hub.tick(f.now + milliseconds(349));
  CHECK(f.out.verdicts.empty());
  CHECK(f.hub.next_deadline() == f.now + milliseconds(350));
  f.hub.tick(f.now + milliseconds(350));
  REQUIRE(f.out.verdicts.size() == 1);
  CHECK(f.out.verdicts[0].root == 3);
}

TEST_CASE("the hub does not wait for ranks that it has not heard for long") {
  Fixture f;
  const TimePoint then = f.now + milliseconds(2400);
  for (const int rank : {1, 2}) f.hub.heard(rank, then);
  f.hub.fault(1, timeout_in(5, 3), then);
  for (const int rank : {1, 2}) f.hub.report(rank, f.out.inquiry, Recorder::in_it(5, 7), then);
  CHECK(f.hub.next_deadline() == f.now + milliseconds(2500));
  f.hub.tick(f.now + milliseconds(2499));
  CHECK(f.out.verdicts.empty());
  f.hub.tick(f.now + milliseconds(2500));
  REQUIRE(f.out.verdicts.size() == 1);
  CHECK(f.out.verdicts[0].root == 3);
}

TEST_CASE("deaths within a moment share one verdict; a second witness makes it quicker and surer") {
  Fixture f;
  f.hub.lost(2, f.now);
  CHECK(f.hub.next_deadline() == f.now + milliseconds(300));
  f.hub.lost(3, f.now + milliseconds(10));
  f.hub.witnessed(2, f.now);
  f.hub.witnessed(3, f.now);
  CHECK(f.hub.next_deadline() == f.now + milliseconds(50));
  f.hub.tick(f.now + milliseconds(49));
  CHECK(f.out.verdicts.empty());
  f.hub.tick(f.now + milliseconds(50));
  REQUIRE(f.out.verdicts.size() == 1);
  CHECK(f.out.verdicts[0].text == "rank 2 and rank 3 died: the process ended without saying goodbye");
  CHECK(f.out.verdicts[0].comm == kEveryCommunicator);
  f.hub.tick(f.now + std::chrono::seconds(1));
  CHECK(f.out.verdicts.size() == 1);
}

TEST_CASE("a broken connection waits for the death that it may be the first sign of") {
  Fixture f;
  f.hub.fault(1, Fault{5, 7, -1, StatusCode::kPeerLost, 2, "reset", -1}, f.now);
  for (const int rank : {1, 3}) f.hub.report(rank, f.out.inquiry, Recorder::in_it(5, 7), f.now);
  f.hub.report(2, f.out.inquiry, Recorder::in_it(5, 7), f.now);
  f.hub.tick(f.now + milliseconds(100));
  CHECK(f.out.verdicts.empty());
  f.hub.lost(2, f.now + milliseconds(120));
  f.hub.witnessed(2, f.now + milliseconds(120));
  f.hub.tick(f.now + milliseconds(300));
  REQUIRE(f.out.verdicts.size() == 2);
  for (const Verdict& v : f.out.verdicts) CHECK(v.root == 2);
  CHECK(f.out.verdicts[1].text == f.out.verdicts[0].text);
}

TEST_CASE("a passive hub says nothing, and once active it tells what it saw") {
  Recorder out;
  const TimePoint now = Clock::now();
  Hub hub(1, 4, false, true, HubOptions{}, out, now);
  hub.lost(0, now);
  hub.tick(now + milliseconds(400));
  CHECK(out.verdicts.empty());
  CHECK(hub.next_deadline() == TimePoint::max());
  hub.activate();
  hub.tick(now + milliseconds(400));
  REQUIRE(out.verdicts.size() == 1);
  CHECK(out.verdicts[0].root == 0);
}

TEST_CASE("ranks gone mad cannot fill the hub's memory") {
  Fixture f;
  for (std::uint64_t i = 0; i < 100000; ++i) f.hub.fault(1, timeout_in(i, 99999), f.now);
  CHECK(f.out.sent.size() <= 3 * 256);
  f.hub.witnessed(-5, f.now);
  f.hub.witnessed(77, f.now);
  f.hub.report(1, 12345, WaitReport{}, f.now);
  f.hub.tick(f.now + std::chrono::seconds(1));
  CHECK(f.out.verdicts.size() == 256);
}
