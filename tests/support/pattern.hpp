#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace longspan::testing {

/// Bytes that differ by position and by `seed`, so that what lies in the wrong place shows.
inline std::vector<std::byte> pattern(std::size_t size, std::uint64_t seed) {
  std::vector<std::byte> bytes(size);
  std::uint64_t x = seed * 0x9e3779b97f4a7c15ULL + 1;
  for (std::size_t i = 0; i < size; ++i) {
    if (i % 8 == 0) x = x * 6364136223846793005ULL + 1442695040888963407ULL;
    bytes[i] = static_cast<std::byte>(x >> (8 * (7 - i % 8)));
  }
  return bytes;
}

}  // namespace longspan::testing
