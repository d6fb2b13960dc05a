#pragma once

#include <fmt/format.h>

#include <atomic>
#include <optional>
#include <string_view>

namespace longspan::log {

enum class Level { kError, kWarn, kInfo, kDebug, kTrace };

std::optional<Level> parse_level(std::string_view name) noexcept;
/// Sets the process's level (LONGSPAN_LOG); warnings and errors by default.
void set_level(Level level) noexcept;
bool enabled(Level level) noexcept;
/// Writes one line "longspan LEVEL [time] [who] message" to stderr.
void write(Level level, std::string_view message);
/// Names this process in every line, e.g. "rank 3".
void set_identity(std::string_view who);

template <class... Args>
void error(fmt::format_string<Args...> format, Args&&... args) {
  if (enabled(Level::kError)) write(Level::kError, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void warn(fmt::format_string<Args...> format, Args&&... args) {
  if (enabled(Level::kWarn)) write(Level::kWarn, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void info(fmt::format_string<Args...> format, Args&&... args) {
  if (enabled(Level::kInfo)) write(Level::kInfo, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void debug(fmt::format_string<Args...> format, Args&&... args) {
  if (enabled(Level::kDebug)) write(Level::kDebug, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void trace(fmt::format_string<Args...> format, Args&&... args) {
  if (enabled(Level::kTrace)) write(Level::kTrace, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace longspan::log
