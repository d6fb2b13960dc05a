#pragma once

#include <span>
#include <string>

namespace longspan {

/// "rank 3", "ranks 0, 2, 5-9": ascending ranks for a message, runs of three or more shortened, cut after 16 parts.
std::string rank_list(std::span<const int> ranks);

}  // namespace longspan
