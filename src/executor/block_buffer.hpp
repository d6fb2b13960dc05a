#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace longspan::executor {

/// One user buffer as blocks: block b starts at element offset(b) and has count(b) elements.
struct BlockBuffer {
  std::byte* base = nullptr;
  std::size_t uniform = 0;            ///< elements of every block, unless `counts` is set
  std::span<const std::size_t> counts;   ///< elements of each block
  std::span<const std::size_t> offsets;  ///< first element of each block

  std::size_t count(std::uint32_t block) const { return counts.empty() ? uniform : counts[block]; }
  std::size_t offset(std::uint32_t block) const { return offsets.empty() ? uniform * block : offsets[block]; }
};

}  // namespace longspan::executor
