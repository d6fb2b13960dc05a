#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "shm/shared_memory.hpp"

namespace longspan::shm {

/// Blocks of memory that all peers have mapped: a message copied here can be read, or reduced, by its receiver in
/// place. The block last given back is taken first, since it is in the cache. Memory that was never needed is never
/// touched.
class StagingHeap {
 public:
  static constexpr std::size_t kBytes = std::size_t{64} << 20;
  static constexpr std::size_t kSmallest = std::size_t{32} << 10;
  static constexpr int kClasses = 7;
  static constexpr std::size_t kLargest = kSmallest << (kClasses - 1);  ///< 2 MiB; more than that is sent in pieces

  struct Block {
    std::uint32_t offset = 0;
    std::int8_t size_class = -1;  ///< -1: none
  };

  static Result<StagingHeap> create() {
    StagingHeap heap;
    LONGSPAN_ASSIGN(heap.memory_, SharedMemory::create(kBytes, "longspan-heap"));
    return heap;
  }

  int fd() const noexcept { return memory_.fd(); }
  std::byte* at(const Block& block) const noexcept { return memory_.data() + block.offset; }

  /// A block of at least `bytes` (<= kLargest); nullopt when all are out.
  std::optional<Block> take(std::size_t bytes) {
    int wanted = 0;
    while (kSmallest << wanted < bytes) ++wanted;
    for (int size_class = wanted; size_class < kClasses; ++size_class) {
      auto& free = free_[static_cast<std::size_t>(size_class)];
      if (free.empty()) {
        if (size_class != wanted || used_ + (kSmallest << wanted) > kBytes) continue;
        const Block fresh{static_cast<std::uint32_t>(used_), static_cast<std::int8_t>(wanted)};
        used_ += kSmallest << wanted;
        return fresh;
      }
      const Block block{free.back(), static_cast<std::int8_t>(size_class)};
      free.pop_back();
      return block;
    }
    return std::nullopt;
  }
  void give_back(const Block& block) { free_[static_cast<std::size_t>(block.size_class)].push_back(block.offset); }

 private:
  SharedMemory memory_;
  std::size_t used_ = 0;
  std::array<std::vector<std::uint32_t>, kClasses> free_;
};

}  // namespace longspan::shm
