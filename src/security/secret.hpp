#pragma once

#include <optional>
#include <string>

#include "longspan/status.hpp"

namespace longspan::security {

/// The job's secret: `key` as it is, or what `key_file` holds without the line's end. Empty: there is none. A file that
/// others can read, and a secret that can be guessed, are warned of; both given, or an empty file, is an error.
Result<std::string> load_secret(const std::optional<std::string>& key, const std::optional<std::string>& key_file);
/// The same with LONGSPAN_KEY and LONGSPAN_KEY_FILE of the environment.
Result<std::string> secret_from_environment();

}  // namespace longspan::security
