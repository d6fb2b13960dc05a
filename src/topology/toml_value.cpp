#include <fmt/format.h>

#include "topology/toml_reader.hpp"

namespace longspan::topology {

const TomlMember* TomlValue::find(std::string_view key) const noexcept {
  for (const TomlMember& member : members) {
    if (member.key == key) return &member;
  }
  return nullptr;
}

Status file_error(std::string_view source, int line, std::string_view found, std::string_view expected) {
  return {StatusCode::kInvalidArgument, fmt::format("{}:{}: found {}, expected {}", source, line, found, expected)};
}

std::string quoted(std::string_view text) {
  constexpr std::size_t kShown = 80;
  std::string out = "'";
  for (const char c : text.substr(0, kShown)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7F) {
      out += fmt::format("\\x{:02X}", byte);
    } else {
      out += c;
    }
  }
  // A cut may have split a UTF-8 sequence: drop its beginning.
  if (text.size() > kShown) {
    while ((static_cast<unsigned char>(out.back()) & 0xC0) == 0x80) out.pop_back();
    if ((static_cast<unsigned char>(out.back()) & 0xC0) == 0xC0) out.pop_back();
    out += "...";
  }
  return out + "'";
}

std::string describe(const TomlValue& value) {
  switch (value.kind) {
    case TomlValue::Kind::kString: return "the string " + quoted(value.text);
    case TomlValue::Kind::kInteger: return fmt::format("the integer {}", value.integer);
    case TomlValue::Kind::kFloat: return fmt::format("the number {}", value.number);
    case TomlValue::Kind::kBoolean: return value.boolean ? "true" : "false";
    case TomlValue::Kind::kDateTime: return "a date or time";
    case TomlValue::Kind::kArray: return "an array";
    case TomlValue::Kind::kTable: return "a table";
  }
  return "a value";
}

}  // namespace longspan::topology
