#pragma once

#include <string>
#include <string_view>

#include "longspan/collective.hpp"
#include "longspan/status.hpp"

namespace longspan::planner {

/// What PlannerOptions::forced says about one collective.
struct Forced {
  std::string algorithm;  ///< empty: free choice
  std::string variant;
  bool any_variant = true;  ///< no ":variant" was given

  bool matches(std::string_view name, std::string_view of_variant) const {
    return algorithm.empty() || (algorithm == name && (any_variant || variant == of_variant));
  }
  std::string text() const { return any_variant ? algorithm : algorithm + ":" + variant; }
};

/// kInvalidArgument for an unknown collective or an empty name.
Result<Forced> forced_for(std::string_view options, Collective kind);

}  // namespace longspan::planner
