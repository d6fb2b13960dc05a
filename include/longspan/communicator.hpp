#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "longspan/export.hpp"
#include "longspan/bootstrap.hpp"
#include "longspan/collective.hpp"
#include "longspan/options.hpp"
#include "longspan/status.hpp"
#include "longspan/types.hpp"
#include "longspan/work.hpp"

namespace longspan {

namespace runtime {
class CommunicatorImpl;
}

/// Where an operation is ordered. nullptr is the host: it starts at once. A CUstream (cudaStream_t): it starts when
/// what is before it in the stream is done, and what comes after it there waits for the result; the blocking forms then
/// return as soon as it has its place in the stream, and a failure is in `Communicator::error` (the stream goes on all
/// the same). A stream that captures a graph is refused. CUDA's default stream is cudaStreamLegacy or
/// cudaStreamPerThread here, never nullptr. Sends and receives that wait for each other belong into a CallGroup: one
/// after the other in a stream, the second would not begin before the first is done. A receive from any source takes
/// its place among the receives when its stream has come to it.
///
/// Buffers may be device memory (CUDA), each side of each rank as it likes, with or without a stream.
using Stream = void*;

/// Any rank may be the sender.
inline constexpr int kAnySource = -1;

/// What one rank asks for in one call; the named calls of Communicator fill it in. Lengths are elements.
struct CollectiveCall {
  Collective kind = Collective::kAllReduce;
  const void* in = nullptr;
  void* out = nullptr;
  std::size_t count = 0;  ///< per block: what NCCL's call of the same name takes
  std::span<const std::size_t> in_counts, in_offsets;    ///< per block of `in` (scatterv, reduce_scatterv, alltoallv)
  std::span<const std::size_t> out_counts, out_offsets;  ///< per block of `out` (allgatherv, gatherv, alltoallv)
  /// gatherv, scatterv, alltoallv: a block's length is known only to the two ranks that exchange it. `count` is then
  /// this rank's own block (gatherv, scatterv); the root, or every rank of an alltoallv, gives the lists.
  bool private_lengths = false;
  DataType type = DataType::kFloat32;
  ReduceOp op = ReduceOp::kSum;
  double factor = 1;  ///< kPremulSum: what this rank's input is multiplied with
  int root = 0;
  Stream stream = nullptr;
  std::chrono::nanoseconds timeout{0};  ///< of this call alone; 0: as `Communicator::set_timeout` or Options say
  /// The caller waits for it at once, and so drives it: no other thread is woken for it. Where it does not after all,
  /// it is driven some milliseconds later.
  bool awaited = false;
};

/// What is planned for a call, for people and programs.
struct PlanSummary {
  std::string algorithm;
  std::uint32_t chunks = 1;
  double predicted_seconds = 0;
  double bound_seconds = -1;  ///< < 0: not known
  std::string bound_cut;
};

/// What this rank's connections over one directed WAN link have done so far; of a link out of another region, nothing.
struct LinkStats {
  std::string name;                           ///< "eu -> us"
  double bandwidth_bytes_per_second = 0;      ///< as the topology states it
  double capacity_bytes_per_second = 0;       ///< what it was found to carry for this job; at most as stated
  std::uint64_t bytes_sent = 0;               ///< payload
  double rate_bytes_per_second = 0;           ///< what arrived while this rank last used it, of IP packets
  double share_used = 0;                      ///< of the capacity: rate / capacity
  double delivery_rate_bytes_per_second = 0;  ///< as TCP estimates it, of all connections together
  double leased_bytes_per_second = 0;         ///< what they may send now, of IP packets
  std::chrono::nanoseconds rtt{0};            ///< the latest, of the connection that waits longest
  std::chrono::nanoseconds min_rtt{0};
  std::chrono::nanoseconds queue_delay{0};    ///< how long packets wait in a queue that all connections share
  std::uint64_t retransmits = 0;              ///< packets that were sent again
  std::uint64_t drops = 0;                    ///< packets that the network lost; the other retransmits were in vain
  std::uint64_t reconnects = 0;               ///< lost connections that were replaced
  double observed_loss = 0;                   ///< share of packets, at random, as the rank that saw most says; 0: none
  std::uint32_t connections = 0;              ///< that carry data to the other region now
  std::uint32_t repair_connections = 0;       ///< and those that repeat the end of it (lossy links)
};

/// A group of ranks that communicate. Collective calls must be made by all ranks in the same order; calls on different
/// communicators are independent. Thread-safe. Errors are final for a communicator: after one, every call returns it.
///
///     auto comm = longspan::Communicator::create();
///     if (!comm.ok()) die(comm.status().to_string());
///     std::vector<float> x(1 << 20, 1.0f);
///     const auto type = longspan::DataType::kFloat32;
///     auto status = comm->all_reduce(x.data(), x.data(), x.size(), type, longspan::ReduceOp::kSum);
class LONGSPAN_API Communicator {
 public:
  /// All ranks of the job, as the launcher's environment says (torchrun, Open MPI, MPICH, Slurm). Collective, blocking.
  /// Between regions it lasts up to 14 RTT longer (4 s at most), so that the first collectives find warm connections.
  static Result<Communicator> create(const Options& options = {});
  /// `size` ranks that all hold `id`, made by `make_unique_id` on one of them. Collective, blocking.
  static Result<Communicator> create(const UniqueId& id, int rank, int size, const Options& options = {});

  Communicator() noexcept;
  Communicator(Communicator&&) noexcept;
  Communicator& operator=(Communicator&&) noexcept;
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;
  /// Sends the rest of what finished calls owe other regions (up to their deadlines), and says goodbye to the peers;
  /// calls that still run are aborted. A process that ends without it may leave the others without its part of a
  /// result.
  ~Communicator();

