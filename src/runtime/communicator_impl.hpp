#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/clock.hpp"
#include "base/fd.hpp"
#include "bootstrap/messages.hpp"
#include "executor/compiled_plan.hpp"
#include "longspan/communicator.hpp"
#include "planner/planner.hpp"
#include "runtime/domain.hpp"
#include "runtime/lease_desk.hpp"
#include "runtime/point_to_point.hpp"
#include "runtime/work_state.hpp"

namespace longspan::runtime {

class Job;

/// Marks message ids of send/recv, which count per (source, destination, tag) and not per communicator.
inline constexpr std::uint64_t kPointToPointBit = std::uint64_t{1} << 63;

/// How long the ranks have to agree on the root cause, so that all know it within a second of the deadline: the standby
/// hub needs 0.8 s when rank 0 stops just before a fault.
inline constexpr std::chrono::milliseconds kVerdictGrace{900};

/// The id of a communicator split from another: the same on all its ranks without talking.
std::uint64_t child_id(std::uint64_t parent, std::uint32_t split, int color);
/// The same of a communicator of these ranks of the parent.
std::uint64_t group_id(std::uint64_t parent, std::uint32_t tag, std::span<const int> ranks);

/// Elements from the start of a buffer to the end of its last block.
std::size_t extent_of(std::span<const std::size_t> counts, std::span<const std::size_t> offsets);

/// A plan with what is needed to run it again: executions to reuse and the channels it uses.
struct PlanEntry {
  std::shared_ptr<const executor::CompiledPlan> plan;  // shared with its executions
  std::vector<std::unique_ptr<executor::Execution>> idle;
  std::string name;  // of the decision
  std::vector<spi::Channel*> channels;
  std::vector<LeasedFlow> flows;  // those of the channels that cross a WAN link
  std::vector<std::uint8_t> takes_devices;  // of each channel
  std::uint64_t channel_epoch = 0;
  std::vector<double> shares;  // of each WAN link's stated rate, from which it was planned
};

/// What a CallDescriptor says, without its text.
struct RecentCall {
  Collective kind = Collective::kAllReduce;
  std::uint64_t count = 0;
  DataType type = DataType::kFloat32;
  ReduceOp op = ReduceOp::kSum;
  int root = 0;
  const PlanEntry* entry = nullptr;
  std::uint64_t digest = 0;
};

/// A call made before, checked and planned: training repeats itself, and a small message is over in the time that
/// working this out takes with cold caches. Only calls of uniform blocks, without a factor.
struct Prepared {
  Collective kind = Collective::kAllReduce;
  DataType type = DataType::kFloat32;
  ReduceOp op = ReduceOp::kSum;
  int root = 0;
  std::size_t count = 0;
  PlanEntry* entry = nullptr;  // nullptr: none
  std::uint64_t digest = 0;
};

/// The state behind a Communicator. Guarded by the Domain's lock.
class CommunicatorImpl : public std::enable_shared_from_this<CommunicatorImpl> {
 public:
  struct Members {
    std::uint64_t id = 0;
    int rank = 0;
    Cluster cluster;
    std::vector<Peer> peers;        // by rank
    std::vector<int> world_ranks;   // by rank
    std::size_t birth_epoch = 0;    // which it begins with: the same on all ranks
  };
  CommunicatorImpl(std::shared_ptr<Job> job, Members members);
  ~CommunicatorImpl();

  int rank() const noexcept { return members_.rank; }
  int size() const noexcept { return members_.cluster.size(); }
  std::uint64_t id() const noexcept { return members_.id; }
  const Members& members() const noexcept { return members_; }
  Job& job() noexcept { return *job_; }
  const std::shared_ptr<Job>& shared_job() const noexcept { return job_; }
  Domain& domain() noexcept { return *domain_; }

