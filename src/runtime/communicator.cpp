// The public C++ API: thin, over CommunicatorImpl.
#include "longspan/communicator.hpp"

#include <algorithm>

#include "bootstrap/unique_id.hpp"
#include "runtime/communicator_impl.hpp"
#include "runtime/job.hpp"

namespace longspan {
namespace {

// Calls between CallGroup() and end() of this thread: their blocking forms return at once and end() waits.
thread_local int g_group_depth = 0;
thread_local std::vector<Work> g_group_works;
// Those that a stream waits for instead of the host.
thread_local std::vector<std::shared_ptr<runtime::WorkState>> g_group_in_streams;

Status settle(Work work) {
  if (g_group_depth == 0) return work.wait();
  g_group_works.push_back(std::move(work));
  return {};
}

Result<std::shared_ptr<runtime::CommunicatorImpl>> make_world(const std::shared_ptr<runtime::Job>& job) {
  runtime::CommunicatorImpl::Members members;
  members.id = job->id();
  members.rank = job->rank();
  members.cluster = job->cluster();
  members.peers = job->peers();
  for (int r = 0; r < job->cluster().size(); ++r) members.world_ranks.push_back(r);
  auto impl = std::make_shared<runtime::CommunicatorImpl>(job, std::move(members));
  job->add(*impl);
  impl->warm_up();
  return impl;
}

}  // namespace

Communicator::Communicator() noexcept = default;
Communicator::Communicator(Communicator&&) noexcept = default;
Communicator::Communicator(std::shared_ptr<runtime::CommunicatorImpl> impl) noexcept : impl_(std::move(impl)) {}

Communicator& Communicator::operator=(Communicator&& other) noexcept {
  Communicator old(std::move(impl_));
  impl_ = std::move(other.impl_);
  return *this;
}

Communicator::~Communicator() {
  if (impl_ == nullptr) return;
  if (!impl_->domain().inherited()) {
    impl_->close();
    return;
  }
  // In a child after fork: the parent's locks may be held by threads that do not exist here, and its connections are
  // not ours to say goodbye on. The memory goes with the process.
  new std::shared_ptr<runtime::CommunicatorImpl>(std::move(impl_));
}

Result<Communicator> Communicator::create(const Options& options) {
  LONGSPAN_ASSIGN(const LaunchInfo launch, launch_info_from_environment());
  LONGSPAN_ASSIGN(auto job, runtime::Job::join(launch, options));
  LONGSPAN_ASSIGN(auto impl, make_world(job));
  return Communicator(std::move(impl));
}

Result<Communicator> Communicator::create(const UniqueId& id, int rank, int size, const Options& options) {
  if (size < 1 || rank < 0 || rank >= size) {
    return Status(StatusCode::kInvalidArgument,
                  "rank " + std::to_string(rank) + " of " + std::to_string(size) + ": ranks are 0 to size - 1");
  }
  LONGSPAN_ASSIGN(LaunchInfo launch, bootstrap::launch_info_for(id, rank, size));
  launch.local_size = size;  // unknown; ranks with an id are mostly threads or processes of one machine
  LONGSPAN_ASSIGN(auto job, runtime::Job::join(launch, options));
  LONGSPAN_ASSIGN(auto impl, make_world(job));
  return Communicator(std::move(impl));
}

int Communicator::rank() const noexcept { return impl_->rank(); }
int Communicator::size() const noexcept { return impl_->size(); }
std::string Communicator::describe(int rank) const { return impl_->members().cluster.describe(rank); }

Work Communicator::start(const CollectiveCall& call) { return Work(impl_->start(call, call.awaited)); }
void Communicator::set_timeout(std::chrono::nanoseconds timeout) { impl_->set_timeout(timeout); }

namespace {

CollectiveCall uniform(Collective kind, const void* in, void* out, std::size_t count, DataType type, Stream stream) {
  CollectiveCall call;
  call.kind = kind;
  call.in = in;
  call.out = out;
  call.count = count;
  call.type = type;
  call.stream = stream;
  return call;
}

}  // namespace

Status Communicator::run(const CollectiveCall& call) {
  if (call.stream == nullptr) return settle(Work(impl_->start(call, g_group_depth == 0)));
  return Work(impl_->start(call, false)).status();  // the stream waits for it, the host need not
}

Status Communicator::all_reduce(const void* in, void* out, std::size_t count, DataType type, ReduceOp op,
                                Stream stream) {
  CollectiveCall call = uniform(Collective::kAllReduce, in, out, count, type, stream);
  call.op = op;
  return run(call);
}

Work Communicator::all_reduce_async(const void* in, void* out, std::size_t count, DataType type, ReduceOp op,
                                    Stream stream) {
  CollectiveCall call = uniform(Collective::kAllReduce, in, out, count, type, stream);
  call.op = op;
  return start(call);
}

Status Communicator::all_gather(const void* in, void* out, std::size_t count, DataType type, Stream stream) {
  return run(uniform(Collective::kAllGather, in, out, count, type, stream));
}

Status Communicator::reduce_scatter(const void* in, void* out, std::size_t count, DataType type, ReduceOp op,
                                    Stream stream) {
  CollectiveCall call = uniform(Collective::kReduceScatter, in, out, count, type, stream);
  call.op = op;
  return run(call);
}

Status Communicator::broadcast(const void* in, void* out, std::size_t count, DataType type, int root, Stream stream) {
  CollectiveCall call = uniform(Collective::kBroadcast, in, out, count, type, stream);
  call.root = root;
  return run(call);
}

Status Communicator::reduce(const void* in, void* out, std::size_t count, DataType type, ReduceOp op, int root,
                            Stream stream) {
  CollectiveCall call = uniform(Collective::kReduce, in, out, count, type, stream);
  call.op = op;
  call.root = root;
  return run(call);
}

Status Communicator::gather(const void* in, void* out, std::size_t count, DataType type, int root, Stream stream) {
  CollectiveCall call = uniform(Collective::kGather, in, out, count, type, stream);
  call.root = root;
  return run(call);
}

Status Communicator::scatter(const void* in, void* out, std::size_t count, DataType type, int root, Stream stream) {
  CollectiveCall call = uniform(Collective::kScatter, in, out, count, type, stream);
  call.root = root;
  return run(call);
}

Status Communicator::all_to_all(const void* in, void* out, std::size_t count, DataType type, Stream stream) {
  return run(uniform(Collective::kAllToAll, in, out, count, type, stream));
}

Status Communicator::barrier(Stream stream) {
  return run(uniform(Collective::kBarrier, nullptr, nullptr, 0, DataType::kUint8, stream));
}

Status Communicator::all_gather_v(const void* in, void* out, std::span<const std::size_t> counts,
                                  std::span<const std::size_t> offsets, DataType type) {
  CollectiveCall call = uniform(Collective::kAllGather, in, out, 0, type, nullptr);
  call.out_counts = counts;
  call.out_offsets = offsets;
  return run(call);
}

Status Communicator::reduce_scatter_v(const void* in, void* out, std::span<const std::size_t> counts, DataType type,
                                      ReduceOp op) {
  CollectiveCall call = uniform(Collective::kReduceScatter, in, out, 0, type, nullptr);
  call.in_counts = counts;
  call.op = op;
  return run(call);
}

Status Communicator::gather_v(const void* in, std::size_t count, void* out, std::span<const std::size_t> counts,
                              std::span<const std::size_t> offsets, DataType type, int root) {
  CollectiveCall call = uniform(Collective::kGather, in, out, count, type, nullptr);
  call.root = root;
  call.private_lengths = true;
  if (rank() == root) {
    call.out_counts = counts;
    call.out_offsets = offsets;
  }
  return run(call);
}

Status Communicator::scatter_v(const void* in, std::span<const std::size_t> counts,
                               std::span<const std::size_t> offsets, void* out, std::size_t count, DataType type,
                               int root) {
  CollectiveCall call = uniform(Collective::kScatter, in, out, count, type, nullptr);
  call.root = root;
  call.private_lengths = true;
  if (rank() == root) {
    call.in_counts = counts;
    call.in_offsets = offsets;
  }
  return run(call);
}

Status Communicator::all_to_all_v(const void* in, std::span<const std::size_t> in_counts,
                                  std::span<const std::size_t> in_offsets, void* out,
                                  std::span<const std::size_t> out_counts, std::span<const std::size_t> out_offsets,
                                  DataType type) {
  CollectiveCall call = uniform(Collective::kAllToAll, in, out, 0, type, nullptr);
  call.private_lengths = true;
  call.in_counts = in_counts;
  call.in_offsets = in_offsets;
  call.out_counts = out_counts;
  call.out_offsets = out_offsets;
  return run(call);
}

namespace {

Work message(runtime::CommunicatorImpl& comm, runtime::CommunicatorImpl::Message message) {
  message.grouped = g_group_depth > 0;
  auto state = comm.start_message(message);
  if (message.grouped && message.stream != nullptr) g_group_in_streams.push_back(state);
  Work work(std::move(state));
  if (message.grouped && message.stream == nullptr) g_group_works.push_back(work);
  return work;
}

}  // namespace

Work Communicator::send(const void* data, std::size_t count, DataType type, int peer, std::uint32_t tag,
                        Stream stream) {
  return message(*impl_, {false, const_cast<void*>(data), count, type, peer, tag, stream});
}

Work Communicator::recv(void* data, std::size_t count, DataType type, int peer, std::uint32_t tag, Stream stream) {
  return message(*impl_, {true, data, count, type, peer, tag, stream});
}

void Communicator::abort(const std::string& reason) { impl_->abort(reason); }
Status Communicator::error() const { return impl_->error(); }

Result<PlanSummary> Communicator::explain(const CollectiveShape& shape, std::size_t bytes, DataType) const {
  return impl_->explain(shape, bytes);
}

std::vector<LinkStats> Communicator::link_stats() const { return impl_->link_stats(); }

std::vector<std::uint64_t> Communicator::bytes_sent_by_tier() const {
  auto lock = impl_->domain().lock();
  std::vector<std::uint64_t> bytes;
  for (int tier = 0; tier < kTierCount; ++tier) bytes.push_back(impl_->domain().bytes_sent(static_cast<Tier>(tier)));
  return bytes;
}

CallGroup::CallGroup() { ++g_group_depth; }

CallGroup::~CallGroup() {
  if (!ended_) {
    if (const Status status = end(); !status.ok()) return;
  }
}

Status CallGroup::end() {
  if (ended_) return {};
  ended_ = true;
  if (--g_group_depth > 0) return {};
  if (!g_group_in_streams.empty()) runtime::CommunicatorImpl::enter_streams(std::exchange(g_group_in_streams, {}));
  const std::vector<Work> works = std::exchange(g_group_works, {});
  Status first;
  for (Work work : works) {
    const Status status = work.wait();
    if (first.ok() && !status.ok()) first = status;
  }
  return first;
}

}  // namespace longspan
