#include "bootstrap/root_cause.hpp"

#include "support/catch.hpp"

using namespace longspan;
using namespace longspan::bootstrap;

namespace {

constexpr std::uint64_t kSeq = 7;

CallDescriptor call_of(std::uint64_t count) {
  CallDescriptor call;
  call.count = count;
  call.algorithm = "ring";
  return call;
}

WaitReport in_it(std::vector<int> waiting_on, std::uint64_t count = 1024) {
  return WaitReport{1, kSeq, true, kSeq + 1, true, call_of(count), std::move(waiting_on), 5};
}

/// Four ranks in allreduce #7, each waiting for the one before it; rank 0 reports a timeout.
Case usual() {
  Case c;
  c.comm = 1;
  c.ranks.resize(4);
  for (int i = 0; i < 4; ++i) c.ranks[static_cast<std::size_t>(i)].report = in_it({(i + 3) % 4});
  c.faults.push_back(Fault{1, kSeq, 5, StatusCode::kTimeout, 3, "rank 0 waits for rank 3", 0});
  return c;
}

Fault fault(StatusCode code, int reporter, int blamed, std::string text = "text") {
  return Fault{1, kSeq, -1, code, blamed, std::move(text), reporter};
}

}  // namespace

TEST_CASE("a dead rank that is waited for is the cause of everything else") {
  Case c = usual();
  c.faults.push_back(fault(StatusCode::kAborted, 2, -1));
  c.faults.push_back(fault(StatusCode::kPeerLost, 0, 3));
  c.ranks[3].report.reset();
  c.ranks[3].life = Life::kDead;
  const Verdict v = find_root_cause(c);
  CHECK(v.root == 3);
  CHECK(v.status().to_string() == "peer lost: rank 3 died: the process ended without saying goodbye");
}

TEST_CASE("a dead rank that nobody needs is not blamed") {
  Case c = usual();
  c.ranks.push_back(RankState{Life::kDead, 0, std::nullopt});
  CHECK(find_root_cause(c).root != 4);
}

TEST_CASE("abort comes before what it brings about") {
  Case c = usual();
  c.faults.push_back(fault(StatusCode::kAborted, 2, -1, "rank 2 called abort()"));
  const Verdict v = find_root_cause(c);
  CHECK(v.root == 2);
  CHECK(v.code == StatusCode::kAborted);
  CHECK(v.text == "rank 2 called abort()");
}

TEST_CASE("calls that differ are named with what differs, the few against the many") {
  Case c = usual();
  const auto text = [&] { return find_root_cause(c).text; };
  SECTION("count") {
    c.ranks[2].report = in_it({1}, 1000);
    CHECK(text() == "rank 2 called allreduce #7 with count 1000, the other 3 ranks with count 1024");
  }
  SECTION("type") {
    c.ranks[2].report->call->type = DataType::kFloat64;
    CHECK(text() == "rank 2 called allreduce #7 with type double, the other 3 ranks with type float");
  }
  SECTION("op") {
    c.ranks[1].report->call->op = ReduceOp::kMax;
    CHECK(text() == "rank 1 called allreduce #7 with op max, the other 3 ranks with op sum");
  }
  SECTION("root") {
    for (auto& r : c.ranks) r.report->call->kind = Collective::kBroadcast;
    c.ranks[3].report->call->root = 3;
    CHECK(text() == "rank 3 called broadcast #7 with root 3, the other 3 ranks with root 0");
  }
  SECTION("algorithm") {
    c.ranks[0].report->call->algorithm = "tree";
    CHECK(text() == "rank 0 called allreduce #7 with algorithm tree, the other 3 ranks with algorithm ring");
  }
  SECTION("another collective") {
    c.ranks[3].report->call->kind = Collective::kBarrier;
    CHECK(text() == "collective #7: rank 3 called barrier, the other 3 ranks allreduce");
  }
  SECTION("two ranks") {
    c.ranks.resize(2);
    c.faults[0].blamed = 1;
    c.ranks[1].report = in_it({0}, 1000);
    CHECK(text() == "rank 1 called allreduce #7 with count 1000, rank 0 with count 1024");
  }
  SECTION("everyone something else") {
    for (std::size_t i = 0; i < 4; ++i) c.ranks[i].report->call->count = 10 + i;
    CHECK(text() == "rank 1 called allreduce #7 with count 11, rank 0 with count 10; 4 different calls in all");
  }
  CHECK(find_root_cause(c).code == StatusCode::kMismatch);
}

