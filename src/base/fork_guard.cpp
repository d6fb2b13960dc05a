#include "base/fork_guard.hpp"

#include <pthread.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <mutex>

namespace longspan::fork_guard {
namespace {

// A bit per descriptor: set and cleared without a lock, and safe to read in a child of a process with threads. Higher
// descriptors than this are not protected; no job of ours comes near.
constexpr std::size_t kDescriptors = std::size_t{1} << 16;
constexpr std::size_t kWordBits = 64;
std::array<std::atomic<std::uint64_t>, kDescriptors / kWordBits> g_owned;
std::atomic<std::uint64_t> g_generation{0};

bool listed(int fd) noexcept { return fd >= 0 && static_cast<std::size_t>(fd) < kDescriptors; }

std::atomic<std::uint64_t>& word_of(int fd) noexcept { return g_owned[static_cast<std::size_t>(fd) / kWordBits]; }
std::uint64_t bit_of(int fd) noexcept { return std::uint64_t{1} << (static_cast<std::size_t>(fd) % kWordBits); }

void in_child() {
  g_generation.fetch_add(1, std::memory_order_relaxed);
  for (std::size_t i = 0; i < g_owned.size(); ++i) {
    std::uint64_t bits = g_owned[i].exchange(0, std::memory_order_relaxed);
    for (std::size_t b = 0; bits != 0; ++b, bits >>= 1) {
      if ((bits & 1U) != 0) ::close(static_cast<int>(i * kWordBits + b));
    }
  }
}

}  // namespace

void install() {
  static std::once_flag once;
  std::call_once(once, [] { ::pthread_atfork(nullptr, nullptr, in_child); });
}

void opened(int fd) noexcept {
  if (listed(fd)) word_of(fd).fetch_or(bit_of(fd), std::memory_order_relaxed);
}

bool closing(int fd) noexcept {
  if (!listed(fd)) return true;
  return (word_of(fd).fetch_and(~bit_of(fd), std::memory_order_relaxed) & bit_of(fd)) != 0;
}

std::uint64_t generation() noexcept { return g_generation.load(std::memory_order_relaxed); }

}  // namespace longspan::fork_guard
