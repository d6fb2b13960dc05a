// Calls with device memory, and calls that are ordered in a stream.
#include <fmt/format.h>

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
    return status.with_context(fmt::format("{}: a buffer is device memory", name_of(work.call.kind)));
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

void CommunicatorImpl::start_in_stream(const std::shared_ptr<WorkState>& work) {
  Domain::Lock lock = domain_->lock();
  set_deadline(*work, work->call.timeout);
  const auto desk = domain_->devices();
  if (!desk.ok()) {
    work->seq = next_seq_++;
    return finish(*work, desk.status().with_context(fmt::format("{} in a stream", name_of(work->call.kind))));
  }
  lock.unlock();
  const auto order = (*desk)->gate().lock();
  lock = domain_->lock();
  auto ticket = (*desk)->gate().next(work->call.stream);
  if (!ticket.ok()) {
    work->seq = next_seq_++;
    return finish(*work, ticket.status().with_context(fmt::format("{} in a stream", name_of(work->call.kind))));
  }
  domain_->trail_begins();  // nobody need wait for it
  work->in_stream = true;
  work->ticket = *ticket;
  launch(lock, work);
  if (work->done.load(std::memory_order_relaxed)) return domain_->run_deferred();
  work->entry_in_stream = (*desk)->expect(work);
  // From here without the Domain's lock: a full stream lets nobody in until the device has gone on, and that it may
  // wait for a call that the Domain must drive.
  lock.unlock();
  const Status entered = (*desk)->gate().enter(work->call.stream, *ticket,
                                               device::Token{nullptr, nullptr, nullptr, work->entry_in_stream});
  lock = domain_->lock();
  if (!entered.ok()) {
    const Status status = entered.with_context(fmt::format("{} #{} in a stream", name_of(work->call.kind), work->seq));
    finish(*work, status);
    report(status, rank());
  }
  domain_->work_started(lock);
  domain_->run_deferred();
}

void CommunicatorImpl::on_stream(WorkState& work) {
  if (work.done.load(std::memory_order_relaxed)) return;
  work.entry_in_stream = 0;
  Status status = size() == 1 ? run_alone(work) : run_prepared(work, work.waiting_call);
  if (!status.ok()) return report(status, rank());
  if (size() > 1) settle(work);
}

void CommunicatorImpl::on_copied(const device::Token& token) {
  executor::Execution* const execution = executor::Execution::of(token);
  auto& work = *static_cast<WorkState*>(execution->owner);
  execution->copied(token);
  work.comm->settle(work);
}

void CommunicatorImpl::on_device_failure(const Status& status) {
  for (const auto& work : active_) {
    if (work->execution == nullptr || !work->execution->copies()) continue;
    return report(status.with_context(fmt::format("{} #{} on {}", name_of(work->call.kind), work->seq,
                                                  members_.cluster.describe(rank()))),
                  rank());
  }
}

Status CommunicatorImpl::refuse_device(const void* data, const char* operation) {
  if (!on_device(device::place_of(data))) return {};
  return {StatusCode::kUnsupported,
          fmt::format("{}: the buffer is device memory, which so far only collectives take; copy it to the host",
                      operation)};
}

/// It no longer waits for its stream, and its stream no longer for it.
void CommunicatorImpl::leave_stream(WorkState& work) {
  if (!work.in_stream) return;
  work.in_stream = false;
  domain_->trail_ends();
  device::cuda::StreamGate::open_for(work.ticket);
  if (work.entry_in_stream == 0) return;
  if (const auto desk = domain_->devices(); desk.ok()) (*desk)->forget(work.entry_in_stream);
}

}  // namespace longspan::runtime
