#include "executor/execution.hpp"

#include <algorithm>
#include <cstring>

#include "executor/reduce/reduce.hpp"

namespace longspan::executor {
namespace {

constexpr std::size_t kAlign = 64;

std::size_t rounded_up(std::size_t bytes) { return (bytes + kAlign - 1) / kAlign * kAlign; }

}  // namespace

Execution::Execution(std::shared_ptr<const CompiledPlan> plan) : plan_(std::move(plan)) {
  const Decision& decision = plan_->plan().decision;
  chunks_ = plan_->step_count() == 0 ? 1 : std::max(1U, decision.chunks);
  const std::uint32_t window = std::clamp(decision.window, 1U, chunks_);
  const std::uint32_t steps = plan_->step_count();
  slots_.resize(window);
  instances_.resize(std::size_t{window} * steps);
  for (std::uint32_t slot = 0; slot < window; ++slot) {
    for (std::uint32_t step = 0; step < steps; ++step) {
      Instance& made = instance(slot, step);
      made.owner = this;
      made.step = step;
      made.slot = slot;
    }
  }
  ready_.reserve(instances_.size());
  std::size_t operands = 0;
  for (const Step& step : plan_->schedule().steps) operands = std::max<std::size_t>(operands, step.operands_count);
  operand_pointers_.resize(operands);
  area_offset_.resize(plan_->schedule().scratch.size());
}

Status Execution::start(const Call& call, std::span<spi::Channel* const> channels, ScratchPool& pool) {
  call_ = call;
  channels_ = channels;
  element_size_ = size_of(call.type);
  divisor_ = call.op == ReduceOp::kAvg ? static_cast<double>(plan_->schedule().ranks) : 1.0;
  past_cache_ = plan_->host_only() && call.there == nullptr && larger_than_caches();
  next_chunk_ = 0;
  running_ = 0;
  left_to_answer_ = 0;
  ready_.clear();
  ready_head_ = 0;
  failure_ = {};
  LONGSPAN_TRY(stage());
  LONGSPAN_TRY(take_scratch(pool));
  draining_ = true;  // admit fills the queue; one drain at the end starts it all in chunk order
  for (std::uint32_t slot = 0; slot < slots_.size() && next_chunk_ < chunks_; ++slot) admit(slot);
  draining_ = false;
  drain();
  return {};
}

Status Execution::take_scratch(ScratchPool& pool) {
  const std::size_t bytes = lay_out_scratch();
  if (call_.there != nullptr && bytes > 0) {
    LONGSPAN_ASSIGN(scratch_there_, call_.there->take_device(bytes));
  } else if (scratch_.size() < bytes) {
    scratch_ = ScratchPool::Block();
    LONGSPAN_ASSIGN(scratch_, pool.take(bytes));
  }
  return {};
}

/// With what the peers have of it, since they run on cores that share these caches.
bool Execution::larger_than_caches() const {
  constexpr std::size_t kMany = std::size_t{8} << 20;  // measured: 4 MiB of each of two ranks stay in 32 MiB, 8 do not
  const std::size_t bytes = (call_.out.counts.empty() ? call_.out.uniform : call_.out.count(0)) * element_size_;
  return bytes >= kMany;
}

std::size_t Execution::scratch_bytes(const Call& call) {
  call_ = call;
  element_size_ = size_of(call.type);
  return lay_out_scratch();
}

std::size_t Execution::lay_out_scratch() {
  const bool uniform = call_.in.counts.empty() && call_.out.counts.empty();
  const bool same = uniform && laid_out_in_ == call_.in.uniform && laid_out_out_ == call_.out.uniform &&
                    laid_out_element_ == element_size_;
  if (!same) {
    measure_scratch();
    laid_out_in_ = uniform ? call_.in.uniform : SIZE_MAX;
    laid_out_out_ = call_.out.uniform;
    laid_out_element_ = element_size_;
  }
  return scratch_per_slot_ * slots_.size();
}

void Execution::measure_scratch() {
  std::size_t total = 0;
  const auto& areas = plan_->schedule().scratch;
  const std::size_t slack = 2 * kAlign / element_size_;  // edges are rounded to kAlign bytes on both sides
  for (std::size_t i = 0; i < areas.size(); ++i) {
    const Slice& extent = areas[i].extent;
    std::size_t elements = 0;
    if (extent.blocks > 1) {
      for (std::uint32_t b = 0; b < extent.blocks; ++b) {
        const Slice one{extent.buffer, 0, extent.block + b, 1, kZero, kOne};
        elements += block_count(one);
      }
    } else {
      const std::size_t chunk = block_count(extent) / chunks_ + slack;
      const double share = extent.end.value() - extent.begin.value();
      elements = std::min(static_cast<std::size_t>(static_cast<double>(chunk) * share) + slack, chunk);
    }
    area_offset_[i] = total;
    total += rounded_up(elements * element_size_);
  }
  scratch_per_slot_ = total;
}

void Execution::admit(std::uint32_t slot_index) {
  Slot& slot = slots_[slot_index];
  const std::uint32_t steps = plan_->step_count();
  slot.chunk = next_chunk_++;
  slot.left = steps;
  if (steps == 0) return;
  ++running_;
  left_to_answer_ += plan_->answering_steps();
  slot.unwritten = plan_->output_writers();
  const std::uint32_t moves = (staged_in_.active() ? 1U : 0U) + (staged_out_.active() ? 1U : 0U);
  slot.left += moves;
  left_to_answer_ += moves;
  for (std::uint32_t id = 0; id < steps; ++id) {
    Instance& made = instance(slot_index, id);
    made.pending = plan_->predecessors(id) + (staged_in_.active() && plan_->reads_input(id) ? 1 : 0);
    made.view_readers = plan_->view_readers(id);
    made.view = nullptr;
    made.state = State::kWaiting;
    if (made.pending == 0) ready_.push_back(&made);
  }
  if (staged_in_.active()) bring_down(slot_index);
}

void Execution::drain() {
  if (draining_) return;
  draining_ = true;
  while (ready_head_ < ready_.size()) issue(*ready_[ready_head_++]);
  ready_.clear();
  ready_head_ = 0;
  draining_ = false;
}

Execution::Bytes Execution::locate(const Slice& slice, const Slot& slot, std::uint32_t slot_index) const {
  const auto range = [&](const Slice& s, const BlockBuffer& buffer) {
    return elements_of(s.begin, s.end, buffer.count(s.block), slot.chunk, chunks_, element_size_);
  };
  if (slice.buffer != BufferKind::kScratch) {
    const BlockBuffer& buffer = slice.buffer == BufferKind::kIn ? call_.in : call_.out;
    const Staging& staged = slice.buffer == BufferKind::kIn ? staged_in_ : staged_out_;
    if (staged.active()) {
      if (slice.blocks > 1) {
        const std::uint32_t last = slice.block + slice.blocks - 1;
        return Bytes{staged.at(slot_index, slot.chunk, slice.block, 0),
                     (buffer.offset(last) + buffer.count(last) - buffer.offset(slice.block)) * element_size_};
      }
      const ElementRange r = range(slice, buffer);
      return Bytes{staged.at(slot_index, slot.chunk, slice.block, r.offset), r.length * element_size_};
    }
    std::byte* block = buffer.base + buffer.offset(slice.block) * element_size_;
    if (slice.blocks > 1) {
      const std::uint32_t last = slice.block + slice.blocks - 1;
      return Bytes{block, (buffer.offset(last) + buffer.count(last) - buffer.offset(slice.block)) * element_size_};
    }
    const ElementRange r = range(slice, buffer);
    return Bytes{block + r.offset * element_size_, r.length * element_size_};
  }
  const Slice& extent = plan_->schedule().scratch[slice.area].extent;
  const BlockBuffer& like = extent.buffer == BufferKind::kIn ? call_.in : call_.out;
  std::byte* const scratch = call_.there == nullptr ? scratch_.data() : scratch_there_.data();
  std::byte* base = scratch + slot_index * scratch_per_slot_ + area_offset_[slice.area];
  std::size_t before = 0;
  for (std::uint32_t b = extent.block; b < slice.block; ++b) before += like.count(b);
  if (slice.blocks > 1) {
    std::size_t length = 0;
    for (std::uint32_t b = 0; b < slice.blocks; ++b) length += like.count(slice.block + b);
    return Bytes{base + before * element_size_, length * element_size_};
  }
  const ElementRange r = range(slice, like);
  const std::size_t origin = extent.blocks > 1 ? 0 : range(extent, like).offset;
  return Bytes{base + (before + r.offset - origin) * element_size_, r.length * element_size_};
}

void Execution::issue(Instance& instance) {
  const Step& step = plan_->step(instance.step);
  const Slot& slot = slots_[instance.slot];
  instance.state = State::kIssued;
  switch (step.kind) {
    case StepKind::kSend: {
      Bytes bytes;
      if (!step.signal) {
        bytes = locate(plan_->operands(step)[0].slice, slot, instance.slot);
        if (bytes.size == 0) return finish(instance);
      }
      spi::SendRequest request;
      request.id = spi::MessageId{call_.comm, call_.seq, step.stream, slot.chunk};
      request.digest = call_.digest;
      if (bytes.size > 0 && staged(step) && instance.bounce.empty()) return bring_message_down(instance, bytes);
      request.data = std::span(instance.bounce.empty() ? bytes.data : instance.bounce.data(), bytes.size);
      request.memory = instance.bounce.empty() ? memory() : MemoryKind::kHost;
      request.context = &instance;
      channels_[step.channel]->send(request);
      return;
    }
    case StepKind::kRecv: {
      Bytes bytes;
      if (!step.signal) {
        bytes = locate(step.dst, slot, instance.slot);
        if (bytes.size == 0) return finish(instance);
      }
      spi::RecvRequest request;
      request.id = spi::MessageId{call_.comm, call_.seq, step.stream, slot.chunk};
      request.digest = call_.digest;
      if (bytes.size > 0 && staged(step) && !take_bounce(instance, bytes.size)) return;
      request.data = std::span(instance.bounce.empty() ? bytes.data : instance.bounce.data(), bytes.size);
      request.memory = instance.bounce.empty() ? memory() : MemoryKind::kHost;
      request.view_ok = step.view_ok && instance.bounce.empty();
      request.past_cache = past_cache_ && step.dst.buffer == BufferKind::kOut;
      request.context = &instance;
      channels_[step.channel]->post_recv(request);
      return;
    }
    case StepKind::kReduce: return call_.there == nullptr ? run_reduce(instance, step) : run_there(instance, step);
    case StepKind::kCopy: return call_.there == nullptr ? run_copy(instance, step) : run_there(instance, step);
  }
}

const std::byte* Execution::operand_data(const Operand& operand, const Slot& slot, std::uint32_t slot_index) {
  const std::byte* here = locate(operand.slice, slot, slot_index).data;
  if (operand.from_recv < 0) return here;
  const Instance& recv = instance(slot_index, static_cast<std::uint32_t>(operand.from_recv));
  if (recv.view == nullptr) return here;
  return recv.view + (here - locate(plan_->step(recv.step).dst, slot, slot_index).data);
}

void Execution::run_reduce(Instance& instance, const Step& step) {
  const Slot& slot = slots_[instance.slot];
  const Bytes dst = locate(step.dst, slot, instance.slot);
  if (dst.size != 0) {
    const auto operands = plan_->operands(step);
    for (std::size_t i = 0; i < operands.size(); ++i) {
      operand_pointers_[i] = operand_data(operands[i], slot, instance.slot);
    }
    reduce::reduce(call_.type, call_.op, dst.data, std::span(operand_pointers_).first(operands.size()),
                   dst.size / element_size_, step.post_scale ? divisor_ : 1.0,
                   past_cache_ && step.dst.buffer == BufferKind::kOut);
  }
  consumed_views(step, instance.slot);
  finish(instance);
}

void Execution::run_copy(Instance& instance, const Step& step) {
  const Slot& slot = slots_[instance.slot];
  const Bytes dst = locate(step.dst, slot, instance.slot);
  const std::byte* source = operand_data(plan_->operands(step)[0], slot, instance.slot);
  if (dst.size != 0 && source != dst.data) std::memmove(dst.data, source, dst.size);
  consumed_views(step, instance.slot);
  finish(instance);
}

void Execution::consumed_views(const Step& step, std::uint32_t slot) {
  for (const Operand& operand : plan_->operands(step)) {
    if (operand.from_recv < 0) continue;
    Instance& recv = instance(slot, static_cast<std::uint32_t>(operand.from_recv));
    if (--recv.view_readers == 0 && recv.view != nullptr) {
      channels_[plan_->step(recv.step).channel]->release_view(recv.view_token);
      recv.view = nullptr;
    }
  }
}

void Execution::completed(const spi::Completion& completion) {
  Instance& done = *static_cast<Instance*>(completion.context);
  done.view = completion.view;
  done.view_token = completion.view_token;
  if (!done.bounce.empty() && plan_->step(done.step).kind == StepKind::kRecv) return bring_message_up(done);
  give_back(done);
  finish(done);
  drain();
}

void Execution::finish(Instance& instance_done) {
  instance_done.state = State::kDone;
  const std::uint32_t slot_index = instance_done.slot;
  for (const std::uint32_t next : plan_->successors(instance_done.step)) {
    Instance& waiting = instance(slot_index, next);
    if (--waiting.pending == 0) ready_.push_back(&waiting);
  }
  if (!plan_->trails(instance_done.step)) --left_to_answer_;
  if (staged_out_.active() && writes_output(plan_->step(instance_done.step)) && --slots_[slot_index].unwritten == 0) {
    bring_up(slot_index);
  }
  part_done(slot_index);
}

void Execution::part_done(std::uint32_t slot_index) {
  if (--slots_[slot_index].left > 0) return;
  --running_;
  if (next_chunk_ < chunks_) admit(slot_index);
}

Execution::Waiting Execution::waiting_for() const {
  Waiting found;
  bool first = true;
  for (const Instance& each : instances_) {
    const Step& step = plan_->step(each.step);
    if (each.state != State::kIssued || step.peer < 0) continue;
    if (std::find(found.peers.begin(), found.peers.end(), step.peer) == found.peers.end()) {
      found.peers.push_back(step.peer);
    }
    const std::uint32_t chunk = slots_[each.slot].chunk;
    if (!first && chunk >= found.chunk) continue;
    found.step = each.step;
    found.chunk = chunk;
    first = false;
  }
  return found;
}

void Execution::reset() {
  // Nobody may be given memory that a device still writes to or reads from.
  bool idle = true;
  for (device::Copier* copier : {staged_in_.active() ? &staged_in_.copier() : nullptr,
                                 staged_out_.active() ? &staged_out_.copier() : nullptr, call_.there}) {
    if (copies_ > 0 && copier != nullptr) idle = copier->abandon(this) && idle;
  }
  copies_ = 0;
  staged_in_.end(idle);
  staged_out_.end(idle);
  for (Instance& each : instances_) {
    if (idle) give_back(each);
    each.bounce = {};
  }
  if (!scratch_there_.empty() && idle) call_.there->give_back_device(scratch_there_);
  scratch_there_ = {};
  scratch_ = ScratchPool::Block();
  next_chunk_ = chunks_;
  running_ = 0;
  left_to_answer_ = 0;
}

}  // namespace longspan::executor
