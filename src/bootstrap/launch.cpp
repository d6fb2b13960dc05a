#include "bootstrap/launch.hpp"

#include <fmt/format.h>

#include <charconv>

#include "base/env.hpp"

namespace longspan {
namespace bootstrap {
namespace {

Result<int> number(const char* name, const std::string& text, int least) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < least) {
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("{}={}: expected a whole number of at least {}", name, text, least));
  }
  return value;
}

Result<int> read(const Lookup& lookup, const char* name, int least, int otherwise) {
  const auto text = lookup(name);
  if (!text) return otherwise;
  return number(name, *text, least);
}

}  // namespace

Result<LaunchInfo> launch_info_from(const Lookup& lookup) {
  LaunchInfo info;
  info.launcher = "none";
  if (!lookup("RANK") && !lookup("WORLD_SIZE")) return info;
  info.launcher = lookup("TORCHELASTIC_RUN_ID") ? "torchrun" : "environment";
  LONGSPAN_ASSIGN(info.rank, read(lookup, "RANK", 0, -1));
  LONGSPAN_ASSIGN(info.size, read(lookup, "WORLD_SIZE", 1, -1));
  LONGSPAN_ASSIGN(info.local_rank, read(lookup, "LOCAL_RANK", 0, 0));
  LONGSPAN_ASSIGN(info.local_size, read(lookup, "LOCAL_WORLD_SIZE", 1, 1));
  info.master_address = lookup("MASTER_ADDR").value_or("");
  LONGSPAN_ASSIGN(info.master_port, read(lookup, "MASTER_PORT", 1, 0));
  return info;
}

}  // namespace bootstrap

Result<LaunchInfo> launch_info_from_environment() {
  return bootstrap::launch_info_from([](const char* name) { return env::get(name); });
}

}  // namespace longspan
