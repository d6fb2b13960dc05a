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

/// The first host of a Slurm node list: "a[03-05,9]-ib,b" gives "a03-ib"; empty when it cannot be read.
std::string first_host(const std::string& nodelist);

}  // namespace longspan::bootstrap
