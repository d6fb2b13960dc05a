// How FileReader reads single values, and what it takes to be absurd.
#include <fmt/format.h>

#include <cmath>

#include "base/units.hpp"
#include "topology/file_reader.hpp"

namespace longspan::topology {
namespace {

using Kind = TomlValue::Kind;

constexpr Bandwidth kSlowest{1000.0 / 8};
constexpr Bandwidth kFastest{1e16 / 8};
constexpr Latency kLongest{10};  // light takes 0.12 s through a geostationary satellite
constexpr std::uint64_t kDeepest = 1'000'000'000'000;
constexpr std::size_t kLongestName = 255;

/// "found X, expected Y" of a units parser, said of a key of the file.
Status at_key(const Status& status, std::string_view source, const TomlMember& member) {
  return {StatusCode::kInvalidArgument,
          fmt::format("{}:{}: '{}': {}", source, member.line, member.key, status.message())};
}

}  // namespace

Result<const TomlMember*> FileReader::required(const TomlValue& table, std::string_view key,
                                               std::string_view what) const {
  if (const TomlMember* member = table.find(key)) return member;
  return fail(table.line, fmt::format("a {} without '{}'", what, key), fmt::format("{} = ...", key));
}

Result<std::string> FileReader::text(const TomlMember& member, std::string_view expected) const {
  if (member.value.kind == Kind::kString) return member.value.text;
  return fail(member.line, fmt::format("{} for '{}'", describe(member.value), member.key), expected);
}

Result<std::string> FileReader::name(const TomlMember& member) const {
  LONGSPAN_ASSIGN(std::string value, text(member, "a name in quotes"));
  if (value.empty()) return fail(member.line, fmt::format("an empty '{}'", member.key), "a name");
  if (value.size() > kLongestName) {
    return fail(member.line, fmt::format("a name of {} bytes for '{}'", value.size(), member.key),
                fmt::format("at most {}", kLongestName));
  }
  for (const char c : value) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte != 0x7F) continue;
    return fail(member.line, fmt::format("a control character in {} for '{}'", quoted(value), member.key),
                "a name without any");
  }
  if (value.front() == ' ' || value.back() == ' ') {
    return fail(member.line, fmt::format("{} for '{}'", quoted(value), member.key), "a name without spaces around it");
  }
  return value;
}

Result<bool> FileReader::boolean(const TomlMember& member) const {
  if (member.value.kind == Kind::kBoolean) return member.value.boolean;
  return fail(member.line, fmt::format("{} for '{}'", describe(member.value), member.key), "true or false");
}

Result<Bandwidth> FileReader::bandwidth(const TomlMember& member) const {
  LONGSPAN_ASSIGN(const std::string value, text(member, "a bandwidth in quotes such as \"10 Gbit/s\""));
  const auto parsed = parse_bandwidth(value);
  if (!parsed.ok()) return at_key(parsed.status(), source_, member);
  if (*parsed < kSlowest || *parsed > kFastest) {
    return fail(member.line, fmt::format("{} for '{}'", quoted(value), member.key),
                fmt::format("between {} and {}", format_bandwidth(kSlowest), format_bandwidth(kFastest)));
  }
  return *parsed;
}

Result<Latency> FileReader::latency(const TomlMember& member) const {
  LONGSPAN_ASSIGN(const std::string value, text(member, "a time in quotes such as \"20 ms\""));
  const auto parsed = parse_time(value);
  if (!parsed.ok()) return at_key(parsed.status(), source_, member);
  if (*parsed > kLongest) {
    return fail(member.line, fmt::format("{} for '{}'", quoted(value), member.key),
                fmt::format("at most {} one way", format_time(kLongest)));
  }
  return *parsed;
}

Status FileReader::read_buffer(const TomlMember* member, WanLink& link) const {
  if (member == nullptr) return {};
  LONGSPAN_ASSIGN(const std::string value, text(*member, "an amount of data in quotes such as \"8 MB\""));
  const auto parsed = parse_bytes(value);
  if (!parsed.ok()) return at_key(parsed.status(), source_, *member);
  if (*parsed == 0 || *parsed > kDeepest) {
    return fail(member->line, fmt::format("{} for 'buffer'", quoted(value)),
                fmt::format("between 1 B and {}", format_bytes(kDeepest)));
  }
  link.buffer_bytes = *parsed;
  return {};
}

Status FileReader::read_loss(const TomlMember* member, WanLink& link) const {
  if (member == nullptr) return {};
  const TomlValue& value = member->value;
  const bool is_number = value.kind == Kind::kFloat || value.kind == Kind::kInteger;
  link.loss = value.kind == Kind::kInteger ? static_cast<double>(value.integer) : value.number;
  // Written so that nan fails too.
  if (!is_number || !(link.loss >= 0 && link.loss < 1)) {
    return fail(member->line, fmt::format("{} for 'loss'", describe(value)),
                "the share of packets lost: a number from 0 up to, but not including, 1");
  }
  link.loss += 0.0;  // -0.0 is 0
  link.loss_defaulted = false;
  return {};
}

}  // namespace longspan::topology
