#pragma once

#include <limits>
#include <span>

namespace longspan::runtime {

/// What one rank, or one of its flows, wants of a WAN link.
struct Claim {
  double weight = 0;  ///< bytes/s that its plan gave it
  double cap = 0;     ///< bytes/s beyond which it has no use for more
};

/// A flow gets min(cap, fill x weight).
inline constexpr double kUnlimited = std::numeric_limits<double>::infinity();

/// The level to which a link's budget (bytes/s) fills all claims: weighted max-min fairness (Bertsekas and Gallager,
/// "Data Networks", 6.5.2). kUnlimited when all caps fit.
double fill_level(std::span<const Claim> claims, double budget);

inline double share_of(const Claim& claim, double fill) {
  if (claim.weight <= 0) return 0;
  return fill * claim.weight < claim.cap ? fill * claim.weight : claim.cap;
}

}  // namespace longspan::runtime
