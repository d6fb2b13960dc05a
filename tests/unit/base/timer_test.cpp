#include "base/timer.hpp"

#include <poll.h>

#include "support/catch.hpp"

using namespace longspan;
using std::chrono::hours;
using std::chrono::milliseconds;

namespace {

bool readable(const Timer& timer, milliseconds patience) {
  pollfd waiting{timer.fd(), POLLIN, 0};
  return ::poll(&waiting, 1, static_cast<int>(patience.count())) == 1;
}

}  // namespace

TEST_CASE("A timer is readable at the earliest time that was asked for", "[timer]") {
  Timer timer = Timer::create().value();
  CHECK_FALSE(readable(timer, milliseconds(0)));
  timer.request(Clock::now() + hours(1));
  CHECK_FALSE(readable(timer, milliseconds(0)));
  CHECK_FALSE(timer.take());
  const TimePoint soon = Clock::now() + milliseconds(5);
  timer.request(soon);
  timer.request(Clock::now() + hours(2));
  CHECK(readable(timer, milliseconds(5000)));
  CHECK(Clock::now() >= soon);
  CHECK(timer.take());
  CHECK_FALSE(readable(timer, milliseconds(0)));
  timer.request(Clock::now() + milliseconds(1));  // later than the one before, which is over
  CHECK(readable(timer, milliseconds(5000)));
}

TEST_CASE("A time that has passed is readable at once, and setting it anew takes the old one back", "[timer]") {
  Timer timer = Timer::create().value();
  timer.set(TimePoint::min());
  CHECK(readable(timer, milliseconds(5000)));
  timer.set(Clock::now() + hours(1));
  CHECK_FALSE(readable(timer, milliseconds(0)));
  timer.set(Clock::now() - hours(1));
  CHECK(readable(timer, milliseconds(5000)));
  timer.set(TimePoint::max());
  CHECK_FALSE(readable(timer, milliseconds(0)));
}
