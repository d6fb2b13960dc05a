#pragma once

#include <string>
#include <vector>

#include "lab/network.hpp"
#include "lab/wan.hpp"

namespace longspan::lab {

/// A run is invalid when more than kAllowedShare of the packets came over kAllowedLateness late. Some share is allowed
/// because a virtual machine stands still for milliseconds now and then: ranks and links alike, and no lab can help it.
inline constexpr Duration kAllowedLateness = std::chrono::milliseconds(1);
inline constexpr double kAllowedShare = 0.01;
inline constexpr double kAllowedPackets = 10;  ///< in any case: one hiccup is no verdict on a run of few packets

/// All that the lab counted in one run.
struct Report {
  WanReport wan;
  std::vector<RegionTraffic> regions;  ///< as in Topology::regions
  Duration wall{0};
  int exit_code = 0;  ///< of the command
  bool user_namespace = false;
  double stolen_share = 0;  ///< of all cores' time during the run, what the hypervisor gave to others
};

/// What /proc/stat counts, summed over all cores, in clock ticks.
struct MachineTime {
  std::uint64_t all = 0;
  std::uint64_t stolen = 0;
  static MachineTime now();
};

/// Why what was measured on this run cannot be believed; empty when it can.
std::vector<std::string> reasons_invalid(const Report& report);

/// The lines printed at the end, each without its line end.
std::vector<std::string> report_lines(const Topology& topology, const Report& report);
/// The same as JSON.
std::string report_json(const Topology& topology, const Report& report);

}  // namespace longspan::lab
