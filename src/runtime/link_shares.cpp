#include "runtime/link_shares.hpp"

#include <algorithm>
#include <vector>

namespace longspan::runtime {

double fill_level(std::span<const Claim> claims, double budget) {
  // By the level at which each is content: those below the answer take their cap, the others share what is left.
  std::vector<Claim> open;
  double wanted = 0;
  double weight = 0;
  for (const Claim& claim : claims) {
    if (claim.weight <= 0 || claim.cap <= 0) continue;
    open.push_back(claim);
    wanted += claim.cap;
    weight += claim.weight;
  }
  if (wanted <= budget) return kUnlimited;
  std::sort(open.begin(), open.end(),
            [](const Claim& a, const Claim& b) { return a.cap * b.weight < b.cap * a.weight; });
  double left = budget;
  for (const Claim& claim : open) {
    if (left / weight * claim.weight < claim.cap) break;
    left -= claim.cap;
    weight -= claim.weight;
  }
  return left / weight;
}

}  // namespace longspan::runtime