TEST_CASE("an error of one rank alone comes before the timeouts of the others") {
  Case c = usual();
  c.faults.push_back(fault(StatusCode::kResource, 1, -1, "rank 1 has no memory"));
  const Verdict v = find_root_cause(c);
  CHECK(v.root == 1);
  CHECK(v.status().to_string() == "out of resources: rank 1 has no memory");
}

TEST_CASE("a rank that does not answer is named with how long it has been silent") {
  Case c = usual();
  c.ranks[2].report.reset();
  c.ranks[2].silent_seconds = 12.34;
  const Verdict v = find_root_cause(c);
  CHECK(v.root == 2);
  CHECK(v.text ==
        "rank 2 does not answer and is silent since 12.3 s: it is stopped, overloaded, or cut off from the network; "
        "allreduce #7 "
        "cannot finish");
}

TEST_CASE("a connection that broke between two living ranks names both ends") {
  Case c = usual();
  c.faults.push_back(fault(StatusCode::kPeerLost, 2, 1, "Connection reset by peer"));
  const Verdict v = find_root_cause(c);
  CHECK(v.root == 1);
  CHECK(v.text ==
        "the connection from rank 2 to rank 1 broke in allreduce #7 while both run (Connection reset by peer)");
}

TEST_CASE("ranks that have not entered the collective are named, the furthest behind first") {
  Case c = usual();
  c.ranks[3].report = WaitReport{1, kSeq, true, kSeq, false, std::nullopt, {}, -1};
  CHECK(find_root_cause(c).text ==
        "allreduce #7 did not finish in time: rank 3 has not entered it (its last was #6, and it runs none)");
  c.ranks[1].report = WaitReport{1, kSeq, true, 5, true, std::nullopt, {}, -1};
  CHECK(find_root_cause(c).root == 1);
  CHECK(find_root_cause(c).text == "allreduce #7 did not finish in time: rank 1 has not entered it (still in #4)");
  c.ranks[1].report->next_seq = 0;
  CHECK(find_root_cause(c).text ==
        "allreduce #7 did not finish in time: rank 1 has not entered it (it has called no collective yet)");
}

TEST_CASE("ranks outside the communicator have no part in it") {
  Case c = usual();
  c.ranks[3].report = WaitReport{};
  c.ranks[0].report->waiting_on = {2};
  CHECK(find_root_cause(c).text.find("rank 3") == std::string::npos);
}

TEST_CASE("when all are in it, the chain of waits is told") {
  Case c = usual();
  c.ranks[2].report->waiting_on = {};
  CHECK(find_root_cause(c).root == 2);
  CHECK(find_root_cause(c).text.find("rank 0 waits for rank 3 at step 5, rank 3 waits for rank 2 at step 5;") !=
        std::string::npos);
}

TEST_CASE("a rank that left is told from one that died") {
  Case c = usual();
  c.ranks[3].report.reset();
  c.ranks[3].life = Life::kLeft;
  CHECK(find_root_cause(c).text ==
        "rank 3 closed its communicator and left, while rank 0 waits for it in allreduce #7");
}

TEST_CASE("nothing known but the fault itself is told as it is") {
  Case c;
  c.ranks.resize(2);
  c.ranks[0].report = WaitReport{};
  c.ranks[1].report = WaitReport{};
  c.faults.push_back(Fault{1, kNoSeq, -1, StatusCode::kTimeout, 1, "receive from rank 1 timed out", 0});
  const Verdict v = find_root_cause(c);
  CHECK(v.text == "receive from rank 1 timed out");
  CHECK(v.root == 1);
}
