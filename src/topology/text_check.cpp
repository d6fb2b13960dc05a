#include "topology/text_check.hpp"

#include <fmt/format.h>

#include <array>
#include <cstddef>
#include <cstdint>

#include "topology/ascii_armor.hpp"
#include "topology/toml_reader.hpp"

namespace longspan::topology {
namespace {

// A dotted key nests one table per dot, and tables are destroyed recursively: a line of a million dots would overflow
// the stack.
constexpr int kMaxDotsPerLine = 64;

/// Bytes of the UTF-8 sequence at the front (Unicode 15, table 3-7: no overlong forms, surrogates or values beyond
/// U+10FFFF); 0 when there is none.
std::size_t utf8_length(std::string_view text) {
  struct Form {
    std::uint8_t first_low, first_high, second_low, second_high;
    std::size_t length;
  };
  constexpr std::array<Form, 9> kForms{{{0x00, 0x7F, 0, 0, 1},
                                        {0xC2, 0xDF, 0x80, 0xBF, 2},
                                        {0xE0, 0xE0, 0xA0, 0xBF, 3},
                                        {0xE1, 0xEC, 0x80, 0xBF, 3},
                                        {0xED, 0xED, 0x80, 0x9F, 3},
                                        {0xEE, 0xEF, 0x80, 0xBF, 3},
                                        {0xF0, 0xF0, 0x90, 0xBF, 4},
                                        {0xF1, 0xF3, 0x80, 0xBF, 4},
                                        {0xF4, 0xF4, 0x80, 0x8F, 4}}};
  const auto byte = [text](std::size_t i) { return static_cast<std::uint8_t>(text[i]); };
  for (const Form& form : kForms) {
    if (byte(0) < form.first_low || byte(0) > form.first_high) continue;
    if (text.size() < form.length) return 0;
    if (form.length == 1) return 1;
    if (byte(1) < form.second_low || byte(1) > form.second_high) return 0;
    for (std::size_t i = 2; i < form.length; ++i) {
      if ((byte(i) & 0xC0) != 0x80) return 0;
    }
    return form.length;
  }
  return 0;
}

std::optional<TextProblem> check_bytes(std::string_view line, int number) {
  for (std::size_t i = 0; i < line.size();) {
    const auto byte = static_cast<std::uint8_t>(line[i]);
    if ((byte < 0x20 && byte != '\t') || byte == 0x7F) {
      return TextProblem{number, fmt::format("the control character 0x{:02X}", byte),
                         "text without control characters"};
    }
    const std::size_t length = utf8_length(line.substr(i));
    if (length == 0)
      return TextProblem{number, fmt::format("the byte 0x{:02X}, which is not UTF-8", byte), "UTF-8 text"};
    i += length;
  }
  return std::nullopt;
}

/// What follows a quote that opens a string, from its closing quote on; empty when nothing closes it.
std::string_view after_string(std::string_view rest, char quote) {
  for (std::size_t i = 0; i < rest.size(); ++i) {
    if (rest[i] == quote) return rest.substr(i + 1);
    if (rest[i] == '\\' && quote == '"') ++i;
  }
  return {};
}

/// What stands outside strings and comments. Without multi-line strings each line can be judged by itself.
std::optional<TextProblem> check_syntax(std::string_view line, int number) {
  int dots = 0;
  while (!line.empty()) {
    const char c = line.front();
    if (c == '#') return std::nullopt;
    if (line.starts_with("\"\"\"") || line.starts_with("'''")) {
      return TextProblem{number, "a multi-line string", "strings on one line"};
    }
    if (static_cast<std::uint8_t>(c) >= 0x80) {
      return TextProblem{number, fmt::format("'{}' outside quotes", line.substr(0, utf8_length(line))),
                         "characters other than ASCII only in strings and comments"};
    }
    if (c == '.' && ++dots > kMaxDotsPerLine) {
      return TextProblem{number, fmt::format("more than {} dots outside quotes", kMaxDotsPerLine), "keys without dots"};
    }
    line.remove_prefix(1);
    if (c == '"' || c == '\'') line = after_string(line, c);
  }
  return std::nullopt;
}

std::optional<TextProblem> check_line(std::string_view line, int number) {
  if (line.ends_with('\r')) line.remove_suffix(1);
  if (auto problem = check_bytes(line, number)) return problem;
  if (has_escaped_tilde(line)) return TextProblem{number, "an escaped '~'", "the character itself"};
  return check_syntax(line, number);
}

}  // namespace

std::optional<TextProblem> check_text(std::string_view text) {
  if (text.size() > kMaxFileBytes) {
    return TextProblem{1, fmt::format("a file of more than {} bytes", kMaxFileBytes), "a topology file"};
  }
  if (text.starts_with("\xEF\xBB\xBF")) return TextProblem{1, "a byte order mark", "UTF-8 without one"};
  int number = 1;
  while (true) {
    const std::size_t end = text.find('\n');
    if (auto problem = check_line(text.substr(0, end), number)) return problem;
    if (end == std::string_view::npos) return std::nullopt;
    text.remove_prefix(end + 1);
    ++number;
  }
}

}  // namespace longspan::topology
