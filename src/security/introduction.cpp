#include "security/introduction.hpp"

#include <algorithm>
#include <array>

namespace longspan::security {
namespace {

constexpr std::string_view kMark = "longspan/1";
constexpr std::size_t kMaxField = 80;
constexpr std::string_view kEmpty = "-";

bool is_plain(char c) { return c > ' ' && c <= '~'; }

void append_field(std::string& out, std::string_view field) {
  out += ' ';
  if (field.empty()) field = kEmpty;
  for (const char c : field.substr(0, kMaxField)) out += is_plain(c) ? c : '_';
}

}  // namespace

std::string encode(const Introduction& introduction) {
  std::string out(kMark);
  append_field(out, introduction.sealed ? "sealed" : "open");
  for (const std::string* field : {&introduction.purpose, &introduction.from, &introduction.to, &introduction.host}) {
    append_field(out, *field);
  }
  return out;
}

std::optional<Introduction> parse_introduction(std::string_view bytes) {
  if (bytes.size() > kMaxIntroduction) return std::nullopt;
  std::array<std::string_view, 6> fields;
  for (std::string_view& field : fields) {
    const std::size_t end = std::min(bytes.find(' '), bytes.size());
    field = bytes.substr(0, end);
    if (field.empty() || field.size() > kMaxField || !std::all_of(field.begin(), field.end(), is_plain)) {
      return std::nullopt;
    }
    const bool last = &field == &fields.back();
    if (last != (end == bytes.size())) return std::nullopt;
    bytes.remove_prefix(std::min(end + 1, bytes.size()));
  }
  if (fields[0] != kMark || (fields[1] != "sealed" && fields[1] != "open")) return std::nullopt;
  const auto text = [](std::string_view field) { return field == kEmpty ? std::string() : std::string(field); };
  return Introduction{text(fields[2]), text(fields[3]), text(fields[4]), text(fields[5]), fields[1] == "sealed"};
}

}  // namespace longspan::security
