// MPI_Allreduce timed by the rules of all_reduce_perf: every iteration starts at an instant agreed on the (shared)
// monotonic clock, and lasts until the last rank's end; the median counts. All processes are on this machine, also
// those in network namespaces of the lab.
//
//   mpi_all_reduce [--margin-us N] [--warmup N] [--budget-s N] ITERATIONS BYTES...
//
// Prints BYTES MEDIAN_US ITERATIONS MIN_US MAX_US for each size. The margin is what an agreed start needs to reach
// every rank; past the budget no further iteration of a size begins, but one is always timed.
#include <fmt/format.h>
#include <mpi.h>
#include <sched.h>
#include <time.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <vector>

namespace {

/// A rank that has the agreed start too late (loss delays the agreement) does not charge that to the iteration.
constexpr std::int64_t kLateNs = 1'000'000;
constexpr std::int64_t kSpinNs = 500'000;

struct Rules {
  int iterations = 0;
  int warmup = 5;
  std::int64_t margin_ns = 300'000;
  std::int64_t budget_ns = 3'600'000'000'000;
};

std::int64_t now_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

void wait_until(std::int64_t instant) {
  const std::int64_t wake = instant - kSpinNs;
  if (now_ns() < wake) {
    const timespec until{static_cast<time_t>(wake / 1'000'000'000), static_cast<long>(wake % 1'000'000'000)};
    ::clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, nullptr);
  }
  while (now_ns() < instant) ::sched_yield();
}

/// Sorted, in microseconds; empty when a result was wrong.
std::vector<double> time_size(const Rules& rules, std::size_t bytes, int ranks) {
  std::vector<float> in(bytes / 4 + 1, 1.0f), out(in.size());
  std::vector<double> times;
  std::int64_t start = now_ns() + rules.margin_ns;
  MPI_Bcast(&start, 1, MPI_INT64_T, 0, MPI_COMM_WORLD);
  const std::int64_t first = start;
  std::int64_t elapsed = 0;
  for (int i = -rules.warmup; i < rules.iterations; ++i) {
    if (i < 0 && elapsed > rules.budget_ns / 2) i = 0;
    if (i > 0 && elapsed > rules.budget_ns) break;
    wait_until(start);
    const std::int64_t begin = now_ns();
    MPI_Allreduce(in.data(), out.data(), static_cast<int>(bytes / 4), MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
    const std::int64_t wrong = bytes >= 4 && (out[0] != static_cast<float>(ranks) || out[bytes / 4 - 1] != out[0]);
    const std::array<std::int64_t, 3> mine{begin, now_ns(), wrong};
    std::array<std::int64_t, 3> last{};
    MPI_Allreduce(mine.data(), last.data(), 3, MPI_INT64_T, MPI_MAX, MPI_COMM_WORLD);
    if (last[2] != 0) return {};
    const std::int64_t from = last[0] > start + kLateNs ? last[0] : start;
    if (i >= 0) times.push_back(static_cast<double>(last[1] - from) / 1e3);
    elapsed = last[1] - first;  // the same on every rank, so all agree on when to stop
    start = last[1] + rules.margin_ns;
  }
  std::sort(times.begin(), times.end());
  return times;
}

int parse_rules(int argc, char** argv, Rules& rules) {
  int at = 1;
  for (; at + 1 < argc && std::string_view(argv[at]).starts_with("--"); at += 2) {
    const std::string_view name = argv[at];
    const double value = std::atof(argv[at + 1]);
    if (name == "--margin-us") rules.margin_ns = static_cast<std::int64_t>(value * 1e3);
    if (name == "--warmup") rules.warmup = static_cast<int>(value);
    if (name == "--budget-s") rules.budget_ns = static_cast<std::int64_t>(value * 1e9);
  }
  if (at < argc) rules.iterations = std::atoi(argv[at]);
  return at + 1;
}

}  // namespace

int main(int argc, char** argv) {
  MPI_Init(&argc, &argv);
  int rank = 0;
  int ranks = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  Rules rules;
  int code = 0;
  for (int i = parse_rules(argc, argv, rules); i < argc; ++i) {
    const std::size_t bytes = std::strtoull(argv[i], nullptr, 10);
    const std::vector<double> times = time_size(rules, bytes, ranks);
    if (times.empty()) code = 1;
    if (rank != 0) continue;
    if (times.empty()) {
      fmt::print(stderr, "mpi_all_reduce: {} bytes: wrong result, or no iterations asked for\n", bytes);
    } else {
      fmt::print("{} {:.2f} {} {:.2f} {:.2f}\n", bytes, times[times.size() / 2], times.size(), times.front(),
                 times.back());
      std::fflush(stdout);
    }
  }
  MPI_Finalize();
  return code;
}