  int rank() const noexcept;
  int size() const noexcept;
  /// "rank 3 (host eu-1, region eu)".
  std::string describe(int rank) const;

  /// Starts any collective. Lengths and spans are copied.
  Work start(const CollectiveCall& call);
  /// The same, and waits for it (inside a CallGroup: its end does).
  Status run(const CollectiveCall& call);

  // Blocking forms: `start` and `wait`. Counts are elements; in == out (or the in-place layout of NCCL) is fine.
  Status all_reduce(const void* in, void* out, std::size_t count, DataType type, ReduceOp op, Stream stream = nullptr);
  Status all_gather(const void* in, void* out, std::size_t count, DataType type, Stream stream = nullptr);
  Status reduce_scatter(const void* in, void* out, std::size_t count, DataType type, ReduceOp op,
                        Stream stream = nullptr);
  Status broadcast(const void* in, void* out, std::size_t count, DataType type, int root, Stream stream = nullptr);
  Status reduce(const void* in, void* out, std::size_t count, DataType type, ReduceOp op, int root,
                Stream stream = nullptr);
  Status gather(const void* in, void* out, std::size_t count, DataType type, int root, Stream stream = nullptr);
  Status scatter(const void* in, void* out, std::size_t count, DataType type, int root, Stream stream = nullptr);
  Status all_to_all(const void* in, void* out, std::size_t count, DataType type, Stream stream = nullptr);
  Status barrier(Stream stream = nullptr);
  // Variable counts, as in MPI: `counts` (elements) and `offsets` (empty: packed) per rank.
  Status all_gather_v(const void* in, void* out, std::span<const std::size_t> counts,
                      std::span<const std::size_t> offsets, DataType type);
  Status reduce_scatter_v(const void* in, void* out, std::span<const std::size_t> counts, DataType type, ReduceOp op);
  Status gather_v(const void* in, std::size_t count, void* out, std::span<const std::size_t> counts,
                  std::span<const std::size_t> offsets, DataType type, int root);
  Status scatter_v(const void* in, std::span<const std::size_t> counts, std::span<const std::size_t> offsets, void* out,
                   std::size_t count, DataType type, int root);
  Status all_to_all_v(const void* in, std::span<const std::size_t> in_counts, std::span<const std::size_t> in_offsets,
                      void* out, std::span<const std::size_t> out_counts, std::span<const std::size_t> out_offsets,
                      DataType type);
  Work all_reduce_async(const void* in, void* out, std::size_t count, DataType type, ReduceOp op,
                        Stream stream = nullptr);

  /// Sends `count` elements to `peer`. Messages of one (source, tag) arrive in order. Done when `data` may be reused.
  Work send(const void* data, std::size_t count, DataType type, int peer, std::uint32_t tag = 0,
            Stream stream = nullptr);
  /// Receives at most `count` elements from `peer` (or kAnySource). A longer message is kInvalidArgument.
  Work recv(void* data, std::size_t count, DataType type, int peer, std::uint32_t tag = 0, Stream stream = nullptr);

  /// A communicator of the ranks that gave the same `color`, ordered by (key, rank). color < 0: takes part, gets none.
  /// Collective, blocking.
  Result<Communicator> split(int color, int key);
  /// A communicator of `ranks` of this one, in that order; only they call it, all with the same list. `tag`: keeps
  /// apart groups of the same ranks; not to be used for them twice. As MPI_Comm_create_group. Blocking.
  Result<Communicator> subgroup(std::span<const int> ranks, std::uint32_t tag = 0);

  /// The deadline of operations that are started from now on, instead of Options::timeout.
  void set_timeout(std::chrono::nanoseconds timeout);

  /// Ends everything that runs here, on all ranks, with kAborted and `reason`. Any thread; returns promptly.
  void abort(const std::string& reason);
  /// Why this communicator no longer works; ok while it does.
  Status error() const;

  /// Makes memory known to the transports ahead of use; undone by `unregister_buffer`.
  Status register_buffer(void* data, std::size_t bytes);
  Status unregister_buffer(void* data);
  /// Memory that peers on this host can map, page-aligned; `free` gives it back.
  Result<void*> alloc(std::size_t bytes);
  Status free(void* data);

  /// What a collective of `bytes` per block would do. No communication.
  Result<PlanSummary> explain(const CollectiveShape& shape, std::size_t bytes, DataType type) const;
  /// Bytes that this rank has sent so far over each tier (index: Tier).
  std::vector<std::uint64_t> bytes_sent_by_tier() const;
  /// This rank's use of every WAN link, in the order of the topology; by all its communicators. No communication.
  std::vector<LinkStats> link_stats() const;

  runtime::CommunicatorImpl* impl() const noexcept { return impl_.get(); }

 private:
  explicit Communicator(std::shared_ptr<runtime::CommunicatorImpl> impl) noexcept;
  std::shared_ptr<runtime::CommunicatorImpl> impl_;  // shared with works that still run
};

/// Calls made by this thread between construction and `end` start together: any order of sends and receives among them
/// is safe. Those in a stream get their place there at `end`, which waits for the others only.
///
///     longspan::CallGroup group;
///     comm.send(a, n, type, right);
///     comm.recv(b, n, type, left);
///     auto status = group.end();
class LONGSPAN_API CallGroup {
 public:
  CallGroup();
  ~CallGroup();
  CallGroup(const CallGroup&) = delete;
  CallGroup& operator=(const CallGroup&) = delete;
  /// Starts what was collected and waits for all of it; the first failure.
  Status end();

 private:
  bool ended_ = false;
};

}  // namespace longspan
