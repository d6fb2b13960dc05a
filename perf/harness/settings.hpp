#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "longspan/status.hpp"
#include "longspan/types.hpp"

namespace longspan::perf {

/// What the command line asks for; nccl-tests' names and meanings, defaults that suit CPUs and wide-area links.
struct Settings {
  std::uint64_t min_bytes = 32 << 20;
  std::uint64_t max_bytes = 32 << 20;
  std::uint64_t step_bytes = 1 << 20;
  std::uint64_t step_factor = 0;  ///< 0: add step_bytes; else multiply
  int iterations = 20;
  int warmup = 5;
  int aggregate = 1;   ///< operations per timed iteration
  int cycles = 1;      ///< how often the whole list of sizes is run
  int checks = 1;      ///< iterations whose result is checked; 0: none
  std::vector<DataType> types{DataType::kFloat32};
  std::vector<ReduceOp> ops{ReduceOp::kSum};
  int root = 0;        ///< -1: all, one after the other
  bool tiers = false;
  bool links = false;
  bool register_buffers = false;
  bool heap = false;  ///< buffers of the heap instead of the communicator's alloc()
  std::string json;
  std::string topology;
  std::string algorithm;
  int timeout_seconds = 0;  ///< 0: the library's default
  int groups = 1;           ///< communicators that run at the same time; rank r is in group r mod groups
  double gap_seconds = 0;   ///< nothing is done for so long before each timed iteration
  int ranks = 0;            ///< > 0: start that many processes here

  std::vector<std::uint64_t> sizes() const;
};

/// Parses a perf program's command line. `exit_code` >= 0: print `text` and leave with it.
struct ParsedSettings {
  Settings settings;
  int exit_code = -1;
  std::string text;
};
ParsedSettings parse_settings(const std::string& program, int argc, char** argv);

}  // namespace longspan::perf
