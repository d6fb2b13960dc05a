#pragma once

#include "base/clock.hpp"
#include "base/fd.hpp"
#include "longspan/status.hpp"

namespace longspan {

/// A descriptor that becomes readable at a time, for an epoll. Used by one thread at a time.
class Timer {
 public:
  static Result<Timer> create();

  int fd() const noexcept { return fd_.get(); }
  /// Readable at `when` and not before, whatever was asked for earlier; at once where that has passed; never at max().
  void set(TimePoint when) noexcept;
  /// Readable at `when` at the latest. Costs nothing where it will be earlier anyway.
  void request(TimePoint when) noexcept {
    if (when < at_) set(when);
  }
  /// Whether it was readable. If so it no longer is, and nothing is asked for.
  bool take() noexcept;

 private:
  Fd fd_;
  TimePoint at_ = TimePoint::max();
};

}  // namespace longspan
