#pragma once

#include <sys/types.h>

#include "base/fd.hpp"
#include "longspan/status.hpp"

namespace longspan::lab {

/// The ranks and everything they start. All of it ends with this object or with the lab's process, however that dies:
/// the kernel kills a process-id namespace whose first process is gone, and that process waits for the lab's end.
///
/// Where such a namespace cannot be made, ranks die with the lab, and what they left behind is hunted down by the
/// destructor only.
class ProcessTree {
 public:
  /// From here on the calling thread can start processes, and the kernel refuses it new threads.
  static Result<ProcessTree> create();
  ProcessTree(ProcessTree&& other) noexcept;
  ProcessTree& operator=(ProcessTree&&) = delete;
  ~ProcessTree();

  /// Whether the kernel guarantees the end of everything inside.
  bool contained() const noexcept { return first_ > 0; }
  /// For a child between fork and exec: its own view of /proc. Async-signal-safe; false when it fails.
  bool enter_from_child() const noexcept;
  /// Kills all that is inside, and returns when it is gone.
  void kill_all();

 private:
  ProcessTree() = default;

  pid_t first_ = -1;
  Fd lifeline_;  ///< held open by the lab; its end ends the first process
};

}  // namespace longspan::lab
