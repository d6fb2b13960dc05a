#include "base/env.hpp"

#include <charconv>
#include <cstdlib>
#include <cstring>
#include <string_view>

extern char** environ;  // NOLINT: POSIX

namespace longspan::env {

std::optional<std::string> get(const char* name) {
  const char* value = std::getenv(name);
  if (value == nullptr || *value == '\0') return std::nullopt;
  return std::string(value);
}

std::optional<int> get_int(const char* name) {
  const auto text = get(name);
  if (!text) return std::nullopt;
  int value = 0;
  const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), value);
  if (error != std::errc() || end != text->data() + text->size()) return std::nullopt;
  return value;
}

std::vector<std::string> names_with_prefix(const char* prefix) {
  std::vector<std::string> names;
  const std::size_t length = std::strlen(prefix);
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const std::string_view line(*entry);
    if (line.substr(0, length) != prefix) continue;
    names.emplace_back(line.substr(0, line.find('=')));
  }
  return names;
}

}  // namespace longspan::env
