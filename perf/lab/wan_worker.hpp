#pragma once

#include <atomic>
#include <deque>
#include <string>
#include <thread>
#include <vector>

#include "base/fd.hpp"
#include "lab/addresses.hpp"
#include "lab/faults.hpp"
#include "lab/lateness.hpp"
#include "lab/port.hpp"
#include "lab/train_memory.hpp"
#include "lab/waiting_frames.hpp"
#include "lab/wan_link.hpp"

namespace longspan::lab {

/// An emulated link, where its packets come from and where they go.
struct WanRoute {
  static constexpr int kAnywhere = -1;

  std::size_t number = 0;  ///< in Topology::wan; behind them, two for each of Network::delayed_uplinks()
  PacketPort* from = nullptr;
  PacketPort* to = nullptr;
  /// Of what its port has, it takes the IP packets for this region, or all frames.
  int to_region = kAnywhere;
  EmulatedLink link;
};

/// What one worker did. Valid after stop().
struct WorkerReport {
  Lateness lateness;
  std::uint64_t unroutable_packets = 0;
  std::uint64_t refused_packets = 0;  ///< the kernel had no room for what was due
  double core_share = 0;              ///< CPU time over wall time
  Stalls stalls;
  std::string scheduling;
  std::vector<std::string> warnings;
};

/// One thread that takes packets from the routers of some regions, passes them through the links that leave those
/// regions, and hands them to the routers at the other ends.
///
/// It works in rounds at most every 200 us while packets flow, and blocks when nothing does: the ranks need the cores.
class WanWorker {
 public:
  /// Reads `ports`, among which is every route's `from`. What it refers to must outlive it.
  WanWorker(const RegionLookup& lookup, const std::vector<PacketPort*>& ports, std::vector<WanRoute> routes,
            bool realtime);
  ~WanWorker();
  WanWorker(const WanWorker&) = delete;
  WanWorker& operator=(const WanWorker&) = delete;

  /// In the order of their instants; before start().
  void set_changes(std::deque<LinkChange> changes) { changes_ = std::move(changes); }
  Status start();
  /// The instant from which the changes count.
  void start_changes(TimePoint origin);
  void stop();

  const WorkerReport& report() const noexcept { return report_; }
  const std::vector<WanRoute>& routes() const noexcept { return routes_; }

 private:
  /// What one round found: nothing, all that waited, or so much that some still waits.
  enum class Arrivals { kNone, kSome, kMore };
  struct Source {
    PacketPort* port;
    TimePoint read{};  ///< when it was last read
  };

  void run();
  void wake();
  /// `expected`: when it should have been.
  Arrivals read_ports(TimePoint expected);
  Arrivals read_port(Source& source, TimePoint expected, Duration* stall);
  void offer(PacketPort& port, TrainMemory::Block& block, std::size_t length, TimePoint instant, Duration lateness);
  void deliver(TimePoint now);
  void deliver_front(EmulatedLink& link, PacketPort& port, TimePoint now);
  void add_piece(std::span<const std::byte> bytes);
  TimePoint next_due();
  void apply_changes(TimePoint now);
  TimePoint next_change() const;
  void wait_for_packets(TimePoint until);
  void take_realtime_priority();

  const RegionLookup& lookup_;
  std::vector<Source> sources_;
  TrainMemory memory_;  ///< before the links, which give it back what they hold when they go
  std::vector<WanRoute> routes_;
  const bool realtime_;
  WaitingFrames waiting_;      ///< behind their memory, as the links are
  std::vector<iovec> pieces_;  ///< of the frame that is being delivered
  std::deque<LinkChange> changes_;
  Fd epoll_;
  Fd wake_;
  std::atomic<bool> stopping_{false};
  std::atomic<std::int64_t> origin_ns_{-1};
  WorkerReport report_;
  std::thread thread_;
};

}  // namespace longspan::lab
