#include "tcp/path_choice.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <fstream>

#include "tcp/socket_options.hpp"

namespace longspan::tcp {
namespace {

/// Repeats are lost as originals are, and hold up those behind them on their lane: several lanes.
constexpr int kRepairLanes = 4;
/// Under BBR one connection fills a lossy link; several keep a loss from holding up what others carry. But TCP sends
/// what a millisecond of a connection's rate is in one piece, and small pieces cost both hosts time.
constexpr int kFewestLossyLanes = 2;
constexpr int kManyLossyLanes = 4;
constexpr double kWorthALane = 30e6;  // bytes per second
/// Loss-based congestion control gets about MSS / (RTT x sqrt(2 p / 3)) per connection (Mathis et al., 1997).
constexpr double kSegmentBytes = 1448;
constexpr int kMostLossyLanes = 32;

std::string rate_text(double bytes_per_second) { return fmt::format("{:.4g} Mbit/s", bytes_per_second * 8e-6); }

void choose_congestion_control(const spi::ChannelOptions& options, const PathMeans& means, spi::PathChoice& choice) {
  choice.congestion_control = means.system;
  if (!means.forced.empty()) {
    if (means.has_forced) choice.congestion_control = means.forced;
    choice.reasons.push_back(
        means.has_forced
            ? fmt::format("{}: LONGSPAN_CONGESTION_CONTROL asks for it", means.forced)
            : fmt::format(
                  "{}, the system's default: LONGSPAN_CONGESTION_CONTROL asks for {}, which this kernel does not offer",
                  means.system, means.forced));
  } else if (options.tier != Tier::kWan) {
    choice.reasons.push_back(fmt::format("{}, the system's default: the path stays inside a region", means.system));
  } else if (means.has_bbr) {
    choice.congestion_control = "bbr";
    choice.reasons.emplace_back("bbr: it does not take random loss for congestion, and this kernel has it");
  } else {
    choice.reasons.push_back(fmt::format("{}, the system's default: this kernel does not offer bbr (modprobe tcp_bbr, "
                                         "net.ipv4.tcp_allowed_congestion_control)", means.system));
  }
}

/// Lanes for a lossy path.
void choose_lossy_lanes(const spi::ChannelOptions& options, LossSource source, spi::PathChoice& choice) {
  const std::string loss =
      fmt::format("{} loss of {:.1e}", source == LossSource::kStated ? "a stated" : "an observed", options.loss);
  if (choice.congestion_control.starts_with("bbr")) {
    const double worth = std::floor(options.rate_bytes_per_second / kWorthALane);
    choice.lanes = static_cast<int>(std::clamp<double>(worth, kFewestLossyLanes, kManyLossyLanes));
    choice.reasons.push_back(fmt::format(
        "{} lanes: {}; one fills the link under bbr, several keep a hole from holding up what others carry; one for "
        "each {}, {} to {}",
        choice.lanes, loss, rate_text(kWorthALane), kFewestLossyLanes, kManyLossyLanes));
  } else {
    const double rtt = std::chrono::duration<double>(options.rtt).count();
    const double each = kSegmentBytes / (std::max(rtt, 1e-4) * std::sqrt(2 * options.loss / 3));
    const double wanted = std::ceil(2 * options.rate_bytes_per_second / each);  // half of what the formula allows
    choice.lanes = static_cast<int>(std::clamp<double>(wanted, kManyLossyLanes, kMostLossyLanes));
    choice.reasons.push_back(fmt::format(
        "{} lanes: {} lets one carry about {} under {} (Mathis' formula); twice what the rate needs, {} to {}",
        choice.lanes, loss, rate_text(each), choice.congestion_control, kManyLossyLanes, kMostLossyLanes));
  }
  choice.repair_lanes = kRepairLanes;
  choice.reasons.push_back(fmt::format(
      "{} repair lanes: {}; the end of what is sent goes again over them, so that its loss costs no round trip",
      kRepairLanes, loss));
}

}  // namespace

PathMeans path_means(const spi::EndpointOptions& options) {
  PathMeans means;
  means.forced = options.congestion_control;
  means.has_forced = !means.forced.empty() && can_use_congestion_control(means.forced);
  means.has_bbr = can_use_congestion_control("bbr");
  std::ifstream("/proc/sys/net/ipv4/tcp_congestion_control") >> means.system;
  means.default_lanes = std::max(1, options.default_lanes);
  return means;
}

spi::PathChoice choose_path(const spi::ChannelOptions& options, const PathMeans& means, LossSource source) {
  spi::PathChoice choice;
  choose_congestion_control(options, means, choice);
  choice.lanes = options.lanes > 0 ? options.lanes : means.default_lanes;
  if (options.tier == Tier::kWan && options.loss >= kLossy) {
    choose_lossy_lanes(options, source, choice);
  } else {
    choice.reasons.push_back(
        fmt::format("{} lane{}: {}, and {}; more, and repair lanes, as soon as random loss is observed", choice.lanes,
                    choice.lanes == 1 ? "" : "s", options.loss > 0 ? "hardly any loss is stated" : "no loss is stated",
                    choice.lanes == 1 ? "one carries the rate" : "the rate asks for so many"));
  }
  choice.express_lanes = choice.lanes > 1 || options.tier == Tier::kWan ? 1 : 0;
  return choice;
}

}  // namespace longspan::tcp
