#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace longspan::topology {

/// What stands in a text that must not reach the TOML parser.
struct TextProblem {
  int line = 1;
  std::string found;
  std::string expected;
};

/// The first breach of the limits stated at read_toml, or nullopt.
std::optional<TextProblem> check_text(std::string_view text);

}  // namespace longspan::topology
