// Real processes that die, stop or fork in the middle of a collective.
#include <dirent.h>
#include <poll.h>
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

namespace longspan {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;
constexpr DataType kFloat = DataType::kFloat32;

/// What a rank's process wrote before it ended.
struct Outcome {
  std::string report;
  int status = 0;
  double seconds = 0;
};

std::string topology() {
  std::string text = "version = 1\n";
  for (const char* region : {"eu", "us"}) {
    for (int h = 0; h < 2; ++h) {
      text += "[[host]]\nname = \"" + std::string(region) + "-" + std::to_string(h) + "\"\nregion = \"" + region + "\"\naddress = \"127.0.0.1\"\n";
    }
  }
  return text + "[[wan]]\nfrom = \"eu\"\nto = \"us\"\nbandwidth = \"8 Gbit/s\"\nlatency = \"1 ms\"\n";
}

/// Runs four ranks as processes; each writes what `body` returns. No process outlives `limit`, and nobody waits for the one
/// that will say nothing.
std::vector<Outcome> run(const std::function<std::string(Communicator&)>& body, std::chrono::seconds timeout, std::chrono::seconds limit,
                         std::size_t silent = SIZE_MAX) {
  constexpr int kRanks = 4;
  const char* hosts[kRanks] = {"eu-0", "eu-1", "us-0", "us-1"};
  // The id's directory lives in rank 0's process, so that process makes it and hands it on.
  int handover[2];
  REQUIRE(::pipe(handover) == 0);
  std::vector<pid_t> children;
  std::vector<int> pipes;
  const auto started = Clock::now();
  for (int r = 0; r < kRanks; ++r) {
    int ends[2];
    REQUIRE(::pipe(ends) == 0);
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      UniqueId id;
      if (r == 0) {
        auto made = make_unique_id();
        if (!made.ok()) ::_exit(9);
        id = *made;
        for (int i = 1; i < kRanks; ++i) {
          if (::write(handover[1], id.bytes, sizeof id.bytes) != static_cast<ssize_t>(sizeof id.bytes)) ::_exit(9);
        }
      } else if (::read(handover[0], id.bytes, sizeof id.bytes) != static_cast<ssize_t>(sizeof id.bytes)) {
        ::_exit(9);
      }
      Options options;
      options.topology_text = topology();
      options.host = hosts[r];
      options.timeout = timeout;
      std::string report;
      {
        auto comm = Communicator::create(id, r, kRanks, options);
        report = comm.ok() ? body(*comm) : "create: " + comm.status().to_string();
      }
      const bool written = ::write(ends[1], report.data(), report.size()) == static_cast<ssize_t>(report.size());
      ::_exit(written ? 0 : 9);
    }
    ::close(ends[1]);
    children.push_back(child);
    pipes.push_back(ends[0]);
  }
  std::vector<Outcome> outcomes(kRanks);
  for (std::size_t r = 0; r < kRanks; ++r) {
    if (r == silent) continue;
    pollfd readable{pipes[r], POLLIN, 0};
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(started + limit - Clock::now()).count();
    char buffer[4096];
    if (::poll(&readable, 1, static_cast<int>(std::max<long>(left, 0))) == 1) {
      const ssize_t got = ::read(pipes[r], buffer, sizeof buffer);
      outcomes[r].report.assign(buffer, static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
    } else {
      outcomes[r].report = "hangs";
    }
    outcomes[r].seconds = std::chrono::duration<double>(Clock::now() - started).count();
  }
  for (std::size_t r = 0; r < kRanks; ++r) {
    ::kill(children[r], SIGKILL);
    ::waitpid(children[r], &outcomes[r].status, 0);
    ::close(pipes[r]);
  }
  ::close(handover[0]);
  ::close(handover[1]);
  return outcomes;
}

/// Collectives until one fails; what it says, and on a line of its own how many seconds that took.
/// Calls until one fails; `before` hears of each how many came before it.
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
      const Outcome& outcome = outcomes[static_cast<std::size_t>(r)];
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

TEST_CASE("A stopped rank is named when the time is over") {
  const auto outcomes = run([](Communicator& comm) {
    std::vector<float> x(1000, 1);
    if (!comm.barrier().ok()) return std::string("too early");
    if (comm.rank() == 3) ::kill(::getpid(), SIGSTOP);
    return until_failure(comm);
  }, 2s, 15s, 3);
  for (std::size_t r = 0; r < 3; ++r) {
    INFO("rank " << r << " after " << outcomes[r].seconds << " s: " << outcomes[r].report);
    CHECK(outcomes[r].report.find("rank 3 (host us-1, region us)") != std::string::npos);
    CHECK(outcomes[r].seconds < 9);
  }
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
      if (const Status s = comm.all_reduce(x.data(), x.data(), x.size(), kFloat, ReduceOp::kSum); !s.ok()) return s.to_string();
      if (x[9'999] != 4) return "wrong sum";
    }
    return comm.barrier().ok() ? "fine" : "barrier";
  }, 20s, 30s);
  for (const Outcome& outcome : outcomes) CHECK(outcome.report == "fine");
}

}  // namespace longspan
