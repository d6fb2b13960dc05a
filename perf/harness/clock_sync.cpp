#include "harness/clock_sync.hpp"

#include <sched.h>
#include <time.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <vector>

namespace longspan::perf {
namespace {

constexpr int kExchanges = 16;
constexpr int kQuickest = 4;
constexpr std::int64_t kSpinNs = 500'000;
constexpr std::uint32_t kAskTag = 0x10ca1;
constexpr std::uint32_t kTellTag = 0x10ca2;

std::int64_t monotonic_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

struct Exchange {
  std::int64_t rtt;
  std::int64_t offset;
};

/// Rank 0: answers everybody's questions as they come.
Status serve(Communicator& comm) {
  const int questions = (comm.size() - 1) * kExchanges;
  for (int i = 0; i < questions; ++i) {
    std::int64_t ignored = 0;
    Work ask = comm.recv(&ignored, 1, DataType::kInt64, kAnySource, kAskTag);
    LONGSPAN_TRY(ask.wait());
    const std::int64_t now = monotonic_ns();
    LONGSPAN_TRY(comm.send(&now, 1, DataType::kInt64, ask.source(), kTellTag).wait());
  }
  return {};
}

Result<std::vector<Exchange>> ask(Communicator& comm) {
  std::vector<Exchange> all;
  for (int i = 0; i < kExchanges; ++i) {
    std::int64_t theirs = 0;
    const std::int64_t sent = monotonic_ns();
    Work answer = comm.recv(&theirs, 1, DataType::kInt64, 0, kTellTag);
    LONGSPAN_TRY(comm.send(&sent, 1, DataType::kInt64, 0, kAskTag).wait());
    LONGSPAN_TRY(answer.wait());
    const std::int64_t got = monotonic_ns();
    all.push_back(Exchange{got - sent, theirs - (sent + (got - sent) / 2)});
  }
  std::sort(all.begin(), all.end(), [](const Exchange& a, const Exchange& b) { return a.rtt < b.rtt; });
  return all;
}

}  // namespace

Result<AlignedClock> AlignedClock::synchronise(Communicator& comm) {
  AlignedClock clock;
  std::array<std::int64_t, 2> mine{0, 0};
  if (comm.rank() == 0) {
    LONGSPAN_TRY(serve(comm));
  } else {
    LONGSPAN_ASSIGN(const std::vector<Exchange> all, ask(comm));
    // Ranks of one machine read the same clock; no two machines' agree to within half a round trip by chance.
    const Exchange& best = all.front();
    clock.offset_ns_ = std::abs(best.offset) <= best.rtt / 2 ? 0 : best.offset;
    const auto [low, high] = std::minmax_element(
        all.begin(), all.begin() + kQuickest, [](const Exchange& a, const Exchange& b) { return a.offset < b.offset; });
    mine = {(high->offset - low->offset) / 2, all.front().rtt};
  }
  std::vector<std::int64_t> everyone(static_cast<std::size_t>(comm.size()) * 2);
  LONGSPAN_TRY(comm.all_gather(mine.data(), everyone.data(), 2, DataType::kInt64));
  for (std::size_t r = 0; r < everyone.size(); r += 2) {
    clock.error_ns_ = std::max(clock.error_ns_, everyone[r]);
    clock.longest_rtt_ns_ = std::max(clock.longest_rtt_ns_, everyone[r + 1]);
  }
  return clock;
}

std::int64_t AlignedClock::now_ns() const { return monotonic_ns() + offset_ns_; }

void AlignedClock::sleep_until(std::int64_t aligned_ns) const {
  // A sleeper wakes 100 us late, and later still on a virtual machine whose core was given away, which is a hundred
  // times a small message: the rest is spun, letting others have the core.
  const std::int64_t local = aligned_ns - offset_ns_;
  const std::int64_t nap = std::max<std::int64_t>(local - kSpinNs, 0);
  const timespec until{nap / 1'000'000'000, nap % 1'000'000'000};
  while (::clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, nullptr) != 0) {
  }
  while (monotonic_ns() < local) ::sched_yield();
}

}  // namespace longspan::perf
