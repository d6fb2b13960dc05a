#include "executor/scratch_pool.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <string>
#include <utility>

namespace longspan::executor {
namespace {

constexpr std::size_t kSmallest = std::size_t{1} << 16;
constexpr std::size_t kHugePage = std::size_t{2} << 20;
constexpr std::size_t kKept = 16;  // more sizes than a training step uses; beyond it the smallest goes
constexpr std::size_t kMuchLarger = 8;  // a block so many times larger is left to who needs it

}  // namespace

ScratchPool::~ScratchPool() {
  for (const Free& block : free_) ::munmap(block.data, block.size);
}

Result<ScratchPool::Block> ScratchPool::take(std::size_t bytes) {
  if (bytes == 0) return Block();
  const std::size_t size = std::bit_ceil(std::max(bytes, kSmallest));
  auto best = free_.end();
  for (auto it = free_.begin(); it != free_.end(); ++it) {
    if (it->size >= size && it->size <= kMuchLarger * size && (best == free_.end() || it->size < best->size)) best = it;
  }
  if (best != free_.end()) {
    const Free found = std::exchange(*best, free_.back());
    free_.pop_back();
    return Block(this, found.data, found.size);
  }
  void* memory = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    return Status(StatusCode::kResource, "no memory for " + std::to_string(size) + " bytes of scratch space");
  }
  if (size >= kHugePage) ::madvise(memory, size, MADV_HUGEPAGE);
  return Block(this, static_cast<std::byte*>(memory), size);
}

void ScratchPool::touch(std::span<std::byte> memory) noexcept {
#ifdef MADV_POPULATE_WRITE
  if (::madvise(memory.data(), memory.size(), MADV_POPULATE_WRITE) == 0) return;
#endif
  constexpr std::size_t kPage = 4096;
  for (std::size_t at = 0; at < memory.size(); at += kPage) {
    *static_cast<volatile std::byte*>(memory.data() + at) = std::byte{0};
  }
}

void ScratchPool::give_back(std::byte* data, std::size_t size) noexcept {
  if (free_.size() >= kKept) {
    const auto smallest =
        std::min_element(free_.begin(), free_.end(), [](auto& a, auto& b) { return a.size < b.size; });
    if (smallest->size >= size) {
      ::munmap(data, size);
      return;
    }
    ::munmap(smallest->data, smallest->size);
    *smallest = Free{data, size};
    return;
  }
  if (free_.capacity() == 0) free_.reserve(kKept);
  free_.push_back(Free{data, size});
}

}  // namespace longspan::executor
