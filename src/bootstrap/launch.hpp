#pragma once

#include <functional>
#include <optional>
#include <string>

#include "longspan/bootstrap.hpp"

namespace longspan::bootstrap {

/// The value of an environment variable; nullopt when unset or empty.
using Lookup = std::function<std::optional<std::string>(const char* name)>;

/// `launch_info_from_environment`, from any environment.
Result<LaunchInfo> launch_info_from(const Lookup& lookup);

}  // namespace longspan::bootstrap
