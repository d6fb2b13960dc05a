#include "base/rank_list.hpp"

#include <fmt/format.h>

#include <cstddef>

namespace longspan {

std::string rank_list(std::span<const int> ranks) {
  constexpr int kMaxParts = 16;
  std::string out = ranks.size() == 1 ? "rank " : "ranks ";
  int parts = 0;
  for (std::size_t first = 0; first < ranks.size();) {
    if (parts == kMaxParts) return out + fmt::format(" and {} more", ranks.size() - first);
    std::size_t last = first;
    while (last + 1 < ranks.size() && ranks[last + 1] == ranks[last] + 1) ++last;
    if (last - first < 2) last = first;
    out += parts++ == 0 ? "" : ", ";
    out += last == first ? fmt::format("{}", ranks[first]) : fmt::format("{}-{}", ranks[first], ranks[last]);
    first = last + 1;
  }
  return out;
}

}  // namespace longspan
