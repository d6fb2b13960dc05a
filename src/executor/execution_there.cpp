// The steps of an execution that stays in a device's memory: kernels and copies there, told of when they are done, and
// messages, which go through page-locked memory where their channel takes no device memory.
#include <utility>

#include "executor/execution.hpp"

namespace longspan::executor {

void Execution::run_there(Instance& instance, const Step& step) {
  const Slot& slot = slots_[instance.slot];
  const Bytes dst = locate(step.dst, slot, instance.slot);
  const auto operands = plan_->operands(step);
  for (std::size_t i = 0; i < operands.size(); ++i) {
    operand_pointers_[i] = operand_data(operands[i], slot, instance.slot);
  }
  const bool copies = step.kind == StepKind::kCopy;
  if (dst.size == 0 || (copies && operand_pointers_[0] == dst.data)) {
    consumed_views(step, instance.slot);
    return finish(instance);
  }
  const auto sources = std::span(operand_pointers_).first(operands.size());
  const device::Reduction reduction{call_.type,
                                    call_.op,
                                    step.post_scale ? divisor_ : 1.0,
                                    dst.data,
                                    sources,
                                    dst.size / element_size_};
  ++copies_;
  Status status = copies ? call_.there->copy_there(dst.data, sources[0], dst.size, this, &instance)
                         : call_.there->reduce(reduction, this, &instance);
  if (failure_.ok() && !status.ok()) failure_ = std::move(status);
}

void Execution::done_there(Instance& instance) {
  const Step& step = plan_->step(instance.step);
  if (step.kind == StepKind::kSend) return issue(instance);  // its bytes are in host memory now
  if (step.kind == StepKind::kRecv) give_back(instance);
  else consumed_views(step, instance.slot);
  finish(instance);
  drain();
}

void Execution::give_back(Instance& instance) {
  if (!instance.bounce.empty()) call_.there->give_back(std::exchange(instance.bounce, {}));
}

bool Execution::take_bounce(Instance& instance, std::size_t bytes) {
  auto memory = call_.there->take(bytes);
  if (memory.ok()) instance.bounce = *memory;
  else if (failure_.ok()) failure_ = memory.status();
  return memory.ok();
}

void Execution::bring_message_down(Instance& instance, const Bytes& bytes) {
  if (!take_bounce(instance, bytes.size)) return;
  const device::Move move{instance.bounce.data(), bytes.data, bytes.size};
  ++copies_;
  Status status = call_.there->to_host(std::span(&move, 1), nullptr, this, &instance);
  if (failure_.ok() && !status.ok()) failure_ = std::move(status);
}

void Execution::bring_message_up(Instance& instance) {
  const Bytes bytes = locate(plan_->step(instance.step).dst, slots_[instance.slot], instance.slot);
  const device::Move move{instance.bounce.data(), bytes.data, bytes.size};
  ++copies_;
  Status status = call_.there->to_device(std::span(&move, 1), this, &instance);
  if (failure_.ok() && !status.ok()) failure_ = std::move(status);
}

}  // namespace longspan::executor