  /// Makes connections and memory ready that large collectives between regions will need.
  void warm_up();
  /// Starts; `blocking` when the caller will drive it itself.
  std::shared_ptr<WorkState> start(const CollectiveCall& call, bool blocking);
  /// A send or a receive as it is asked for.
  struct Message {
    bool receives = false;
    void* data = nullptr;
    std::size_t count = 0;
    DataType type = DataType::kUint8;
    int peer = kAnySource;
    std::uint32_t tag = 0;
    Stream stream = nullptr;
    bool grouped = false;  ///< gets its place in the stream by enter_streams
  };
  std::shared_ptr<WorkState> start_message(const Message& message);
  /// Puts the works of a group into their streams: those of one stream begin together when it has come to them, and it
  /// goes on when all are done.
  static void enter_streams(std::span<const std::shared_ptr<WorkState>> works);
  Status wait(WorkState& work, TimePoint deadline);
  bool test(WorkState& work);
  void set_timeout(std::chrono::nanoseconds timeout);
  void abort(const std::string& reason);
  void close();
  Status error();
  Result<PlanSummary> explain(const CollectiveShape& shape, std::size_t bytes);
  std::vector<LinkStats> link_stats();
  Status register_buffer(std::span<std::byte> memory);
  Status unregister_buffer(void* data);
  Result<void*> alloc(std::size_t bytes);
  Status free(void* data);
  std::uint32_t next_split() { return splits_++; }
  std::uint32_t next_seq() const noexcept { return next_seq_; }
  /// The epoch from which it plans now (see EpochDesk).
  std::size_t planning_epoch();

  // From the Domain, with its lock held:
  static void on_copied(const device::Token& token);
  /// The stream has come to `work`.
  void on_stream(WorkState& work);
  void on_device_failure(const Status& status);
  static void on_completion(spi::Completion& completion);
  void on_arrival(spi::Completion& completion);
  void on_broken(spi::PeerId peer, const Status& status);
  void check_deadlines(TimePoint now);
  /// Ends everything with `status`, for good.
  void fail(const Status& status);
  /// Reports a problem; the root cause ends the communicator, found together with the other ranks or, after a while,
  /// `status` alone.
  void report(const Status& status, int blamed_rank);
  /// Answers or finishes a collective as far as its execution has come.
  void settle(WorkState& work);
  /// The caller of `work` has his result, or its error.
  void answer(WorkState& work, Status status);
  /// Nothing of it runs any more; answers first where that is still to be done.
  void finish(WorkState& work, Status status);
  int rank_of(spi::PeerId peer) const;
  /// The oldest operation that somebody waits for, else the oldest that still sends; nullptr: none runs.
  const WorkState* oldest() const;
  /// Somebody waits for an operation.
  bool busy() const { return oldest() != nullptr && !oldest()->done.load(std::memory_order_relaxed); }
  /// What this rank knows of collective `report.seq`, for the root cause.
  void fill(bootstrap::WaitReport& report) const;
  std::string describe_call(const WorkState& work) const;
  std::string describe(int rank) const { return members_.cluster.describe(rank); }
  /// "allreduce #5", "send to rank 1 (tag 0)".
  std::string describe_operation(const WorkState& work) const;
  /// Its buffer could not be moved, or what came makes no sense.
  void message_failed(const WorkState& work, const Status& status);

