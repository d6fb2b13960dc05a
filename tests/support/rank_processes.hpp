#pragma once

#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <string>
#include <vector>

#include "longspan/communicator.hpp"
#include "support/catch.hpp"

/// Ranks that are processes of this machine, one per host of a topology: for programs that link longspan.
namespace longspan::testing {

/// What a rank's process wrote before it ended.
struct RankOutcome {
  std::string report;
  int status = 0;
  double seconds = 0;  ///< from the start of all
};

struct RankJob {
  std::string topology;
  std::vector<std::string> hosts;     ///< of the ranks, in order
  std::chrono::seconds timeout{20};   ///< of their operations
  std::chrono::seconds limit{40};     ///< no process outlives it
  std::size_t silent = SIZE_MAX;      ///< a rank that will say nothing, and is not waited for
  std::function<void()> prepare = [] {};  ///< in each rank's process, before it joins
};

/// Regions of `hosts` hosts each, "eu-0" and so on, all at the loopback address, joined by a link of `bandwidth` and 1
/// ms.
inline RankJob two_regions(int hosts, const std::string& bandwidth) {
  RankJob job;
  job.topology = "version = 1\n";
  for (const char* region : {"eu", "us"}) {
    for (int h = 0; h < hosts; ++h) {
      job.hosts.push_back(std::string(region) + "-" + std::to_string(h));
      job.topology +=
          "[[host]]\nname = \"" + job.hosts.back() + "\"\nregion = \"" + region + "\"\naddress = \"127.0.0.1\"\n";
    }
  }
  job.topology += "[[wan]]\nfrom = \"eu\"\nto = \"us\"\nbandwidth = \"" + bandwidth + "\"\nlatency = \"1 ms\"\n";
  return job;
}

/// A rank, in its process: never returns. The id's directory lives in rank 0's process, which makes it and hands it on.
[[noreturn]] inline void be_rank(const RankJob& job, int rank, const int handover[2], int report_to,
                                 const std::function<std::string(Communicator&)>& body) {
  const int size = static_cast<int>(job.hosts.size());
  UniqueId id;
  constexpr auto kBytes = static_cast<ssize_t>(sizeof id.bytes);
  if (rank == 0) {
    auto made = make_unique_id();
    if (!made.ok()) ::_exit(9);
    id = *made;
    for (int i = 1; i < size; ++i) {
      if (::write(handover[1], id.bytes, sizeof id.bytes) != kBytes) ::_exit(9);
    }
  } else if (::read(handover[0], id.bytes, sizeof id.bytes) != kBytes) {
    ::_exit(9);
  }
  job.prepare();
  Options options;
  options.topology_text = job.topology;
  options.host = job.hosts[static_cast<std::size_t>(rank)];
  options.timeout = job.timeout;
  std::string report;
  {
    auto comm = Communicator::create(id, rank, size, options);
    report = comm.ok() ? body(*comm) : "create: " + comm.status().to_string();
  }
  ::_exit(::write(report_to, report.data(), report.size()) == static_cast<ssize_t>(report.size()) ? 0 : 9);
}

/// Runs the ranks; each reports what `body` returns, or "hangs".
inline std::vector<RankOutcome> run_ranks(const RankJob& job, const std::function<std::string(Communicator&)>& body) {
  using Clock = std::chrono::steady_clock;
  int handover[2];
  REQUIRE(::pipe(handover) == 0);
  std::vector<pid_t> children;
  std::vector<int> pipes;
  const auto started = Clock::now();
  for (int r = 0; r < static_cast<int>(job.hosts.size()); ++r) {
    int ends[2];
    REQUIRE(::pipe(ends) == 0);
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) be_rank(job, r, handover, ends[1], body);
    ::close(ends[1]);
    children.push_back(child);
    pipes.push_back(ends[0]);
  }
  std::vector<RankOutcome> outcomes(job.hosts.size());
  for (std::size_t r = 0; r < outcomes.size(); ++r) {
    if (r == job.silent) continue;
    pollfd readable{pipes[r], POLLIN, 0};
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(started + job.limit - Clock::now()).count();
    char buffer[4096];
    outcomes[r].report = "hangs";
    if (::poll(&readable, 1, static_cast<int>(std::max<long>(left, 0))) == 1) {
      outcomes[r].report.assign(
          buffer, static_cast<std::size_t>(std::max<ssize_t>(::read(pipes[r], buffer, sizeof buffer), 0)));
    }
    outcomes[r].seconds = std::chrono::duration<double>(Clock::now() - started).count();
  }
  for (std::size_t r = 0; r < outcomes.size(); ++r) {
    ::kill(children[r], SIGKILL);
    ::waitpid(children[r], &outcomes[r].status, 0);
    ::close(pipes[r]);
  }
  ::close(handover[0]);
  ::close(handover[1]);
  return outcomes;
}

}  // namespace longspan::testing
