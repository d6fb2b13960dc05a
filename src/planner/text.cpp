#include "planner/text.hpp"

#include <fmt/format.h>

#include <array>

namespace longspan::planner {
namespace {

struct Unit {
  double size;
  const char* name;
};

template <std::size_t N>
std::string scaled(double value, const std::array<Unit, N>& units) {
  for (const Unit& unit : units) {
    if (value >= unit.size) return fmt::format("{:.4g} {}", value / unit.size, unit.name);
  }
  return fmt::format("{:.4g} {}", value / units.back().size, units.back().name);
}

}  // namespace

std::string rate_text(double bytes_per_second) {
  static constexpr std::array<Unit, 5> kUnits{
      {{1e12, "Tbit/s"}, {1e9, "Gbit/s"}, {1e6, "Mbit/s"}, {1e3, "kbit/s"}, {1, "bit/s"}}};
  return scaled(bytes_per_second * 8, kUnits);
}

std::string bytes_text(double bytes) {
  static constexpr std::array<Unit, 5> kUnits{{{1024.0 * 1024 * 1024 * 1024, "TiB"},
                                               {1024.0 * 1024 * 1024, "GiB"},
                                               {1024.0 * 1024, "MiB"},
                                               {1024, "KiB"},
                                               {1, "B"}}};
  return scaled(bytes, kUnits);
}

std::string time_text(double seconds) {
  static constexpr std::array<Unit, 3> kUnits{{{1, "s"}, {1e-3, "ms"}, {1e-6, "us"}}};
  return scaled(seconds, kUnits);
}

}  // namespace longspan::planner
