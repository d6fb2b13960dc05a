// Real processes that die, stop or fork in the middle of a collective.
#include <dirent.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "longspan/communicator.hpp"
#include "support/catch.hpp"
#include "support/rank_processes.hpp"

namespace longspan {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;
constexpr DataType kFloat = DataType::kFloat32;

using longspan::testing::RankJob;
using longspan::testing::RankOutcome;

/// Runs four ranks as processes.
std::vector<RankOutcome> run(const std::function<std::string(Communicator&)>& body, std::chrono::seconds timeout,
                             std::chrono::seconds limit, std::size_t silent = SIZE_MAX) {
  RankJob job = longspan::testing::two_regions(2, "8 Gbit/s");
  job.timeout = timeout;
  job.limit = limit;
  job.silent = silent;
  return longspan::testing::run_ranks(job, body);
}

/// Calls until one fails: what it says, and on a line of its own how many seconds that took. `before` hears of each how
/// many came before it.
std::string until_failure(Communicator& comm, const std::function<void(int)>& before = [](int) {}) {
  std::vector<float> x(200'000, 1);
  for (int calls = 0;; ++calls) {
    before(calls);
    const auto began = Clock::now();
    const Status status = comm.all_reduce(x.data(), x.data(), x.size(), kFloat, ReduceOp::kMax);
    const double seconds = std::chrono::duration<double>(Clock::now() - began).count();
    if (!status.ok()) return status.to_string() + "\n" + std::to_string(seconds);
  }
}

int open_sockets() {
  int sockets = 0;
  DIR* folder = ::opendir("/proc/self/fd");
  while (const dirent* entry = ::readdir(folder)) {
    char target[64] = {};
    if (::readlink(("/proc/self/fd/" + std::string(entry->d_name)).c_str(), target, sizeof target - 1) > 0) {
      sockets += std::string(target).starts_with("socket:");
    }
  }
  ::closedir(folder);
  return sockets;
}

}  // namespace

TEST_CASE("A rank that is killed in a collective is named by all others within two seconds") {
  const int victim = GENERATE(0, 2);
  bool soon = false;
  for (int attempt = 0; attempt < 3 && !soon; ++attempt) {  // the machine may stall, but hardly each time
    const auto outcomes = run([victim](Communicator& comm) {
      return until_failure(comm, [&](int calls) {
        if (comm.rank() == victim && calls == 20) ::kill(::getpid(), SIGKILL);
      });
    }, 30s, 10s);
    soon = true;
    for (int r = 0; r < 4; ++r) {
      if (r == victim) continue;
      const RankOutcome& outcome = outcomes[static_cast<std::size_t>(r)];
      INFO("victim " << victim << ", rank " << r << " after " << outcome.seconds << " s: " << outcome.report);
      CHECK(outcome.report.starts_with("peer lost:"));
      CHECK(outcome.report.find("rank " + std::to_string(victim) + " (host ") != std::string::npos);
      // The failing call began before the kill, or at once after it.
      const std::size_t line = outcome.report.rfind('\n');
      REQUIRE(line != std::string::npos);
      soon = soon && std::stod(outcome.report.substr(line + 1)) < 2;
    }
  }
  CHECK(soon);
}

TEST_CASE("A stopped rank is named within a second of the deadline, whoever it is") {
  const std::size_t stopped = GENERATE(3U, 0U, 1U);  // any, the one that decides, and the one that decides without it
  bool soon = false;
  for (int attempt = 0; attempt < 3 && !soon; ++attempt) {  // the machine may stall, but hardly each time
    const auto outcomes = run([stopped](Communicator& comm) {
      if (!comm.barrier().ok()) return std::string("too early");
      if (static_cast<std::size_t>(comm.rank()) == stopped) ::kill(::getpid(), SIGSTOP);
      return until_failure(comm);
    }, 2s, 15s, stopped);
    soon = true;
    for (std::size_t r = 0; r < 4; ++r) {
      if (r == stopped) continue;
      INFO("rank " << r << " after " << outcomes[r].seconds << " s: " << outcomes[r].report);
      CHECK(outcomes[r].report.find("rank " + std::to_string(stopped) + " (host ") != std::string::npos);
      const std::size_t line = outcomes[r].report.rfind('\n');
      REQUIRE(line != std::string::npos);
      soon = soon && std::stod(outcomes[r].report.substr(line + 1)) < 2 + 1;
    }
  }
  CHECK(soon);
}

TEST_CASE("A rank that exits early in good order is named too") {
  const auto outcomes = run([](Communicator& comm) {
    if (!comm.barrier().ok()) return std::string("too early");
    if (comm.rank() == 1) return std::string("left");
    return until_failure(comm);
  }, 3s, 15s);
  for (const std::size_t r : {0U, 2U, 3U}) {
    INFO("rank " << r << " after " << outcomes[r].seconds << " s: " << outcomes[r].report);
    CHECK(outcomes[r].report.find("rank 1 (host eu-1, region eu)") != std::string::npos);
  }
}

TEST_CASE("A child after fork holds none of our connections, is refused, and does no harm by ending") {
  const auto outcomes = run([](Communicator& comm) -> std::string {
    if (!comm.barrier().ok()) return "too early";
    const pid_t child = ::fork();
    if (child == 0) {
      int code = open_sockets();
      float x = 1;
      if (comm.all_reduce(&x, &x, 1, kFloat, ReduceOp::kSum).code() != StatusCode::kInvalidArgument) code += 50;
      {
        const Communicator moved = std::move(comm);  // destroyed here, as a worker's exit would
      }
      ::_exit(code);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) return "the child ended with " + std::to_string(status);
    for (int i = 0; i < 10; ++i) {
      std::vector<float> x(10'000, 1);
      if (const Status s = comm.all_reduce(x.data(), x.data(), x.size(), kFloat, ReduceOp::kSum); !s.ok()) {
        return s.to_string();
      }
      if (x[9'999] != 4) return "wrong sum";
    }
    return comm.barrier().ok() ? "fine" : "barrier";
  }, 20s, 30s);
  for (const RankOutcome& outcome : outcomes) CHECK(outcome.report == "fine");
}

}  // namespace longspan
