#include "base/units.hpp"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <cmath>
#include <optional>
#include <span>

namespace longspan {
namespace {

struct Number {
  double value = 0;
  std::string_view unit;  // what follows the number and at most one space
};

struct Scale {
  std::string_view name;
  double factor;
};

constexpr double kTwoTo63 = 9223372036854775808.0;
constexpr std::array<Scale, 10> kPrefixes{{{"", 1},
                                           {"k", 1e3},
                                           {"K", 1e3},
                                           {"M", 1e6},
                                           {"G", 1e9},
                                           {"T", 1e12},
                                           {"Ki", 1024.0},
                                           {"Mi", 1048576.0},
                                           {"Gi", 1073741824.0},
                                           {"Ti", 1099511627776.0}}};
constexpr std::array<Scale, 5> kTimes{{{"ns", 1e-9}, {"us", 1e-6}, {"ms", 1e-3}, {"s", 1}, {"min", 60}}};

constexpr std::string_view kBandwidthForm = "a bandwidth such as \"10 Gbit/s\", \"800 Mb/s\" or \"1 GiB/s\"";
constexpr std::string_view kTimeForm = "a time such as \"20 ms\" or \"50 us\" (ns, us, ms, s, min)";
constexpr std::string_view kBytesForm = "an amount of data such as \"8 MB\", \"64 KiB\" or \"512 B\"";
constexpr std::string_view kSizeForm = "a size such as 8, 64K, 64M or 1G (powers of 1024)";

Status wrong(std::string_view text, std::string_view expected, std::string_view reason = {}) {
  constexpr std::size_t kShown = 60;
  return {StatusCode::kInvalidArgument,
          fmt::format("found \"{}{}\"{}{}, expected {}", text.substr(0, kShown), text.size() > kShown ? "..." : "",
                      reason.empty() ? "" : ": ", reason, expected)};
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }

/// Decimal only: from_chars alone would take "inf", "nan" and a sign.
Result<Number> split(std::string_view text, std::string_view expected) {
  if (text.empty()) return wrong(text, expected, "nothing");
  if (text.front() == '-') return wrong(text, expected, "negative");
  if (!is_digit(text.front()) && text.front() != '.') return wrong(text, expected, "no number");
  Number number;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number.value);
  if (error == std::errc::result_out_of_range) return wrong(text, expected, "out of range");
  if (error != std::errc{} || !std::isfinite(number.value)) return wrong(text, expected, "no number");
  number.unit = text.substr(static_cast<std::size_t>(end - text.data()));
  if (!number.unit.empty() && number.unit.front() == ' ') number.unit.remove_prefix(1);
  return number;
}

template <std::size_t N>
std::optional<double> factor_of(const std::array<Scale, N>& scales, std::string_view name) {
  for (const Scale& scale : scales) {
    if (scale.name == name) return scale.factor;
  }
  return std::nullopt;
}

/// What an amount of `unit` is in bytes: "kbit", "MiB", "b", ... times 8 to stay exact; nullopt when unknown.
std::optional<double> bits_of(std::string_view unit) {
  constexpr std::array<Scale, 3> kBases{{{"bit", 1}, {"b", 1}, {"B", 8}}};
  for (const Scale& base : kBases) {
    if (!unit.ends_with(base.name)) continue;
    if (const auto prefix = factor_of(kPrefixes, unit.substr(0, unit.size() - base.name.size()))) {
      return *prefix * base.factor;
    }
  }
  return std::nullopt;
}

std::string unit_problem(std::string_view unit) {
  if (unit.empty()) return "no unit";
  if (unit.front() == ' ') return "more than one space before the unit";
  return "unknown unit";
}

/// The value times the factor in whole bytes, or the reason why not.
Result<std::uint64_t> whole_bytes(std::string_view text, double bytes, std::string_view expected) {
  if (!(bytes < kTwoTo63)) return wrong(text, expected, "too large");
  if (bytes != std::floor(bytes)) return wrong(text, expected, "not a whole number of bytes");
  return static_cast<std::uint64_t>(bytes);
}

/// Doubles hold integers exactly only to 2^53: plain counts above that are read as integers.
std::optional<std::uint64_t> exact_integer(std::string_view digits) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (error != std::errc{} || end != digits.data() + digits.size() || value >> 63 != 0) return std::nullopt;
  return value;
}

std::string scaled(double value, std::span<const Scale> steps, std::string_view suffix) {
  const Scale* best = &steps.front();
  for (const Scale& step : steps) {
    // 999.96 would be printed as 1000 of the smaller unit.
    if (value >= step.factor * 0.99995) best = &step;
  }
  const double shown = value / best->factor;
  if (shown >= 10000) return fmt::format("{:.0f} {}{}", shown, best->name, suffix);
  return fmt::format("{:.4g} {}{}", shown, best->name, suffix);
}

constexpr std::array<Scale, 5> kDecimal{{{"", 1}, {"k", 1e3}, {"M", 1e6}, {"G", 1e9}, {"T", 1e12}}};

}  // namespace

