#include "planner/forced.hpp"

#include <fmt/format.h>

namespace longspan::planner {

Result<Forced> forced_for(std::string_view options, Collective kind) {
  Forced general;
  Forced own;
  bool found_own = false;
  while (!options.empty()) {
    const std::size_t comma = options.find(',');
    std::string_view item = options.substr(0, comma);
    options = comma == std::string_view::npos ? std::string_view() : options.substr(comma + 1);
    const std::size_t equals = item.find('=');
    std::optional<Collective> only;
    if (equals != std::string_view::npos) {
      only = parse_collective(item.substr(0, equals));
      if (!only) {
        return Status(
            StatusCode::kInvalidArgument,
            fmt::format(
                "forced algorithm \"{}\": no collective is called \"{}\"; write allreduce=ring, or ring for all", item,
                item.substr(0, equals)));
      }
      item.remove_prefix(equals + 1);
    }
    Forced parsed;
    const std::size_t colon = item.find(':');
    parsed.algorithm = std::string(item.substr(0, colon));
    parsed.any_variant = colon == std::string_view::npos;
    if (!parsed.any_variant) parsed.variant = std::string(item.substr(colon + 1));
    if (parsed.algorithm.empty()) {
      return Status(StatusCode::kInvalidArgument,
                    "a forced algorithm has no name; write name, name:variant or collective=name");
    }
    if (only && *only == kind) {
      own = std::move(parsed);
      found_own = true;
    } else if (!only) {
      general = std::move(parsed);
    }
  }
  if (found_own) return own;
  // A barrier moves no data; programs that compare algorithms use it between runs, and few algorithms offer one.
  if (kind == Collective::kBarrier) return Forced{};
  return general;
}

}  // namespace longspan::planner
