#pragma once

#include <torch/csrc/distributed/c10d/Backend.hpp>

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "bindings/torch/src/groups.hpp"
#include "bindings/torch/src/tensors.hpp"
#include "bindings/torch/src/work.hpp"

namespace longspan::torch_binding {

/// What `pg_options=longspan.Options(...)` holds; a field that is left empty comes from the environment.
struct LongspanOptions final : c10d::Backend::Options {
  explicit LongspanOptions(std::chrono::milliseconds timeout = kBackendDefaultTimeout) : Options("longspan", timeout) {}
  longspan::Options core;
};

/// torch.distributed's process group over longspan. Calls return at once: the library's own thread drives the network,
/// a Finisher what follows. Tensors on other devices than the host pass through host memory.
class LongspanBackend final : public c10d::Backend {
 public:
  /// `store` is the group's: barriers that name who is missing meet there.
  LongspanBackend(Membership membership, c10::intrusive_ptr<c10d::Store> store, int rank, int size,
                  c10::intrusive_ptr<LongspanOptions> options);
  ~LongspanBackend() override;

  const std::string getBackendName() const override { return "longspan"; }
  /// A copy: torch changes what it gets when it splits or merges groups.
  c10::intrusive_ptr<Options> getBackendOptions() override { return c10::make_intrusive<LongspanOptions>(*options_); }
  bool supportsSplitting() const override { return true; }
  bool supportsCoalescing() const override { return true; }
  c10d::ErrorType getError() override;
  void abort() override;
  void shutdown() override;
  /// Of operations that start from now on.
  void setTimeout(std::chrono::milliseconds timeout) override;
  void setSequenceNumberForGroup() override {}  // counted from the group's making, alike on all ranks
  std::uint64_t getSequenceNumberForGroup() override { return sequence_; }
  void startCoalescing() override;
  c10::intrusive_ptr<c10d::Work> endCoalescing() override;
  c10::intrusive_ptr<c10d::Backend> split(const c10::intrusive_ptr<c10d::Store>& store, const std::vector<int>& ranks,
                                          const c10::intrusive_ptr<Options>& options) override;
  /// Groups that share nothing but `store` become one, a job of its own.
  c10::intrusive_ptr<c10d::Backend> merge(const c10::intrusive_ptr<c10d::Store>& store,
                                          const c10::intrusive_ptr<Options>& options, const int& rank,
                                          const int& size) override;
  void enableCollectivesTiming() override {}  // getDuration is always there

  using Tensors = std::vector<at::Tensor>;
  using WorkPtr = c10::intrusive_ptr<c10d::Work>;
  WorkPtr broadcast(Tensors& tensors, const c10d::BroadcastOptions& options) override;
  WorkPtr allreduce(Tensors& tensors, const c10d::AllreduceOptions& options) override;
  WorkPtr allreduce_coalesced(Tensors& tensors, const c10d::AllreduceCoalescedOptions& options) override;
  WorkPtr reduce(Tensors& tensors, const c10d::ReduceOptions& options) override;
  WorkPtr allgather(std::vector<Tensors>& outputs, Tensors& inputs, const c10d::AllgatherOptions& options) override;
  WorkPtr _allgather_base(at::Tensor& output, at::Tensor& input, const c10d::AllgatherOptions& options) override;
  WorkPtr allgather_coalesced(std::vector<Tensors>& outputs, Tensors& inputs,
                              const c10d::AllgatherOptions& options) override;
  WorkPtr allgather_into_tensor_coalesced(Tensors& outputs, Tensors& inputs,
                                          const c10d::AllgatherOptions& options) override;
  WorkPtr gather(std::vector<Tensors>& outputs, Tensors& inputs, const c10d::GatherOptions& options) override;
  WorkPtr scatter(Tensors& outputs, std::vector<Tensors>& inputs, const c10d::ScatterOptions& options) override;
  WorkPtr reduce_scatter(Tensors& outputs, std::vector<Tensors>& inputs,
                         const c10d::ReduceScatterOptions& options) override;
  WorkPtr _reduce_scatter_base(at::Tensor& output, at::Tensor& input,
                               const c10d::ReduceScatterOptions& options) override;
  WorkPtr reduce_scatter_tensor_coalesced(Tensors& outputs, Tensors& inputs,
                                          const c10d::ReduceScatterOptions& options) override;
  WorkPtr alltoall_base(at::Tensor& output, at::Tensor& input, std::vector<std::int64_t>& output_splits,
                        std::vector<std::int64_t>& input_splits, const c10d::AllToAllOptions& options) override;
  WorkPtr alltoall(Tensors& outputs, Tensors& inputs, const c10d::AllToAllOptions& options) override;
  WorkPtr allreduce_sparse(Tensors& tensors, const c10d::AllreduceOptions& options) override;
  WorkPtr barrier(const c10d::BarrierOptions& options) override;
  /// Meets in the group's store, so that it tells who did not come and leaves the group as it was.
  void monitoredBarrier(const c10d::BarrierOptions& options, bool wait_all_ranks) override;
  WorkPtr send(Tensors& tensors, int to, int tag) override;
  WorkPtr recv(Tensors& tensors, int from, int tag) override;
  WorkPtr recvAnysource(Tensors& tensors, int tag) override;

