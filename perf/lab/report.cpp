#include "lab/report.hpp"

#include <fmt/format.h>

#include <array>
#include <fstream>
#include <nlohmann/json.hpp>

namespace longspan::lab {
namespace {

constexpr double kNotableSteal = 0.005;

double milliseconds(Duration duration) { return std::chrono::duration<double, std::milli>(duration).count(); }
double seconds(Duration duration) { return std::chrono::duration<double>(duration).count(); }

std::string bytes_text(double bytes) {
  if (bytes >= 1e9) return fmt::format("{:.3f} GB", bytes / 1e9);
  if (bytes >= 1e6) return fmt::format("{:.2f} MB", bytes / 1e6);
  if (bytes >= 1e3) return fmt::format("{:.1f} kB", bytes / 1e3);
  return fmt::format("{:.0f} B", bytes);
}

std::string name_of_region(const Topology& topology, int region) {
  return topology.regions[static_cast<std::size_t>(region)].name;
}

std::uint64_t buffer_of(const Topology& topology, const WanLink& link) {
  const WanLink* back = topology.wan_link(link.to, link.from);
  const Latency reverse = back != nullptr ? back->latency : link.latency;
  return settings_of(link, std::chrono::duration_cast<Duration>(reverse)).buffer_bytes;
}

double percent_busy(const LinkCounters& counters) {
  return counters.active_time.count() == 0 ? 0 : 100 * seconds(counters.busy_time) / seconds(counters.active_time);
}

std::string link_line(const Topology& topology, const WanLink& link, const LinkCounters& counters) {
  const std::uint64_t buffer = buffer_of(topology, link);
  std::string line = fmt::format(
      "{} -> {}: {} in {} packets, {} dropped (buffer), {} lost (random), largest queue {} ({:.1f} % of {}), "
      "{:.1f} % used while busy",
      name_of_region(topology, link.from), name_of_region(topology, link.to),
      bytes_text(static_cast<double>(counters.delivered_bytes)), counters.delivered_packets, counters.dropped_packets,
      counters.lost_packets, bytes_text(static_cast<double>(counters.largest_queue_bytes)),
      buffer == 0 ? 0.0 : 100.0 * static_cast<double>(counters.largest_queue_bytes) / static_cast<double>(buffer),
      bytes_text(static_cast<double>(buffer)), percent_busy(counters));
  if (counters.down_packets > 0) line += fmt::format(", {} gone while down", counters.down_packets);
  return line;
}

std::string lateness_line(const WanReport& wan) {
  return fmt::format(
      "lateness of {} packets: 99 % within {:.2f} ms, 99.9 % within {:.2f} ms, worst {:.2f} ms; {:.3f} % over {:.0f} "
      "ms "
      "({} % allowed); the emulator took {:.1f} % of a core ({}, {}) and stood still {} times, {:.1f} ms in all, "
      "{:.1f} ms at most",
      wan.lateness.samples(), milliseconds(wan.lateness.quantile(0.99)), milliseconds(wan.lateness.quantile(0.999)),
      milliseconds(wan.lateness.max()), 100 * wan.lateness.share_over(kAllowedLateness), milliseconds(kAllowedLateness),
      100 * kAllowedShare, 100 * wan.core_share, wan.port, wan.scheduling, wan.stalls.count,
      milliseconds(wan.stalls.total), milliseconds(wan.stalls.longest));
}

/// What a region's network cards sent that was not for another region.
double inside_bytes(const Topology& topology, const Report& report, std::size_t region) {
  constexpr double kEthernetHeader = 14;
  double inside = static_cast<double>(report.regions[region].sent_bytes);
  for (std::size_t i = 0; i < report.wan.links.size(); ++i) {
    if (topology.wan[i].from != static_cast<int>(region)) continue;
    const LinkCounters& link = report.wan.links[i];
    inside -= static_cast<double>(link.offered_bytes) + kEthernetHeader * static_cast<double>(link.offered_packets);
  }
  return std::max(0.0, inside);
}

}  // namespace

MachineTime MachineTime::now() {
  constexpr std::size_t kSteal = 7;
  std::array<std::uint64_t, kSteal + 1> fields{};
  std::ifstream file("/proc/stat");
  std::string cpu;
  file >> cpu;
  MachineTime time;
  for (std::uint64_t& field : fields) {
    file >> field;
    time.all += field;
  }
  time.stolen = fields[kSteal];
  return time;
}

std::vector<std::string> reasons_invalid(const Report& report) {
  std::vector<std::string> reasons;
  const double late = report.wan.lateness.share_over(kAllowedLateness);
  if (late > kAllowedShare && late * static_cast<double>(report.wan.lateness.samples()) > kAllowedPackets) {
    reasons.push_back(
        fmt::format("{:.2f} % of the packets were over {:.0f} ms late ({} % are allowed): this machine is too "
                    "slow or too busy for these links",
                    100 * late, milliseconds(kAllowedLateness), 100 * kAllowedShare));
  }
  if (report.wan.kernel_drops > 0) {
    reasons.push_back(
        fmt::format("the emulator lost {} packets that a link would have carried", report.wan.kernel_drops));
  }
  std::uint64_t overruns = 0;
  for (const auto* links : {&report.wan.links, &report.wan.uplinks}) {
    for (const LinkCounters& link : *links) overruns += link.overrun_packets;
  }
  if (overruns > 0) reasons.push_back(fmt::format("the emulator had no memory for {} packets", overruns));
  return reasons;
}

std::vector<std::string> report_lines(const Topology& topology, const Report& report) {
  std::vector<std::string> lines;
  for (std::size_t i = 0; i < report.wan.links.size(); ++i) {
    lines.push_back(link_line(topology, topology.wan[i], report.wan.links[i]));
  }
  for (std::size_t r = 0; r < report.regions.size(); ++r) {
    lines.push_back(fmt::format("inside {}: {} sent between hosts, {} packets dropped by NICs and uplinks",
                                topology.regions[r].name, bytes_text(inside_bytes(topology, report, r)),
                                report.regions[r].dropped_packets));
  }
  if (!report.wan.port.empty()) lines.push_back(lateness_line(report.wan));
  if (report.stolen_share > kNotableSteal) {
    lines.push_back(
        fmt::format("warning: the hypervisor took {:.1f} % of this machine's time: ranks and links stood still "
                    "together for as long",
                    100 * report.stolen_share));
  }
  for (const std::string& warning : report.wan.warnings) lines.push_back("warning: " + warning);
  for (const std::string& reason : reasons_invalid(report)) lines.push_back("INVALID RUN: " + reason);
  return lines;
}

std::string report_json(const Topology& topology, const Report& report) {
  nlohmann::ordered_json json;
  json["program"] = "longspan-lab";
  json["topology"] = topology.source;
  json["exit_code"] = report.exit_code;
  json["wall_s"] = seconds(report.wall);
  json["valid"] = reasons_invalid(report).empty();
  json["reasons_invalid"] = reasons_invalid(report);
  json["late_share"] = report.wan.lateness.share_over(kAllowedLateness);
  json["lateness_p99_ms"] = milliseconds(report.wan.lateness.quantile(0.99));
  json["lateness_p999_ms"] = milliseconds(report.wan.lateness.quantile(0.999));
  json["lateness_max_ms"] = milliseconds(report.wan.lateness.max());
  json["stalls"] = {{"count", report.wan.stalls.count},
                    {"total_ms", milliseconds(report.wan.stalls.total)},
                    {"longest_ms", milliseconds(report.wan.stalls.longest)}};
  json["core_share"] = report.wan.core_share;
  json["stolen_share"] = report.stolen_share;
  json["realtime"] = report.wan.scheduling.starts_with("SCHED");
  json["scheduling"] = report.wan.scheduling;
  json["port"] = report.wan.port;
  json["user_namespace"] = report.user_namespace;
  json["kernel_drops"] = report.wan.kernel_drops;
  json["unroutable_packets"] = report.wan.unroutable_packets;
  json["links"] = nlohmann::ordered_json::array();
  for (std::size_t i = 0; i < report.wan.links.size(); ++i) {
    const WanLink& link = topology.wan[i];
    const LinkCounters& counters = report.wan.links[i];
    json["links"].push_back({{"from", name_of_region(topology, link.from)},
                             {"to", name_of_region(topology, link.to)},
                             {"delivered_bytes", counters.delivered_bytes},
                             {"delivered_packets", counters.delivered_packets},
                             {"sent_bytes", counters.sent_bytes},
                             {"dropped_packets", counters.dropped_packets},
                             {"dropped_bytes", counters.dropped_bytes},
                             {"lost_packets", counters.lost_packets},
                             {"down_packets", counters.down_packets},
                             {"largest_queue_bytes", counters.largest_queue_bytes},
                             {"buffer_bytes", buffer_of(topology, link)},
                             {"busy_s", seconds(counters.busy_time)},
                             {"used_while_busy_percent", percent_busy(counters)}});
  }
  json["regions"] = nlohmann::ordered_json::array();
  for (std::size_t r = 0; r < report.regions.size(); ++r) {
    json["regions"].push_back({{"name", topology.regions[r].name},
                               {"inside_bytes", inside_bytes(topology, report, r)},
                               {"hosts_sent_bytes", report.regions[r].sent_bytes},
                               {"hosts_received_bytes", report.regions[r].received_bytes},
                               {"dropped_packets", report.regions[r].dropped_packets}});
  }
  return json.dump(2) + "\n";
}

}  // namespace longspan::lab
