// MPI_Allreduce timed by the rules of all_reduce_perf: every iteration starts at an instant agreed on the (shared)
// monotonic clock, and lasts until the last rank's end; the median counts.   mpi_all_reduce ITERATIONS BYTES...
#include <fmt/format.h>
#include <mpi.h>
#include <sched.h>
#include <time.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <vector>

namespace {

constexpr int kWarmup = 5;
constexpr std::int64_t kMarginNs = 300'000;

std::int64_t now_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

double median_us(int iterations, std::size_t bytes) {
  std::vector<float> in(bytes / 4 + 1, 1.0f), out(in.size());
  std::vector<double> times;
  std::int64_t start = now_ns() + kMarginNs;
  MPI_Bcast(&start, 1, MPI_INT64_T, 0, MPI_COMM_WORLD);
  for (int i = -kWarmup; i < iterations; ++i) {
    while (now_ns() < start) ::sched_yield();
    MPI_Allreduce(in.data(), out.data(), static_cast<int>(bytes / 4), MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
    const std::int64_t end = now_ns();
    std::int64_t last = 0;
    MPI_Allreduce(&end, &last, 1, MPI_INT64_T, MPI_MAX, MPI_COMM_WORLD);
    if (i >= 0) times.push_back(static_cast<double>(last - start) / 1e3);
    start = last + kMarginNs;
  }
  std::nth_element(times.begin(), times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2), times.end());
  return times[times.size() / 2];
}

}  // namespace

int main(int argc, char** argv) {
  MPI_Init(&argc, &argv);
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  for (int i = 2; i < argc; ++i) {
    const std::size_t bytes = std::strtoull(argv[i], nullptr, 10);
    const double median = median_us(std::atoi(argv[1]), bytes);
    if (rank == 0) fmt::print("{} {:.2f}\n", bytes, median);
  }
  MPI_Finalize();
  return 0;
}
