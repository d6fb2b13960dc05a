// The part of an execution that moves device memory to the host and back, chunk by chunk.
#include "executor/execution.hpp"
#include "executor/reduce/reduce.hpp"

namespace longspan::executor {
namespace {

// What a token is about: the slot, and the direction.
void* label(std::uint32_t slot, bool up) { return reinterpret_cast<void*>(std::uintptr_t{slot} << 1 | (up ? 1U : 0U)); }
std::uint32_t slot_of(const device::Token& token) {
  return static_cast<std::uint32_t>(reinterpret_cast<std::uintptr_t>(token.what) >> 1);
}
bool is_up(const device::Token& token) { return (reinterpret_cast<std::uintptr_t>(token.what) & 1U) != 0; }

}  // namespace

Status Execution::stage() {
  if (call_.there != nullptr) return {};
  const Schedule& schedule = plan_->schedule();
  const auto slots = static_cast<std::uint32_t>(slots_.size());
  // A side that no step of this rank touches is left where it is.
  if (call_.in_copier != nullptr && plan_->input_readers() > 0) {
    const auto blocks = static_cast<std::uint32_t>(blocks_in(schedule.shape, schedule.ranks, schedule.rank));
    LONGSPAN_TRY(staged_in_.begin(*call_.in_copier, call_.in, blocks, chunks_, slots, element_size_));
  }
  scales_on_device_ = staged_in_.active() && call_.in_factor != 1 && call_.in_copier->computes();
  if (call_.out_copier != nullptr && plan_->output_writers() > 0) {
    const auto blocks = static_cast<std::uint32_t>(blocks_out(schedule.shape, schedule.ranks, schedule.rank));
    LONGSPAN_TRY(staged_out_.begin(*call_.out_copier, call_.out, blocks, chunks_, slots, element_size_));
  }
  return {};
}

void Execution::bring_down(std::uint32_t slot_index) {
  const auto moves = staged_in_.moves(slot_index, slots_[slot_index].chunk);
  if (moves.empty()) return input_is_down(slot_index);
  ++copies_;
  const device::Scaling scaling{call_.type, call_.in_factor};
  Status status =
      staged_in_.copier().to_host(moves, scales_on_device_ ? &scaling : nullptr, this, label(slot_index, false));
  if (failure_.ok() && !status.ok()) failure_ = std::move(status);
}

void Execution::bring_up(std::uint32_t slot_index) {
  const auto moves = staged_out_.moves(slot_index, slots_[slot_index].chunk);
  if (moves.empty()) {
    --left_to_answer_;
    return part_done(slot_index);
  }
  ++copies_;
  Status status = staged_out_.copier().to_device(moves, this, label(slot_index, true));
  if (failure_.ok() && !status.ok()) failure_ = std::move(status);
}

void Execution::input_is_down(std::uint32_t slot_index) {
  if (call_.in_factor != 1 && !scales_on_device_) {
    for (const device::Move& each : staged_in_.moves(slot_index, slots_[slot_index].chunk)) {
      reduce::scale(call_.type, each.host, each.host, each.bytes / element_size_, call_.in_factor);
    }
  }
  for (std::uint32_t id = 0; id < plan_->step_count(); ++id) {
    Instance& waiting = instance(slot_index, id);
    if (plan_->reads_input(id) && --waiting.pending == 0) ready_.push_back(&waiting);
  }
  --left_to_answer_;
  part_done(slot_index);
}

void Execution::copied(const device::Token& token) {
  --copies_;
  if (call_.there != nullptr) return done_there(*static_cast<Instance*>(token.what));
  const std::uint32_t slot = slot_of(token);
  if (is_up(token)) {
    --left_to_answer_;
    part_done(slot);
  } else {
    input_is_down(slot);
  }
  drain();
}

}  // namespace longspan::executor
