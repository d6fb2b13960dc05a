#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "longspan/status.hpp"

namespace longspan::topology {

struct TomlMember;

/// A value of a TOML document with the line it stands on.
struct TomlValue {
  enum class Kind : std::uint8_t { kString, kInteger, kFloat, kBoolean, kDateTime, kArray, kTable };

  Kind kind = Kind::kTable;
  int line = 1;
  std::string text;  ///< kString
  std::int64_t integer = 0;
  double number = 0;
  bool boolean = false;
  std::vector<TomlValue> items;     ///< kArray
  std::vector<TomlMember> members;  ///< kTable, by position in the file

  /// The member with that key, or nullptr.
  const TomlMember* find(std::string_view key) const noexcept;
};

struct TomlMember {
  std::string key;
  int line = 1;
  TomlValue value;
};

inline constexpr std::size_t kMaxFileBytes = 4U << 20;  // some 30,000 hosts

/// Reads TOML 1.0 within limits that no topology file needs to pass: kMaxFileBytes of valid UTF-8, no control
/// characters, no strings over several lines, 16 nested values. Safe on any input. Errors: "source:line: found ...,
/// expected ...".
Result<TomlValue> read_toml(std::string_view text, std::string_view source);

/// "source:line: found `found`, expected `expected`" as kInvalidArgument.
Status file_error(std::string_view source, int line, std::string_view found, std::string_view expected);
/// 'text' in quotes for a message: shortened, control characters escaped.
std::string quoted(std::string_view text);
/// "the string 'x'", "the integer 5", "a table", ...
std::string describe(const TomlValue& value);

}  // namespace longspan::topology
