#pragma once

#include <functional>
#include <string>
#include <vector>

#include "longspan/communicator.hpp"

namespace longspan::test {

/// A job of ranks that are threads of this process, each with a Domain and connections of its own.
struct Job {
  int ranks = 2;
  std::string topology;             ///< text; empty: all on one host
  std::vector<std::string> hosts;   ///< of each rank, with `topology`
  std::string algorithm;
  std::vector<std::string> transports;
  std::chrono::nanoseconds timeout = std::chrono::seconds(60);
};

/// Two regions with `hosts` hosts each on the loopback, unlimited but for a nominal WAN link.
Job two_regions(int hosts_per_region, int ranks_per_host);

/// Runs `body` on every rank and returns what each reported: "" for fine. Catch2's assertions belong to the main
/// thread.
std::vector<std::string> run(const Job& job, const std::function<std::string(Communicator&)>& body);
/// The first report that is not "", with its rank.
std::string first_problem(const std::vector<std::string>& reports);

}  // namespace longspan::test
