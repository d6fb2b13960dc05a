#pragma once

#include <bit>
#include <cstdint>
#include <string_view>

namespace longspan::planner {

/// A 64-bit hash that is the same on every machine: words mixed by splitmix64's finaliser.
class Hasher {
 public:
  Hasher& add(std::uint64_t word) noexcept {
    state_ = mix(state_ ^ (word + 0x9e3779b97f4a7c15ULL));
    return *this;
  }
  Hasher& add(int value) noexcept { return add(static_cast<std::uint64_t>(static_cast<std::int64_t>(value))); }
  Hasher& add(double value) noexcept { return add(std::bit_cast<std::uint64_t>(value)); }
  Hasher& add(std::string_view text) noexcept {
    add(static_cast<std::uint64_t>(text.size()));
    for (const char c : text) add(static_cast<std::uint64_t>(static_cast<unsigned char>(c)));
    return *this;
  }
  std::uint64_t value() const noexcept { return state_; }

 private:
  static std::uint64_t mix(std::uint64_t x) noexcept {
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
    return x ^ (x >> 31);
  }
  std::uint64_t state_ = 0x6c6f6e677370616eULL;  // "longspan"
};

}  // namespace longspan::planner
