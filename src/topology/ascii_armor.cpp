#include "topology/ascii_armor.hpp"

#include <cstddef>
#include <cstdint>

namespace longspan::topology {
namespace {

int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

std::string armored(std::string_view text) {
  constexpr std::string_view kDigits = "0123456789ABCDEF";
  std::string out;
  out.reserve(text.size());
  for (const char c : text) {
    const auto byte = static_cast<std::uint8_t>(c);
    if (byte < 0x80 && c != '~') {
      out += c;
      continue;
    }
    out += '~';
    out += kDigits[byte >> 4];
    out += kDigits[byte & 0xF];
  }
  return out;
}

std::string unarmored(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    const int high = text[i] == '~' && i + 2 < text.size() ? hex_value(text[i + 1]) : -1;
    const int low = high >= 0 ? hex_value(text[i + 2]) : -1;
    if (low < 0) {
      out += text[i];
      continue;
    }
    out += static_cast<char>(high * 16 + low);
    i += 2;
  }
  return out;
}

bool has_escaped_tilde(std::string_view text) {
  for (const std::string_view escape : {"\\u007E", "\\u007e", "\\U0000007E", "\\U0000007e"}) {
    if (text.find(escape) != std::string_view::npos) return true;
  }
  return false;
}

}  // namespace longspan::topology