Result<Bandwidth> parse_bandwidth(std::string_view text) {
  LONGSPAN_ASSIGN(const Number number, split(text, kBandwidthForm));
  if (!number.unit.ends_with("/s")) {
    return wrong(text, kBandwidthForm, number.unit.empty() ? "no unit" : "the unit is not one per second");
  }
  const auto bits = bits_of(number.unit.substr(0, number.unit.size() - 2));
  if (!bits) return wrong(text, kBandwidthForm, unit_problem(number.unit));
  const double bytes_per_second = number.value * *bits / 8;
  if (!std::isfinite(bytes_per_second)) return wrong(text, kBandwidthForm, "out of range");
  return Bandwidth{bytes_per_second};
}

Result<Latency> parse_time(std::string_view text) {
  LONGSPAN_ASSIGN(const Number number, split(text, kTimeForm));
  const auto seconds = factor_of(kTimes, number.unit);
  if (!seconds) return wrong(text, kTimeForm, unit_problem(number.unit));
  // Dividing by the whole number rounds once: 20 / 1000 is the double nearest 0.02, 20 * 1e-3 need not be.
  const double value = *seconds < 1 ? number.value / std::round(1 / *seconds) : number.value * *seconds;
  if (!std::isfinite(value)) return wrong(text, kTimeForm, "out of range");
  return Latency{value};
}

Result<std::uint64_t> parse_bytes(std::string_view text) {
  LONGSPAN_ASSIGN(const Number number, split(text, kBytesForm));
  const auto bits = bits_of(number.unit);
  if (!bits) return wrong(text, kBytesForm, unit_problem(number.unit));
  if (*bits == 8) {
    const std::string_view digits = text.substr(0, text.find_first_not_of("0123456789"));
    if (const auto whole = exact_integer(digits); whole && digits.size() + 2 >= text.size()) return *whole;
  }
  return whole_bytes(text, number.value * *bits / 8, kBytesForm);
}

Result<std::uint64_t> parse_size(std::string_view text) {
  if (const auto whole = exact_integer(text)) return *whole;
  LONGSPAN_ASSIGN(const Number number, split(text, kSizeForm));
  constexpr std::array<Scale, 9> kPowers{{{"", 1},
                                          {"K", 1024.0},
                                          {"k", 1024.0},
                                          {"M", 1048576.0},
                                          {"m", 1048576.0},
                                          {"G", 1073741824.0},
                                          {"g", 1073741824.0},
                                          {"T", 1099511627776.0},
                                          {"t", 1099511627776.0}}};
  std::string_view unit = number.unit;
  if (unit.ends_with("iB") && unit.size() > 2) {
    unit.remove_suffix(2);
  } else if (unit.ends_with('B')) {
    unit.remove_suffix(1);
  }
  const auto factor = factor_of(kPowers, unit);
  if (!factor) return wrong(text, kSizeForm, unit_problem(number.unit));
  return whole_bytes(text, number.value * *factor, kSizeForm);
}

std::string format_bandwidth(Bandwidth bandwidth) { return scaled(bandwidth.bytes_per_second * 8, kDecimal, "bit/s"); }

std::string format_time(Latency time) {
  constexpr std::array<Scale, 4> kSteps{{{"ns", 1e-9}, {"us", 1e-6}, {"ms", 1e-3}, {"s", 1}}};
  if (time.count() == 0) return "0 s";
  return scaled(time.count(), kSteps, "");
}

std::string format_bytes(std::uint64_t bytes) {
  constexpr std::array<Scale, 5> kBinary{
      {{"", 1}, {"Ki", 1024.0}, {"Mi", 1048576.0}, {"Gi", 1073741824.0}, {"Ti", 1099511627776.0}}};
  if (bytes % 1000 != 0 && bytes % 1024 == 0) return scaled(static_cast<double>(bytes), kBinary, "B");
  return scaled(static_cast<double>(bytes), kDecimal, "B");
}

std::string exact_bandwidth(Bandwidth bandwidth) {
  std::string shortest = fmt::format("{} B/s", bandwidth.bytes_per_second);
  bool found = false;
  for (const Scale& step : kDecimal) {
    std::string text = fmt::format("{} {}bit/s", bandwidth.bytes_per_second * 8 / step.factor, step.name);
    const auto back = parse_bandwidth(text);
    if (!back.ok() || *back != bandwidth || (found && text.size() > shortest.size())) continue;
    shortest = std::move(text);
    found = true;
  }
  return shortest;
}

std::string exact_time(Latency time) {
  std::string shortest = fmt::format("{} s", time.count());
  for (const Scale& step : kTimes) {
    if (step.factor >= 1) continue;
    std::string text = fmt::format("{} {}", time.count() / step.factor, step.name);
    const auto back = parse_time(text);
    if (back.ok() && *back == time && text.size() <= shortest.size()) shortest = std::move(text);
  }
  return shortest;
}

std::string exact_bytes(std::uint64_t bytes) {
  std::uint64_t value = bytes;
  std::size_t step = 0;
  while (value != 0 && value % 1000 == 0 && step + 1 < kDecimal.size()) {
    value /= 1000;
    ++step;
  }
  // Beyond 2^53 only plain bytes are read exactly.
  if (bytes >> 53 != 0) return fmt::format("{} B", bytes);
  return fmt::format("{} {}B", value, kDecimal[step].name);
}

}  // namespace longspan
