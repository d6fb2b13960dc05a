#pragma once

#include <string>

namespace longspan::planner {

std::string rate_text(double bytes_per_second);  ///< "1 Gbit/s"
std::string bytes_text(double bytes);            ///< "64 MiB"
std::string time_text(double seconds);           ///< "556.9 ms"

}  // namespace longspan::planner
