// Calls with device memory, and calls that are ordered in a stream.
#include <fmt/format.h>

#include <algorithm>

#include "executor/reduce/reduce.hpp"
#include "runtime/communicator_impl.hpp"
#include "runtime/device_desk.hpp"

namespace longspan::runtime {
namespace {

bool on_device(const device::Place& place) { return place.kind != MemoryKind::kHost; }

}  // namespace

/// Opens the devices that hold its buffers.
Status CommunicatorImpl::find_devices(WorkState& work) {
  if (!on_device(work.in_place) && !on_device(work.out_place)) return {};
  LONGSPAN_TRY(refuse_overlap(work));
  const auto named = [&](const Status& status) {
    return status.with_context(fmt::format("{}: a buffer is device memory", operation_of(work)));
  };
  const auto desk = domain_->devices();
  if (!desk.ok()) return named(desk.status());
  const auto open = [&](const device::Place& place, device::Copier*& copier) -> Status {
    if (!on_device(place)) return {};
    auto found = (*desk)->copier(place.device);
    if (!found.ok()) return named(found.status());
    copier = *found;
    return {};
  };
  LONGSPAN_TRY(open(work.in_place, work.in_copier));
  return open(work.out_place, work.out_copier);
}

device::Copier* CommunicatorImpl::stays_on(const WorkState& work) {
  const executor::CompiledPlan& plan = *work.entry->plan;
  const bool reads = plan.input_readers() > 0, writes = plan.output_writers() > 0;
  device::Copier* const found = reads ? work.in_copier : work.out_copier;
  const auto& takes = work.entry->takes_devices;
  if (found == nullptr || std::find(takes.begin(), takes.end(), 1) == takes.end()) return nullptr;
  if ((reads && work.in_copier != found) || (writes && work.out_copier != found)) return nullptr;
  // A factor is multiplied on the way down; an all-to-all in place needs a copy of what it reads, which staging makes.
  const CollectiveCall& call = work.call;
  if (call.op == ReduceOp::kPremulSum && reduces(call.kind)) return nullptr;
  if (call.kind == Collective::kAllToAll && call.in == call.out) return nullptr;
  std::size_t most = 0;
  for (const Step& step : plan.schedule().steps) {
    if (step.kind == StepKind::kReduce) most = std::max<std::size_t>(most, step.operands_count);
  }
  return most <= device::kMostReduced && (most == 0 || found->computes()) ? found : nullptr;
}

Status CommunicatorImpl::refuse_overlap(const WorkState& work) const {
  const CollectiveCall& call = work.call;
  if (call.kind != Collective::kAllToAll || !on_device(work.in_place) || !on_device(work.out_place)) return {};
  // Where both are the same blocks, each chunk has come down before it is overwritten. Else one block's chunk may go up
  // over another's that is still to be read.
  if (call.in == call.out && call.in_counts.empty() && call.out_counts.empty()) return {};
  const auto end = [&](const void* base, std::span<const std::size_t> counts, std::span<const std::size_t> offsets) {
    const std::size_t elements =
        counts.empty() ? call.count * static_cast<std::size_t>(size()) : extent_of(counts, offsets);
    return static_cast<const std::byte*>(base) + elements * size_of(call.type);
  };
  if (call.in >= end(call.out, call.out_counts, call.out_offsets) ||
      call.out >= end(call.in, call.in_counts, call.in_offsets))
    return {};
  return {StatusCode::kInvalidArgument,
          "alltoall: its two buffers of device memory overlap; with lists of lengths, or shifted, they must not"};
}

Status CommunicatorImpl::run_alone_on_device(WorkState& work, std::byte* out, const std::byte* in, std::size_t bytes) {
  const CollectiveCall& call = work.call;
  device::Copier& copier = *(work.out_copier != nullptr ? work.out_copier : work.in_copier);
  if (call.op != ReduceOp::kPremulSum || !reduces(call.kind)) return in == out ? Status() : copier.copy(out, in, bytes);
  LONGSPAN_ASSIGN(const auto block, domain_->scratch().take(bytes));
  LONGSPAN_TRY(copier.copy(block.data(), in, bytes));
  reduce::scale(call.type, block.data(), block.data(), bytes / size_of(call.type), call.factor);
  return copier.copy(out, block.data(), bytes);
}

void CommunicatorImpl::start_in_stream(const std::shared_ptr<WorkState>& work, bool grouped) {
  Domain::Lock lock = domain_->lock();
  set_deadline(*work, work->call.timeout);
  const auto desk = domain_->devices();
  const auto refused = [&](const Status& status) {
    if (!work->point_to_point) work->seq = next_seq_++;
    finish(*work, status.with_context(fmt::format("{} in a stream", operation_of(*work))));
  };
  if (!desk.ok()) return refused(desk.status());
  lock.unlock();
  const auto order = (*desk)->gate().lock();
  lock = domain_->lock();
  if (const Status status = (*desk)->gate().accepts(work->call.stream); !status.ok()) return refused(status);
  domain_->trail_begins();  // nobody need wait for it
  work->in_stream = true;
  launch(lock, work);
  domain_->run_deferred();
  lock.unlock();
  if (!grouped) enter_stream(std::span(&work, 1));
}

void CommunicatorImpl::enter_streams(std::span<const std::shared_ptr<WorkState>> works) {
  std::vector<std::shared_ptr<WorkState>> left(works.begin(), works.end());
  std::erase_if(left, [](const auto& each) { return each->done.load(std::memory_order_acquire); });
  while (!left.empty()) {
    const std::shared_ptr<WorkState> first = left.front();
    CommunicatorImpl& comm = *first->comm;
    // Not std::stable_partition: libstdc++ 12 implements it with what clang calls deprecated.
    std::vector<std::shared_ptr<WorkState>> together;
    std::vector<std::shared_ptr<WorkState>> others;
    for (auto& each : left) {
      const bool same = each->call.stream == first->call.stream && each->comm->domain_ == comm.domain_;
      (same ? together : others).push_back(std::move(each));
    }
    const auto order = comm.domain_->devices_made()->gate().lock();
    comm.enter_stream(together);
    left = std::move(others);
  }
}

/// From where it says so without the Domain's lock: a full stream lets nobody in until the device has gone on, and that
/// it may wait for a call that the Domain must drive.
void CommunicatorImpl::enter_stream(std::span<const std::shared_ptr<WorkState>> works) {
  void* const stream = works.front()->call.stream;
  const auto place = std::make_shared<StreamPlace>();
  std::vector<std::uint64_t> entries;
  Domain::Lock lock = domain_->lock();
  DeviceDesk& desk = *domain_->devices_made();
  auto ticket = desk.gate().next(stream);
  Status status = ticket.ok() ? Status() : ticket.status();
  if (ticket.ok()) place->ticket = *ticket;
  for (const auto& work : works) {
    if (work->done.load(std::memory_order_relaxed)) continue;
    ++place->left;
    work->place = place;
    entries.push_back(work->entry_in_stream = desk.expect(work));
  }
  if (entries.empty()) return;
  lock.unlock();
  for (const std::uint64_t entry : entries) {
    if (status.ok()) status = desk.gate().tell(stream, device::Token{nullptr, nullptr, nullptr, entry});
  }
  if (status.ok()) status = desk.gate().wait(stream, place->ticket);
  lock = domain_->lock();
  for (const auto& work : works) {
    if (status.ok() || work->done.load(std::memory_order_relaxed)) continue;
    CommunicatorImpl& comm = *work->comm;
    const Status failed = status.with_context(fmt::format("{} in a stream", comm.describe_operation(*work)));
    comm.finish(*work, failed);
    comm.report(failed, comm.rank());
  }
  domain_->work_started(lock);
  domain_->run_deferred();
}

void CommunicatorImpl::on_stream(WorkState& work) {
  if (work.done.load(std::memory_order_relaxed)) return;
  work.entry_in_stream = 0;
  if (work.point_to_point) {
    if (const Status status = point_to_point_.begin(work); !status.ok()) message_failed(work, status);
    return;
  }
  Status status = size() == 1 ? run_alone(work) : run_prepared(work, work.waiting_call);
  if (!status.ok()) return report(status, rank());
  if (size() > 1) settle(work);
}

void CommunicatorImpl::on_copied(const device::Token& token) {
  if (StagedMessage::owns(token)) return StagedMessage::of(token)->copied(token);
  executor::Execution* const execution = executor::Execution::of(token);
  auto& work = *static_cast<WorkState*>(execution->owner);
  execution->copied(token);
  work.comm->settle(work);
}

void CommunicatorImpl::on_device_failure(const Status& status) {
  for (const auto& work : active_) {
    const bool collective = work->execution != nullptr && work->execution->copies();
    if (collective || (work->staged != nullptr && work->staged->copies())) return message_failed(*work, status);
  }
}

/// It no longer waits for its stream, and its stream no longer for it.
void CommunicatorImpl::leave_stream(WorkState& work) {
  if (!work.in_stream) return;
  work.in_stream = false;
  domain_->trail_ends();
  if (work.place != nullptr && --work.place->left == 0) {
    device::cuda::StreamGate::open_for(work.place->ticket);
  }
  if (work.entry_in_stream != 0) domain_->devices_made()->forget(work.entry_in_stream);
}

}  // namespace longspan::runtime
