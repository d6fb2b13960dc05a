#pragma once

#include <memory>
#include <string>
#include <vector>

#include "lab/addresses.hpp"
#include "lab/faults.hpp"
#include "lab/lateness.hpp"
#include "lab/network.hpp"
#include "lab/port.hpp"
#include "lab/wan_worker.hpp"

namespace longspan::lab {

struct WanOptions {
  PortKind port = PortKind::kAuto;
  std::uint64_t seed = 1;
  bool offload = true;   ///< takes packets from the kernel in trains where the port can
  bool realtime = true;  ///< SCHED_DEADLINE or SCHED_FIFO when allowed
  std::vector<LinkChange> changes;
};

/// What the emulated WAN did. Valid after stop().
struct WanReport {
  std::vector<LinkCounters> links;    ///< as in Topology::wan
  std::vector<LinkCounters> uplinks;  ///< out and in, for each of Network::delayed_uplinks()
  Lateness lateness;
  Stalls stalls;
  std::uint64_t unroutable_packets = 0;  ///< for no host of the topology, or without a link
  std::uint64_t kernel_drops = 0;        ///< lost in front of or behind the emulator, which a real link would not do
  double core_share = 0;                 ///< CPU time of the emulator's threads over its wall time
  std::string scheduling;                ///< "SCHED_DEADLINE", "SCHED_FIFO" or "no real-time priority"
  std::string port;                      ///< "tun" or "packet"; empty when nothing is emulated here
  std::vector<std::string> warnings;
};

/// The packets between regions: a few threads that take them from each router's `wan0`, pass them through the emulated
/// links and hand them to the router of the other region.
class Wan {
 public:
  /// Attaches to every region's router. `network` must outlive this object.
  static Result<std::unique_ptr<Wan>> create(const Network& network, WanOptions options);
  ~Wan();

  /// Starts the threads.
  Status start();
  /// The instant from which the changes count.
  void start_changes(TimePoint origin);
  /// Ends the threads and gives their counters.
  WanReport stop();

 private:
  Wan(const Network& network, WanOptions options);
  Status attach_regions();
  Status attach_uplinks();
  void make_workers();
  std::vector<WanRoute> make_routes();
  void add_uplink_routes(std::vector<WanRoute>* routes);

  const Network& network_;
  const WanOptions options_;
  RegionLookup lookup_;
  std::vector<std::unique_ptr<PacketPort>> ports_;  ///< by region, when there are several
  std::vector<std::unique_ptr<PacketPort>> uplink_ports_;  ///< below and above each of Network::delayed_uplinks()
  std::vector<std::unique_ptr<WanWorker>> workers_;
  bool stopped_ = false;
  WanReport report_;
};

}  // namespace longspan::lab
