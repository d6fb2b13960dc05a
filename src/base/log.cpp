#include "base/log.hpp"

#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <array>
#include <memory>
#include <mutex>
#include <string>

namespace longspan::log {
namespace {

constexpr std::array<std::string_view, 5> kNames{"error", "warn", "info", "debug", "trace"};
constexpr std::array<spdlog::level::level_enum, 5> kSpdlog{spdlog::level::err, spdlog::level::warn, spdlog::level::info,
                                                           spdlog::level::debug, spdlog::level::trace};
std::atomic<int> g_level{static_cast<int>(Level::kWarn)};  // read on every call, so kept out of spdlog's lock

spdlog::logger& logger() {
  static const std::shared_ptr<spdlog::logger> instance = [] {
    auto made = std::make_shared<spdlog::logger>("longspan", std::make_shared<spdlog::sinks::stderr_sink_mt>());
    made->set_level(spdlog::level::trace);
    made->set_pattern("longspan %l [%H:%M:%S.%e] %v");
    return made;
  }();
  return *instance;
}

}  // namespace

std::optional<Level> parse_level(std::string_view name) noexcept {
  for (std::size_t i = 0; i < kNames.size(); ++i) {
    if (kNames[i] == name) return static_cast<Level>(i);
  }
  return std::nullopt;
}

void set_level(Level level) noexcept { g_level.store(static_cast<int>(level), std::memory_order_relaxed); }

bool enabled(Level level) noexcept { return static_cast<int>(level) <= g_level.load(std::memory_order_relaxed); }

void write(Level level, std::string_view message) {
  logger().log(kSpdlog[static_cast<std::size_t>(level)], "{}", message);
}

void set_identity(std::string_view who) {
  logger().set_pattern("longspan %l [%H:%M:%S.%e] [" + std::string(who) + "] %v");
}

}  // namespace longspan::log
