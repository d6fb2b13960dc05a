#pragma once

#include <optional>
#include <string>
#include <vector>

namespace longspan::env {

/// The value of an environment variable; nullopt when unset or empty. The only getenv in the project is behind this.
std::optional<std::string> get(const char* name);
/// As a decimal integer; nullopt when unset or not a number.
std::optional<int> get_int(const char* name);
/// Names of all variables that start with `prefix`.
std::vector<std::string> names_with_prefix(const char* prefix);

}  // namespace longspan::env
