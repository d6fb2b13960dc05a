#pragma once

#include <sys/types.h>

#include <chrono>
#include <functional>
#include <initializer_list>
#include <map>
#include <string>
#include <vector>

#include "base/clock.hpp"
#include "base/fd.hpp"
#include "bootstrap/rendezvous.hpp"

namespace longspan::bootstrap::testing {

/// Processes that each run one rank and report one line of text per event through a pipe.
class Ranks {
 public:
  using Say = std::function<void(const std::string&)>;
  using Body = std::function<void(int rank, const Say& say)>;

  Ranks() = default;
  Ranks(const Ranks&) = delete;
  Ranks& operator=(const Ranks&) = delete;
  ~Ranks();  // kills what still runs

  void start(int rank, const Body& body);
  void signal(int rank, int number);
  /// The next line that `rank` says; "(nothing)" when none comes in time, "(ended)" when it ended first.
  std::string next(int rank, std::chrono::milliseconds limit = std::chrono::seconds(20));

 private:
  struct Process {
    pid_t pid = -1;
    Fd pipe;
    std::string buffer;
  };
  std::map<int, Process> processes_;
};

/// Opened once by the test and then seen by all ranks that were started after it was made: makes an order that no stall
/// of the machine can upset.
class Gate {
 public:
  Gate();
  /// Readable once the gate is open.
  int fd() const noexcept { return fd_.get(); }
  void open();

 private:
  Fd fd_;
};

/// A promise about time, on a machine that may stall: true as soon as one of a few attempts keeps it.
bool once_of_five(const std::function<bool()>& attempt);

/// "" when `text` holds all of `parts`; else says which is not there.
std::string lacks(const std::string& text, std::initializer_list<std::string> parts);
/// A port that was free a moment ago.
int free_port();
/// How rank `rank` of `size` is launched, with MASTER_ADDR=127.0.0.1.
LaunchInfo launch(int rank, int size, int port);
RendezvousRequest request(int rank, int size, int port, std::chrono::milliseconds limit);

}  // namespace longspan::bootstrap::testing