 private:
  friend class PointToPoint;
  struct Allocation {
    std::size_t bytes = 0;  // mapped
    Fd memfd;
  };
  Status make_known(std::span<std::byte> memory, int memfd);
  void free_all();
  /// In a child after fork(): finishes `work` with an error and returns true.
  bool refuse_child(WorkState& work) const;
  Status validate(const CollectiveCall& call) const;
  /// Of an operation that starts now; `timeout` 0: the communicator's.
  void set_deadline(WorkState& work, std::chrono::nanoseconds timeout) const;
  Status begin(WorkState& work, const Prepared* known);
  /// Waits until the next collective may start and plans it from the epoch that all ranks plan it from.
  Status follow_epoch(Domain::Lock& lock, TimePoint deadline);
  void plan_from(std::size_t epoch);
  planner::Planner& planner() noexcept { return corrected_ ? *corrected_ : stated_; }
  /// Checks, plans and digests; remembers it where that may be asked again.
  Result<Prepared> prepare(WorkState& work);
  Prepared* slot_for(const CollectiveCall& call);
  const Prepared* known(const CollectiveCall& call);
  /// Checks and begins it; leaves a failure in it.
  void launch(Domain::Lock& lock, const std::shared_ptr<WorkState>& work);
  void launch_message(const std::shared_ptr<WorkState>& work);
  /// "allreduce", "send".
  std::string operation_of(const WorkState& work) const;
  void start_in_stream(const std::shared_ptr<WorkState>& work, bool grouped);
  /// Works of this Domain, all in one stream. With the gate's lock held.
  void enter_stream(std::span<const std::shared_ptr<WorkState>> works);
  void leave_stream(WorkState& work);
  Status find_devices(WorkState& work);
  /// The device on which a call can be done, since its buffers are there and some of its peers read device memory;
  /// nullptr: it is staged through host memory, or needs none.
  static device::Copier* stays_on(const WorkState& work);
  Status refuse_overlap(const WorkState& work) const;
  /// Starts what `begin` has prepared.
  Status run_prepared(WorkState& work, executor::Call run);
  Status run_alone_on_device(WorkState& work, std::byte* out, const std::byte* in, std::size_t bytes);
  Status run_alone(WorkState& work);
  /// An all-to-all whose buffers overlap reads from a copy (see in_place_alias).
  Status set_aside(WorkState& work, executor::Call& call);
  Status premultiply(WorkState& work, executor::Call& call);
  Result<PlanEntry*> entry_for(const CollectiveShape& shape, std::size_t bytes);
  Status connect(PlanEntry& entry, TimePoint deadline);
  void touch_scratch(Domain::Lock& lock, PlanEntry& entry);
  void check_early_digests(const WorkState& work, std::uint64_t digest);
  /// Leases what `flows` use until `work` is finished.
  void lease(WorkState& work, std::span<const LeasedFlow> flows);
  int wan_between(int peer) const;  // index into Topology::wan of the link to `peer`, or -1
  ChannelPlan point_to_point_channel(int peer) const;
  CollectiveShape shape_of(const CollectiveCall& call) const;
  std::size_t planning_bytes(const WorkState& work, const CollectiveShape& shape) const;
  executor::Call lay_out(WorkState& work) const;

  std::shared_ptr<Job> job_;        // shared by the job's communicators
  std::shared_ptr<Domain> domain_;  // the same object the job holds
  Members members_;
  planner::Planner stated_;  // from what the topology states
  std::unique_ptr<planner::Planner> corrected_;  // from what was measured since; nullptr: as stated
  std::chrono::nanoseconds timeout_;
  std::size_t epoch_ = 0;
  std::uint64_t seen_epochs_ = 0;  // EpochDesk::version when last looked at
  std::uint32_t look_again_at_;    // a collective for which that may have changed
  std::unordered_map<spi::PeerId, int> rank_of_peer_;
  std::unordered_map<const Plan*, std::unique_ptr<PlanEntry>> entries_;  // the planner remembers the plans
  std::array<Prepared, 16> prepared_;  // by a hash of the call
  // In the order they started; those that still send, though answered, too.
  std::vector<std::shared_ptr<WorkState>> active_;
  struct EarlyDigest {
    std::uint32_t seq;
    int rank;
    std::uint64_t digest;
  };
  std::vector<EarlyDigest> early_digests_;
  std::array<std::pair<std::uint64_t, RecentCall>, 16> recent_calls_;  // by number modulo the size
  PointToPoint point_to_point_;
  std::unordered_map<void*, std::vector<std::unique_ptr<spi::MemoryRegion>>> registered_;
  std::unordered_map<void*, Allocation> allocated_;  // by alloc()
  std::uint32_t next_seq_ = 0;
  std::uint32_t splits_ = 0;
  Status error_;
  bool reported_ = false;
  Status suspected_;        // what is reported if no root cause is agreed on in time
  TimePoint verdict_by_{};  // until when the others may say what happened
};

}  // namespace longspan::runtime
