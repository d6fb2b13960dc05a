#include "base/timer.hpp"

#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>

namespace longspan {

Result<Timer> Timer::create() {
  Timer timer;
  timer.fd_ = Fd(::timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC));
  if (!timer.fd_) return system_error("timerfd_create", errno);
  return timer;
}

void Timer::set(TimePoint when) noexcept {
  at_ = when;
  itimerspec spec{};  // zero: never
  if (when != TimePoint::max()) {
    // At least a nanosecond from now, or it would be never.
    const TimePoint soonest = Clock::now() + std::chrono::nanoseconds(1);
    const std::chrono::nanoseconds left = std::max(when, soonest) - soonest + std::chrono::nanoseconds(1);
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(left);
    spec.it_value.tv_sec = seconds.count();
    spec.it_value.tv_nsec = (left - seconds).count();
  }
  ::timerfd_settime(fd_.get(), 0, &spec, nullptr);
}

bool Timer::take() noexcept {
  std::uint64_t expirations = 0;
  if (::read(fd_.get(), &expirations, sizeof expirations) < 0) return false;
  at_ = TimePoint::max();
  return true;
}

}  // namespace longspan
