#include <fmt/format.h>
#include <poll.h>
#include <signal.h>

#include <algorithm>
#include <array>

#include "bootstrap/control.hpp"
#include "processes.hpp"
#include "support/catch.hpp"

using namespace longspan;
using namespace longspan::bootstrap;
using namespace longspan::bootstrap::testing;
using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {

constexpr std::uint64_t kComm = 42;

/// One rank with its control plane: reports what `report` holds, and says every verdict.
struct Member {
  /// `collect`: ranks that live answer in that time, also on a machine that stalls.
  Member(int rank, int size, int port, const Ranks::Say& out, Duration collect = seconds(10)) : say(out) {
    auto met = exchange(request(rank, size, port, seconds(20)));
    if (!met.ok()) {
      say(met.status().to_string());
      return;
    }
    report.member = true;
    ControlOptions options;
    options.heartbeat = milliseconds(100);
    options.hub.collect = collect;
    options.wait_report = [this](std::uint64_t comm, std::uint64_t seq) {
      WaitReport answer = report;
      if (answer.call && seq >= answer.next_seq) answer.call.reset();
      answer.member = comm == kComm;
      return answer;
    };
    auto created = ControlPlane::create(std::move(*met), options);
    if (!created.ok()) {
      say(created.status().to_string());
      return;
    }
    control = std::move(*created);
    say("joined");
  }

  /// Progress until a verdict came (true), or the gate is open; ends in any case before the test gives up.
  bool run(const Gate* gate = nullptr) {
    const TimePoint until = Clock::now() + seconds(60);
    while (Clock::now() < until) {
      std::array<pollfd, 2> waits{{{control->wait_fd(), POLLIN, 0}, {gate != nullptr ? gate->fd() : -1, POLLIN, 0}}};
      ::poll(waits.data(), waits.size(), poll_timeout_ms(Clock::now(), std::min(until, control->next_deadline())));
      control->poll();
      while (auto v = control->next_verdict()) {
        const char* where = v->comm == kComm ? "comm" : v->comm == kEveryCommunicator ? "all" : "other";
        say(fmt::format("{} root {} {}", where, v->root, v->status().to_string()));
        if (v->comm == kComm) return true;
      }
      if (waits[1].revents != 0) return false;
    }
    return false;
  }

  Fault fault(StatusCode code, int blamed, std::string text) const {
    Fault f;
    f.comm = kComm;
    f.seq = 7;
    f.code = code;
    f.blamed = blamed;
    f.text = std::move(text);
    return f;
  }

  const Ranks::Say& say;
  WaitReport report;
  std::unique_ptr<ControlPlane> control;
};

CallDescriptor call_of(std::uint64_t count) {
  CallDescriptor call;
  call.count = count;
  call.algorithm = "ring";
  return call;
}

std::string joined(Ranks& ranks, int size) {
  for (int i = 0; i < size; ++i) {
    if (const auto said = ranks.next(i); said != "joined") return said;
  }
  return "joined";
}

}  // namespace

TEST_CASE("when a rank is killed, all others know its name within a second and a half") {
  const int size = GENERATE(2, 3, 4, 8);
  const int victim = GENERATE(0, 1, 2);
  if (victim >= size) return;
  CHECK(once_of_five([&] {
    const int port = free_port();
    Ranks ranks;
    for (int i = 0; i < size; ++i) {
      ranks.start(i, [&](int rank, const auto& say) { Member(rank, size, port, say).run(); });
    }
    REQUIRE(joined(ranks, size) == "joined");
    const auto killed = Clock::now();
    ranks.signal(victim, SIGKILL);
    for (int i = 0; i < size; ++i) {
      if (i == victim) continue;
      CHECK(lacks(ranks.next(i),
                  {fmt::format("all root {} peer lost: rank {} (host host-{}) died", victim, victim, victim)}) == "");
    }
    return Clock::now() - killed < milliseconds(1500);
  }));
}

TEST_CASE("rank 0 and the standby die together, and the others still know") {
  const int port = free_port();
  Ranks ranks;
  for (int i = 0; i < 4; ++i) {
    ranks.start(i, [&](int rank, const auto& say) { Member(rank, 4, port, say).run(); });
  }
  REQUIRE(joined(ranks, 4) == "joined");
  ranks.signal(0, SIGKILL);
  ranks.signal(1, SIGKILL);
  for (const int i : {2, 3}) CHECK(lacks(ranks.next(i), {"all root 0 peer lost: rank 0 (host host-0)"}) == "");
}

TEST_CASE("abort on one rank reaches all at once, with its reason") {
  const int aborter = GENERATE(0, 1, 3);
  const int port = free_port();
  Ranks ranks;
  for (int i = 0; i < 4; ++i) {
    ranks.start(i, [&](int rank, const auto& say) {
      Member member(rank, 4, port, say);
      if (rank == aborter) member.control->send_fault(member.fault(StatusCode::kAborted, -1, "the user said so"));
      member.run();
    });
  }
  REQUIRE(joined(ranks, 4) == "joined");
  for (int i = 0; i < 4; ++i) CHECK(ranks.next(i) == fmt::format("comm root {} aborted: the user said so", aborter));
}

