#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.hpp"
#include "base/fd.hpp"
#include "lab/network.hpp"
#include "lab/output.hpp"
#include "lab/process_tree.hpp"

namespace longspan::lab {

struct LaunchOptions {
  std::vector<std::string> command;
  int ranks_per_host = 1;
  std::string topology_path;  ///< absolute
  PrefixMode prefix = PrefixMode::kAll;
  Duration grace = std::chrono::seconds(30);    ///< what the others get when one rank fails
  Duration timeout = std::chrono::minutes(30);  ///< for the whole run
};

/// Starts a command once per rank, each in its host's namespace, and sees it through to the end.
///
/// SIGINT, SIGTERM and SIGHUP must be blocked in every thread (block_signals) before threads start: they end the run.
class Launcher {
 public:
  static constexpr int kTimeoutCode = 124;  ///< exit code as timeout(1) gives it

  Launcher(const Network& network, ProcessTree& tree, LaunchOptions options);

  /// Starts every rank. Errors name the rank.
  Status start();
  /// Passes on output until every rank has ended. Returns the first exit code that is not 0 (128 + n for signal n,
  /// kTimeoutCode when the time was up, 128 + n when the lab itself got signal n).
  int wait();

 private:
  struct Rank {
    int number = 0;
    int host = 0;
    pid_t pid = -1;
    bool ended = false;
  };
  struct Stream {
    Fd fd;
    LinePrinter printer;
  };
  enum class Stage { kRunning, kGrace, kTerminating, kKilling };

  std::vector<std::string> environment_of(const Rank& rank) const;
  Status start_rank(Rank& rank);
  Status add_stream(const Rank& rank, int target, Fd* child_end);
  void pump(int timeout_ms);
  void reap();
  void rank_ended(Rank& rank, int status);
  void signal_ranks(int signal_number);
  void advance(Stage stage, Duration time);
  void deadline_passed();
  void take_signals();
  void drain();
  bool running() const;

  const Network& network_;
  ProcessTree& tree_;
  const LaunchOptions options_;
  std::vector<Rank> ranks_;
  std::vector<Stream> streams_;
  Fd signals_;
  int master_port_ = 0;
  int code_ = 0;
  Stage stage_ = Stage::kRunning;
  TimePoint started_{};
  TimePoint deadline_{};
};

/// Blocks the signals that the launcher takes by itself, in this thread and those it starts.
void block_signals();

}  // namespace longspan::lab
