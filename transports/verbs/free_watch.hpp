#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "base/fd.hpp"

namespace longspan::verbs {

/// Notices when memory of this process is unmapped, moved or thrown away: a registration pins the pages that were there
/// when it was made, and others at the same address would never see what arrives. By userfaultfd's events, without its
/// page faults: nothing is write-protected. The kernel holds up who unmaps until the event was read, so a thread does
/// nothing else; neither it nor who holds the lock allocates or frees, or it might wait for itself.
class FreeWatch {
 public:
  struct Range {
    std::uintptr_t begin = 0;
    std::uintptr_t end = 0;
  };
  struct Freed {
    std::array<Range, 64> ranges;
    std::size_t count = 0;
    bool too_many = false;  ///< more than `ranges` holds: anything may have been freed
  };

  /// nullptr: this kernel, or its settings, offer no such events.
  static std::unique_ptr<FreeWatch> open();
  ~FreeWatch();
  FreeWatch(const FreeWatch&) = delete;
  FreeWatch& operator=(const FreeWatch&) = delete;

  /// Whole pages. False: it cannot be watched (memory of a file, somebody else watches it).
  bool add(Range range) noexcept;
  void remove(Range range) noexcept;
  /// What was freed since the last call.
  Freed take() noexcept;

 private:
  FreeWatch(Fd events, Fd stop);
  void run() noexcept;
  void read_events() noexcept;

  Fd events_;
  Fd stop_;
  std::mutex mutex_;
  Freed freed_;  // under mutex_
  std::thread thread_;
};

}  // namespace longspan::verbs