TEST_CASE("a call with another count is named on all ranks, whoever notices") {
  const int noticer = GENERATE(0, 2, 3);
  const int port = free_port();
  Ranks ranks;
  for (int i = 0; i < 4; ++i) {
    ranks.start(i, [&](int rank, const auto& say) {
      Member member(rank, 4, port, say);
      member.report.next_seq = 8;
      member.report.call = call_of(rank == 2 ? 1000 : 1024);
      if (rank == noticer) member.control->send_fault(member.fault(StatusCode::kMismatch, 1, "digests differ"));
      member.run();
    });
  }
  REQUIRE(joined(ranks, 4) == "joined");
  for (int i = 0; i < 4; ++i) {
    CHECK(ranks.next(i) ==
          "comm root 2 mismatch: rank 2 (host host-2) called allreduce #7 with count 1000, the other 3 ranks with "
          "count 1024");
  }
}

TEST_CASE("a rank that has not entered the collective is named when the deadline passes") {
  const int port = free_port();
  Ranks ranks;
  for (int i = 0; i < 4; ++i) {
    ranks.start(i, [&](int rank, const auto& say) {
      Member member(rank, 4, port, say);
      member.report.next_seq = rank == 3 ? 7 : 8;
      if (rank != 3) {
        member.report.call = call_of(1024);
        member.report.waiting_on = {(rank + 3) % 4};
        // Each blames its neighbour.
        member.control->send_fault(member.fault(StatusCode::kTimeout, (rank + 3) % 4, "waits for its neighbour"));
      }
      member.run();
    });
  }
  REQUIRE(joined(ranks, 4) == "joined");
  for (int i = 0; i < 4; ++i) {
    CHECK(ranks.next(i) ==
          "comm root 3 timeout: allreduce #7 did not finish in time: rank 3 (host host-3) has not entered it (its last "
          "was #6, "
          "and it runs none)");
  }
}

TEST_CASE("a stopped rank is no verdict until a deadline passes, then it is named") {
  const int stopped = GENERATE(0, 1, 3);
  const int port = free_port();
  Gate deadline;
  Ranks ranks;
  for (int i = 0; i < 4; ++i) {
    ranks.start(i, [&](int rank, const auto& say) {
      Member member(rank, 4, port, say, seconds(2));
      member.report.next_seq = 8;
      member.report.call = call_of(1024);
      member.report.waiting_on = {stopped};
      if (member.run(&deadline)) return;
      member.control->send_fault(member.fault(StatusCode::kTimeout, stopped, "allreduce #7 timed out"));
      member.run();
    });
  }
  REQUIRE(joined(ranks, 4) == "joined");
  ranks.signal(stopped, SIGSTOP);
  const std::array<int, 3> others = stopped == 0   ? std::array{1, 2, 3}
                                    : stopped == 1 ? std::array{0, 2, 3}
                                                   : std::array{0, 1, 2};
  CHECK(ranks.next(others[0], milliseconds(700)) == "(nothing)");  // seven heartbeats
  for (const int i : others) CHECK(ranks.next(i, milliseconds(0)) == "(nothing)");
  deadline.open();
  for (const int i : others) {
    CHECK(
        lacks(ranks.next(i), {fmt::format("comm root {} timeout: rank {} (host host-{}) does not answer and is silent",
                                          stopped, stopped, stopped)}) == "");
  }
}

TEST_CASE("ranks that leave in good order are no failure, and rank 0 may leave first") {
  const int port = free_port();
  Gate leave;
  Gate complain;
  Ranks ranks;
  for (int i = 0; i < 4; ++i) {
    ranks.start(i, [&](int rank, const auto& say) {
      Member member(rank, 4, port, say);
      member.run(rank == 0 ? &leave : &complain);
      if (rank == 0) return;
      member.report.next_seq = 8;
      member.report.call = call_of(1024);
      if (rank == 2) member.control->send_fault(member.fault(StatusCode::kTimeout, 0, "waits for rank 0"));
      member.run();
    });
  }
  REQUIRE(joined(ranks, 4) == "joined");
  leave.open();
  CHECK(ranks.next(0) == "(ended)");
  CHECK(ranks.next(1, milliseconds(500)) == "(nothing)");  // five heartbeats
  for (const int i : {2, 3}) CHECK(ranks.next(i, milliseconds(0)) == "(nothing)");
  complain.open();
  for (int i = 1; i < 4; ++i) {
    CHECK(lacks(ranks.next(i), {"comm root 0 peer lost: rank 0 (host host-0) closed its communicator and left"}) == "");
  }
}
