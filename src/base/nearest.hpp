#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace longspan {

/// The candidate that `name` is most likely a slip of (optimal string alignment distance of at most a third of its
/// length, case ignored), or nullopt when none is close.
std::optional<std::string_view> nearest_name(std::string_view name, std::span<const std::string_view> candidates);
/// " (did you mean 'x'?)" for the nearest candidate, or "".
std::string did_you_mean(std::string_view name, std::span<const std::string_view> candidates);

}  // namespace longspan
