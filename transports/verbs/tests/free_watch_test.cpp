// Memory that is freed while it is registered.
#include <fmt/format.h>
#include <sys/mman.h>

#include <chrono>
#include <thread>

#include "support/catch.hpp"
#include "verbs/free_watch.hpp"

using namespace longspan::verbs;

namespace {

constexpr std::size_t kBytes = std::size_t{1} << 20;

FreeWatch::Range fresh() {
  void* const memory =
      ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  REQUIRE(memory != MAP_FAILED);
  const auto begin = reinterpret_cast<std::uintptr_t>(memory);
  return {begin, begin + kBytes};
}

void* pointer(std::uintptr_t address) { return reinterpret_cast<void*>(address); }

/// A kernel may have no such events, or keep them for root: registrations are then not kept, which is slower, not
/// wrong.
std::unique_ptr<FreeWatch> open_or_say() {
  auto watch = FreeWatch::open();
  if (watch == nullptr) {
    fmt::print("SKIP: verbs: this kernel offers no events of userfaultfd\n");
    SUCCEED("skipped");
  }
  return watch;
}

}  // namespace

TEST_CASE("memory that is unmapped, thrown away or moved is noticed by the time the call returns", "[verbs]") {
  const auto watch = open_or_say();
  if (watch == nullptr) return;
  const FreeWatch::Range unmapped = fresh();
  const FreeWatch::Range thrown = fresh();
  const FreeWatch::Range moved = fresh();
  const FreeWatch::Range kept = fresh();
  for (const auto& range : {unmapped, thrown, moved, kept}) REQUIRE(watch->add(range));
  CHECK(watch->take().count == 0);

  ::munmap(pointer(unmapped.begin), kBytes);
  FreeWatch::Freed freed = watch->take();
  REQUIRE(freed.count == 1);
  CHECK(freed.ranges[0].begin == unmapped.begin);
  CHECK(freed.ranges[0].end == unmapped.end);

  ::madvise(pointer(thrown.begin + 4096), 8192, MADV_DONTNEED);
  freed = watch->take();
  REQUIRE(freed.count == 1);
  CHECK(freed.ranges[0].begin == thrown.begin + 4096);

  void* const elsewhere = ::mremap(pointer(moved.begin), kBytes, 2 * kBytes, MREMAP_MAYMOVE);
  REQUIRE(elsewhere != MAP_FAILED);
  if (elsewhere != pointer(moved.begin)) CHECK(watch->take().count >= 1);

  CHECK(watch->take().count == 0);
  static_cast<char*>(pointer(kept.begin))[0] = 1;  // nobody is held up who only uses it
  watch->remove(kept);
  ::munmap(pointer(kept.begin), kBytes);
  CHECK(watch->take().count == 0);
}

TEST_CASE("threads that free much at once are not held up, and too much to note is noted as such", "[verbs]") {
  const auto watch = open_or_say();
  if (watch == nullptr) return;
  std::vector<FreeWatch::Range> ranges;
  for (int i = 0; i < 200; ++i) {
    ranges.push_back(fresh());
    REQUIRE(watch->add(ranges.back()));
  }
  std::thread other([&] {
    for (const auto& range : ranges) ::munmap(pointer(range.begin), kBytes);
  });
  other.join();
  CHECK(watch->take().too_many);
}
