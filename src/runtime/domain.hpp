#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/clock.hpp"
#include "base/fd.hpp"
#include "base/fork_guard.hpp"
#include "executor/scratch_pool.hpp"
#include "longspan/plan.hpp"
#include "longspan/spi/transport.hpp"
#include "longspan/status.hpp"
#include "planner/transport_choice.hpp"

namespace longspan::runtime {

class CommunicatorImpl;
class DeviceDesk;
class LeaseDesk;

/// A rank's transport, and how it is reached there; the address is empty where it is not open.
struct EndpointAddress {
  planner::EndpointOffer offer;
  std::string address;
};

/// Another rank's Domain, as the bootstrap announced it.
struct Peer {
  spi::PeerId id = 0;
  std::string name;  ///< "rank 3 (host eu-1, region eu)"
  std::vector<EndpointAddress> endpoints;
};

/// What polls on behalf of somebody besides the transports (the control plane): called with the Domain's lock held.
class Pollable {
 public:
  virtual ~Pollable() = default;
  virtual int wait_fd() const noexcept = 0;
  virtual void poll() = 0;
  virtual TimePoint next_deadline() const = 0;
};

struct DomainOptions {
  spi::PeerId self = 0;
  std::uint64_t job = 0;
  std::string bind_address;
  std::vector<std::string> transports;  ///< allowed names; empty: all that are not for tests only
  int local_ranks = 1;                  ///< ranks on this host: with fewer cores, waiting yields at once
  std::string advertise_address;
  std::pair<std::uint16_t, std::uint16_t> ports{0, 0};
  std::string congestion_control;  ///< empty: chosen by path
  std::string rdma;               ///< device and its settings; empty: chosen
  std::vector<std::string> nics;  ///< of this host, to be used together
  std::string key;  ///< the job's secret; empty: none
  Encryption encryption = Encryption::kWan;
};

/// Owns endpoints, connections and the progress of one process (or of one rank, where ranks are threads). Shared by its
/// communicators.
///
/// Progress is driven by whoever waits: `drive_until` makes the caller the owner of progress; a second waiter sleeps
/// until the first leaves. A background thread drives when nobody waits; a caller takes over from it without waking it.
/// State below `mutex_` (endpoints, executions, communicators' queues) is touched only with the lock held.
class Domain {
 public:
  using Lock = std::unique_lock<std::mutex>;

  static Result<std::shared_ptr<Domain>> create(const DomainOptions& options);
  Domain(const Domain&) = delete;
  Domain& operator=(const Domain&) = delete;
  ~Domain();

  /// True in a child after fork(): nothing here may be used or destroyed there.
  bool inherited() const noexcept { return generation_ != fork_guard::generation(); }
  spi::PeerId self() const noexcept { return options_.self; }
  std::vector<EndpointAddress> addresses() const;

  /// Takes the lock; whoever spins lets go of it at once.
  Lock lock();
  /// Drives progress until `done()` (called with the lock held) or `deadline`; false at the deadline.
  bool drive_until(Lock& lock, const std::function<bool()>& done, TimePoint deadline);
  /// One round of progress without blocking.
  void progress(Lock& lock);
  /// Runs `action` with the lock held when the completions at hand have been dispatched: what ends executions must not
  /// run while a batch still refers to them.
  void defer(std::function<void()> action) { deferred_.push_back(std::move(action)); }
  void run_deferred();
  /// Changes whenever a channel is lost; cached channels are stale then.
  std::uint64_t channel_epoch() const noexcept { return channel_epoch_; }
  /// After work was started by a thread that will not drive: somebody else must notice.
  void work_started(Lock& lock);

