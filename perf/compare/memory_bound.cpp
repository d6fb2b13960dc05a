// How fast this host's memory is, as STREAM's copy measures it: every rank, a process, copies a buffer of its own into
// another, all at the same time. No allreduce of buffers larger than the caches is faster: each rank reads its input
// once and writes its output once.
//
//   memory_bound RANKS BYTES ITERATIONS
//
// Prints BYTES and the median of the time until the last rank ended, by the faster of memcpy and stores past the cache.
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

namespace {

double now_us() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) * 1e6 + static_cast<double>(now.tv_nsec) / 1e3;
}

void* shared(std::size_t bytes) {
  void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) std::exit(1);
  return memory;
}

struct Meeting {
  std::atomic<long> arrived{0};
};

/// The `number`th meeting of all ranks; they may be more than cores.
void meet(Meeting& meeting, long number, int ranks) {
  meeting.arrived.fetch_add(1);
  while (meeting.arrived.load() < number * ranks) ::sched_yield();
}

void copy_past_cache(std::byte* to, const std::byte* from, std::size_t bytes) {
#ifdef __SSE2__
  for (; bytes >= 64; bytes -= 64, to += 64, from += 64) {
    for (std::size_t i = 0; i < 64; i += sizeof(__m128i)) {
      _mm_stream_si128(reinterpret_cast<__m128i*>(to + i), _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i)));
    }
  }
  _mm_sfence();
#endif
  std::memcpy(to, from, bytes);
}

/// Median time of all ranks' copies.
template <class Copy>
double measure(Meeting& meeting, long& number, int ranks, int iterations, Copy copy) {
  std::vector<double> times;
  for (int i = 0; i < iterations + 1; ++i) {
    meet(meeting, ++number, ranks);
    const double start = now_us();
    copy();
    meet(meeting, ++number, ranks);
    if (i > 0) times.push_back(now_us() - start);
  }
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "memory_bound RANKS BYTES ITERATIONS\n");
    return 2;
  }
  const int ranks = std::max(1, std::atoi(argv[1]));
  const std::size_t bytes = std::max<std::size_t>(1, std::strtoull(argv[2], nullptr, 10));
  const int iterations = std::max(1, std::atoi(argv[3]));
  Meeting& meeting = *new (shared(sizeof(Meeting))) Meeting;
  int rank = 0;
  for (int r = 1; r < ranks && rank == 0; ++r) {
    if (::fork() == 0) rank = r;
  }
  auto* const in = static_cast<std::byte*>(shared(bytes));
  auto* const out = static_cast<std::byte*>(shared(bytes));
  std::memset(in, 1, bytes);
  std::memset(out, 2, bytes);
  long number = 0;
  const double cached = measure(meeting, number, ranks, iterations, [&] { std::memcpy(out, in, bytes); });
  const double past = measure(meeting, number, ranks, iterations, [&] { copy_past_cache(out, in, bytes); });
  if (rank != 0) return out[bytes / 2] == in[bytes / 2] ? 0 : 1;
  while (::wait(nullptr) > 0) {
  }
  std::printf("%zu %.2f\n", bytes, std::min(cached, past));
  return 0;
}
