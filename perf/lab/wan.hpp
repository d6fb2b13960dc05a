#pragma once

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "base/fd.hpp"
#include "lab/addresses.hpp"
#include "lab/faults.hpp"
#include "lab/lateness.hpp"
#include "lab/network.hpp"
#include "lab/port.hpp"
#include "lab/wan_link.hpp"

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
  std::vector<LinkCounters> links;  ///< as in Topology::wan
  Lateness lateness;
  std::uint64_t unroutable_packets = 0;  ///< for no host of the topology, or without a link
  std::uint64_t kernel_drops = 0;        ///< lost in front of or behind the emulator, which a real link would not do
  double core_share = 0;                 ///< CPU time of the emulator over its wall time
  std::string scheduling;                ///< "SCHED_DEADLINE", "SCHED_FIFO" or "no real-time priority"
  std::string port;                      ///< "tun" or "packet"; empty when there is no WAN
  std::vector<std::string> warnings;
};

/// The packets between regions: one thread that takes them from each router's `wan0`, passes them through the
/// emulated links and hands them to the router of the other region.
///
/// It works in rounds at most every 200 us while packets flow, and blocks when nothing does: the ranks need the cores.
class Wan {
 public:
  /// Attaches to every region's router. `network` must outlive this object.
  static Result<std::unique_ptr<Wan>> create(const Network& network, WanOptions options);
  ~Wan();

  /// Starts the thread.
  Status start();
  /// The instant from which the changes count.
  void start_changes(TimePoint origin);
  /// Ends the thread and gives its counters.
  WanReport stop();

 private:
  /// What one round found: nothing, all that waited, or so much that some still waits.
  enum class Arrivals { kNone, kSome, kMore };

  Wan(const Network& network, WanOptions options);
  Status attach();
  void make_links();
  void run();
  Arrivals read_ports(TimePoint now, Duration lateness);
  void route(std::size_t region, std::span<const std::byte> frame, TimePoint now, Duration lateness);
  void deliver(TimePoint now);
  void deliver_front(EmulatedLink& link, PacketPort& port, TimePoint now);
  TimePoint next_due();
  void apply_changes(TimePoint now);
  TimePoint next_change() const;
  void wait_for_packets(TimePoint until);
  void take_realtime_priority();

  const Network& network_;
  const WanOptions options_;
  RegionLookup lookup_;
  std::vector<std::unique_ptr<PacketPort>> ports_;  ///< by region
  std::vector<EmulatedLink> links_;
  std::vector<int> link_of_pair_;  ///< from x regions + to -> index into links_, or -1
  std::vector<std::byte> scratch_;
  std::vector<iovec> pieces_;  ///< of the frame that is being delivered
  Fd epoll_;
  Fd wake_;
  std::atomic<bool> stopping_{false};
  std::atomic<std::int64_t> origin_ns_{-1};
  std::size_t next_change_ = 0;
  WanReport report_;
  std::thread thread_;
};

}  // namespace longspan::lab