  // With the lock held:
  Result<spi::Channel*> channel(const Peer& peer, Tier tier, const ChannelPlan& plan, TimePoint deadline);
  executor::ScratchPool& scratch() noexcept { return scratch_; }
  void add(std::uint64_t comm, CommunicatorImpl* communicator);
  void remove(std::uint64_t comm);
  std::vector<CommunicatorImpl*> communicators() const;
  void watch(Pollable* pollable);
  void unwatch(Pollable* pollable);
  /// From now on WAN links are leased; nullptr until then.
  void set_leases(std::unique_ptr<LeaseDesk> desk);
  LeaseDesk* leases() noexcept { return leases_.get(); }
  /// Made at the first call that has device memory or a stream.
  Result<DeviceDesk*> devices();
  /// nullptr: not made yet.
  DeviceDesk* devices_made() const noexcept { return devices_.get(); }
  void forget(std::uint64_t comm);
  void wake_waiters() { waiters_.notify_all(); }
  /// Work goes on although nobody waits for it any more, until as many have ended: the background thread sees to it
  /// whenever nobody else drives.
  void trail_begins() noexcept { ++trails_; }
  void trail_ends() noexcept { --trails_; }
  std::span<const std::unique_ptr<spi::Endpoint>> endpoints() const { return endpoints_; }
  std::uint64_t bytes_sent(Tier tier) const;
  /// By which transport a peer at that tier is reached, and why; both ends choose the same.
  planner::TransportChoice choose(const Peer& peer, Tier tier) const;
  /// The channel to a peer, where there is one.
  spi::Channel* find_channel(spi::PeerId peer) const;
  /// That channel takes device memory.
  bool takes_devices(spi::PeerId peer) const;

 private:
  explicit Domain(DomainOptions options);
  Status open_endpoints();
  bool poll_all();
  void dispatch(spi::Completion& completion);
  void block(Lock& lock, TimePoint deadline);
  void wake_blocked();
  /// Lets what is watched act when its deadline has come by `now`; whether anything did.
  bool poll_control(TimePoint now);
  TimePoint control_deadline() const;
  bool arm_all();
  void yield_to_contenders(Lock& lock);
  void offer_core(TimePoint now);
  std::chrono::nanoseconds spin_time() const noexcept;
  void learn_wait(std::chrono::nanoseconds idle) noexcept;
  void background();

  struct OpenChannel {
    spi::Channel* channel = nullptr;
    spi::Endpoint* endpoint = nullptr;
    Tier tier = Tier::kHost;
    bool takes_devices = false;
  };

  DomainOptions options_;
  const std::uint64_t generation_ = fork_guard::generation();
  std::mutex mutex_;
  std::condition_variable waiters_;
  std::atomic<int> contenders_{0};
  std::uint64_t owner_ = 0;  // ticket of the thread that drives; 0: nobody
  std::uint64_t tickets_ = 0;
  bool owner_is_background_ = false;
  int trails_ = 0;  // calls that are answered and still send
  std::uint64_t blocked_ = 0;  // ticket of the owner that blocks without the lock; 0: nobody
  int sleepers_ = 0;
  std::uint64_t drives_ = 0;  // how often somebody drove, for the background thread's patience
  std::chrono::nanoseconds spin_{0};

  std::vector<planner::EndpointOffer> offers_;  // of all transports, also those that are not open
  std::vector<std::string> names_;              // of endpoints_, by index
  std::vector<bool> takes_devices_;
  std::vector<bool> free_to_poll_;  // without a system call
  bool any_free_ = false;
  bool remote_busy_ = false;  // the last look at the other endpoints found something
  int remote_channels_ = 0;   // made over those
  std::uint64_t polls_ = 0;
  bool contended_ = false;    // others ran when the core was last offered
  int vain_spins_ = 0;        // in a row, that ended without anything to do
  int yield_after_;           // polls of a wait before the core is offered to others
  std::unique_ptr<LeaseDesk> leases_;  // outlives endpoints_, which read its messages
  std::vector<std::unique_ptr<spi::Endpoint>> endpoints_;
  std::unordered_map<spi::PeerId, OpenChannel> channels_;
  std::unordered_map<std::uint64_t, CommunicatorImpl*> communicators_;
  std::unordered_map<std::uint64_t, std::vector<spi::Completion>> early_;  // arrivals for communicators not made yet
  executor::ScratchPool scratch_;
  std::vector<Pollable*> pollables_;
  std::vector<std::function<void()>> deferred_;
  std::uint64_t channel_epoch_ = 1;
  std::array<spi::Completion, 64> completions_;
  std::unique_ptr<DeviceDesk> devices_;
  Fd epoll_;
  Fd wake_;

  std::condition_variable background_wake_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace longspan::runtime
