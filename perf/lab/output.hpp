#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace longspan::lab {

/// Whose lines start with "[rank] ": everybody's, nobody's, or all but rank 0's.
enum class PrefixMode { kNone, kAll, kOthers };
std::optional<PrefixMode> parse_prefix_mode(std::string_view name) noexcept;

/// Passes text on, whole lines at a time, each after a prefix. What has no line end is passed on by flush().
class LinePrinter {
 public:
  LinePrinter(int fd, std::string prefix) : fd_(fd), prefix_(std::move(prefix)) {}
  void feed(std::span<const char> text);
  void flush();

 private:
  int fd_;
  std::string prefix_;
  std::string pending_;
};

/// Writes all of it, however often the descriptor takes only a part.
void write_fully(int fd, std::string_view text);

}  // namespace longspan::lab
