#pragma once

#include <string>
#include <string_view>

namespace longspan::topology {

/// The text with each byte that is not ASCII, and each '~', as '~' and two hexadecimal digits. Changes neither lines
/// nor what is inside or outside of strings and comments.
std::string armored(std::string_view text);

/// What `armored` was given; a '~' without two hexadecimal digits stays.
std::string unarmored(std::string_view text);

/// Whether a TOML escape in the text makes a '~', which unarmored would take for its own.
bool has_escaped_tilde(std::string_view text);

}  // namespace longspan::topology
