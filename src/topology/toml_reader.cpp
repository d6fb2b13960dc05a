// The only file that sees toml++. Debian's 3.3.0 has traps, closed here. With assertions on it aborts on some malformed
// documents ("[))("); with them off it tells the optimiser that the condition holds, which is undefined behaviour under
// clang. So its assertions throw, and a failed one becomes a syntax error. Where it looks for a blank, its behaviour is
// undefined for some characters outside ASCII, so it is given none (ascii_armor.hpp). Header-only, because the
// distribution's library was compiled with its own choice of assertions.
#undef NDEBUG
namespace {
struct TomlDefect {};
[[noreturn]] void throw_defect() { throw TomlDefect{}; }
}  // namespace
#define TOML_ASSERT(condition) ((condition) ? static_cast<void>(0) : throw_defect())
#define TOML_HEADER_ONLY 1
#define TOML_EXCEPTIONS 1
#define TOML_ENABLE_FORMATTERS 0
#define TOML_ENABLE_WINDOWS_COMPAT 0
#define TOML_MAX_NESTED_VALUES 16
#include "topology/toml_reader.hpp"

#include <toml++/toml.h>

#include <algorithm>
#include <cstddef>
#include <string>
#include <vector>

#include "topology/ascii_armor.hpp"
#include "topology/text_check.hpp"

namespace longspan::topology {
namespace {

constexpr std::string_view kExpectedToml = "TOML 1.0 (docs/topology.md has an example)";

int line_of(const toml::source_region& region) { return std::max(1, static_cast<int>(region.begin.line)); }

TomlValue convert(const toml::node& node, int line_above) {
  TomlValue value;
  value.line = node.source().begin.line > 0 ? line_of(node.source()) : line_above;
  switch (node.type()) {
    case toml::node_type::string:
      value.kind = TomlValue::Kind::kString;
      value.text = unarmored(node.as_string()->get());
      break;
    case toml::node_type::integer:
      value.kind = TomlValue::Kind::kInteger;
      value.integer = node.as_integer()->get();
      break;
    case toml::node_type::floating_point:
      value.kind = TomlValue::Kind::kFloat;
      value.number = node.as_floating_point()->get();
      break;
    case toml::node_type::boolean:
      value.kind = TomlValue::Kind::kBoolean;
      value.boolean = node.as_boolean()->get();
      break;
    case toml::node_type::array:
      value.kind = TomlValue::Kind::kArray;
      for (const toml::node& item : *node.as_array()) value.items.push_back(convert(item, value.line));
      break;
    case toml::node_type::table:
      for (const auto& [key, member] : *node.as_table()) {
        const int line = key.source().begin.line > 0 ? line_of(key.source()) : value.line;
        value.members.push_back({unarmored(key.str()), line, convert(member, line)});
      }
      // toml++ sorts by key; the first error reported should be the first in the file.
      std::sort(value.members.begin(), value.members.end(), [](const TomlMember& a, const TomlMember& b) {
        return a.line != b.line ? a.line < b.line : a.key < b.key;
      });
      break;
    default: value.kind = TomlValue::Kind::kDateTime; break;
  }
  return value;
}

/// Where one of toml++'s assertions fails: the first line without which the document no longer makes it fail.
int line_of_defect(std::string_view text) {
  std::vector<std::size_t> ends;
  for (std::size_t at = text.find('\n'); at != std::string_view::npos; at = text.find('\n', at + 1)) ends.push_back(at);
  ends.push_back(text.size());
  const auto fails = [text](std::size_t end) {
    try {
      (void)toml::parse(text.substr(0, end));
    } catch (const TomlDefect&) {
      return true;
    } catch (const toml::parse_error&) {
      return false;
    }
    return false;
  };
  const auto first = std::partition_point(ends.begin(), ends.end(), [&](std::size_t end) { return !fails(end); });
  return static_cast<int>(std::min(first - ends.begin(), static_cast<std::ptrdiff_t>(ends.size()) - 1)) + 1;
}

}  // namespace

Result<TomlValue> read_toml(std::string_view text, std::string_view source) {
  if (const auto problem = check_text(text)) {
    return file_error(source, problem->line, problem->found, problem->expected);
  }
  const std::string ascii = armored(text);
  try {
    return convert(toml::parse(std::string_view(ascii)), 1);
  } catch (const toml::parse_error& error) {
    return file_error(source, line_of(error.source()), "a syntax error (" + unarmored(error.description()) + ")",
                      kExpectedToml);
  } catch (const TomlDefect&) {
    return file_error(source, line_of_defect(ascii), "a syntax error", kExpectedToml);
  }
}

}  // namespace longspan::topology