  /// Throws when the group was shut down.
  std::shared_ptr<longspan::Communicator> communicator(const char* doing) const;

 private:
  /// Parts of one call of torch.distributed before they are started.
  struct Batch {
    std::shared_ptr<longspan::Communicator> communicator;
    LongspanWork::Plan plan;
    std::chrono::milliseconds timeout = c10d::kUnsetTimeout;
    bool awaited = false;  ///< the caller waits for it at once
    std::vector<longspan::CollectiveCall> calls;
    std::vector<std::vector<std::size_t>> lists;  ///< lengths that the calls refer to
    std::vector<std::function<void()>> after;  ///< in order, when all calls are over
  };
  Batch begin(c10d::OpType type, const char* title, Tensors inputs, Tensors outputs);
  template <typename CallOptions>
  Batch begin(c10d::OpType type, const char* title, Tensors inputs, Tensors outputs, const CallOptions& options) {
    Batch batch = begin(type, title, std::move(inputs), std::move(outputs));
    batch.timeout = options.timeout;
    batch.awaited = !options.asyncOp && !coalescing_;
    return batch;
  }
  WorkPtr start(Batch batch);
  /// The same for anything that starts operations.
  WorkPtr start(Batch batch, const std::function<std::vector<longspan::Work>()>& operations);
  /// `given`, or this group's, as those of another group.
  c10::intrusive_ptr<LongspanOptions> options_for_another(const c10::intrusive_ptr<Options>& given) const;
  int checked_root(std::int64_t root, const char* collective) const;
  void check_group_size(std::size_t found, const char* what, const char* collective) const;

  void add_broadcast(Batch& batch, const at::Tensor& tensor, int root);
  void add_allreduce(Batch& batch, const at::Tensor& tensor, const c10d::ReduceOp& op, const char* title);
  /// What only torch can reduce is gathered, and reduced here.
  void add_bitwise(Batch& batch, const at::Tensor& tensor, const c10d::ReduceOp& op, const char* title);
  /// The same for a part of `in`: everybody sends each rank its part, which that rank reduces.
  void add_bitwise_scatter(Batch& batch, const at::Tensor& output, Stretch in, const c10d::ReduceOp& op,
                           const char* title);
  void add_allgather(Batch& batch, const Tensors& outputs, const at::Tensor& input);
  void add_allgather_into(Batch& batch, const at::Tensor& output, const at::Tensor& input, const char* title);
  void add_reduce_scatter(Batch& batch, const at::Tensor& output, const Tensors& inputs, const c10d::ReduceOp& op,
                          const char* title);
  void add_reduce_scatter_from(Batch& batch, const at::Tensor& output, const at::Tensor& input,
                               const c10d::ReduceOp& op, const char* title);
  /// Entries of a sparse tensor, `entries` of each rank.
  void add_gather_of_entries(Batch& batch, const at::Tensor& in, const at::Tensor& out,
                             const std::vector<std::int64_t>& entries);
  void add_exchange(Batch& batch, const Stretch& out, const Stretch& in);
  WorkPtr exchange(Batch batch, Stretch out, Stretch in, Tensors outputs);
  WorkPtr receive(const at::Tensor& tensor, int from, int tag, c10d::OpType type, const char* title);

  void end();

  std::unique_ptr<Finisher> finisher_ = std::make_unique<Finisher>();
  const std::shared_ptr<Finisher::State> finishing_ = finisher_->state();
  mutable std::mutex mutex_;  // guards membership_: a group may be shut down while others start operations
  Membership membership_;
  const c10::intrusive_ptr<c10d::Store> store_;
  c10::intrusive_ptr<LongspanOptions> options_;
  std::atomic<std::uint64_t> sequence_{0};          // of collectives: the same on all ranks
  std::atomic<std::uint64_t> message_sequence_{0};  // of sends and receives
  std::uint64_t monitored_barriers_ = 0;
  bool coalescing_ = false;
  std::vector<WorkPtr> coalesced_;
};

/// Makes the process group: what torch.distributed calls for backend "longspan".
/// `timeout_from_environment`: LONGSPAN_TIMEOUT instead of the seat's.
c10::intrusive_ptr<c10d::Backend> create_backend(const c10d::DistributedBackendOptions& seat,
                                                 const c10::intrusive_ptr<LongspanOptions>& given,
                                                 bool timeout_from_environment);

}  // namespace longspan::torch_binding
