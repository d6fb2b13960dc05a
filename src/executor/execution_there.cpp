// The steps of an execution that stays in a device's memory: kernels and copies there, told of when they are done.
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
  consumed_views(plan_->step(instance.step), instance.slot);
  finish(instance);
  drain();
}

}  // namespace longspan::executor
