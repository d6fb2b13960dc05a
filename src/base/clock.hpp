#pragma once

#include <chrono>

namespace longspan {

using Clock = std::chrono::steady_clock;
using TimePoint = Clock::time_point;
using Duration = Clock::duration;

/// Milliseconds from now to `deadline` for poll() and epoll_wait(): rounded up, at least 0, at most `cap_ms`.
inline int poll_timeout_ms(TimePoint now, TimePoint deadline, int cap_ms = 60'000) {
  if (deadline <= now) return 0;
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - now).count();
  return left > cap_ms ? cap_ms : static_cast<int>(left);
}

}  // namespace longspan
