#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "bootstrap/messages.hpp"

namespace longspan::bootstrap {

/// How a rank stands with the hub.
enum class Life : std::uint8_t {
  kAlive,
  kLost,  ///< its connection broke without a goodbye
  kDead,  ///< the same, and another rank saw it, too
  kLeft,  ///< said goodbye
};

/// What the hub knows of one rank when it decides.
struct RankState {
  Life life = Life::kAlive;
  double silent_seconds = 0;          ///< since it was last heard of
  std::optional<WaitReport> report;   ///< its answer to the hub's question
};

/// Everything known about one failure.
struct Case {
  std::uint64_t comm = 0;
  std::vector<Fault> faults;      ///< in order of arrival; at least one
  std::vector<RankState> ranks;   ///< by rank of the job
  std::function<std::string(int rank)> describe;
};

/// The one root cause, by this order: a rank that is gone and that somebody waits for; abort(); calls that differ; an
/// error of one rank alone; a rank that does not answer; a broken connection between two living ranks; a rank that has
/// not entered the collective; the rank at the end of the chain of waits. Pure.
Verdict find_root_cause(const Case& c);

/// "rank 2 (host eu-2, region eu) died ...": the verdict on ranks whose connections ended without a goodbye.
Verdict death_verdict(const std::vector<int>& ranks, bool witnessed,
                      const std::function<std::string(int rank)>& describe);

}  // namespace longspan::bootstrap
