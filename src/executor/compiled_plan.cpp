#include "executor/compiled_plan.hpp"

namespace longspan::executor {

bool writes_output(const Step& step) noexcept {
  return step.kind != StepKind::kSend && !step.signal && step.dst.buffer == BufferKind::kOut;
}

CompiledPlan::CompiledPlan(std::shared_ptr<const Plan> plan) : plan_(std::move(plan)) {
  const Schedule& schedule = plan_->schedule;
  const std::size_t steps = schedule.steps.size();
  successors_begin_.assign(steps + 1, 0);
  predecessors_.assign(steps, 0);
  view_readers_.assign(steps, 0);
  const auto each_edge = [&](auto&& visit) {
    for (std::uint32_t id = 0; id < steps; ++id) {
      const Step& step = schedule.steps[id];
      for (std::uint32_t d = 0; d < step.dependencies_count; ++d) {
        visit(schedule.dependencies[step.dependencies_begin + d].step, id);
      }
    }
  };
  each_edge([&](std::uint32_t before, std::uint32_t after) {
    ++successors_begin_[before + 1];
    ++predecessors_[after];
  });
  for (std::size_t i = 0; i < steps; ++i) successors_begin_[i + 1] += successors_begin_[i];
  successors_.resize(successors_begin_[steps]);
  std::vector<std::uint32_t> next(successors_begin_.begin(), successors_begin_.end() - 1);
  each_edge([&](std::uint32_t before, std::uint32_t after) { successors_[next[before]++] = after; });
  for (const ScheduleChannel& channel : schedule.channels) host_only_ = host_only_ && channel.tier <= Tier::kHost;
  for (const Step& step : schedule.steps) {
    // What stays in the region is gone before another thread could be asked to see to it.
    const bool trails = step.kind == StepKind::kSend && !step.signal && step.tier == Tier::kWan &&
                        operands(step)[0].slice.buffer == BufferKind::kScratch;
    trails_.push_back(trails);
    answering_steps_ += trails ? 0 : 1;
    bool reads_input = false;
    for (const Operand& operand : operands(step)) {
      reads_input = reads_input || (operand.slice.buffer == BufferKind::kIn && !step.signal);
      if (operand.from_recv >= 0) ++view_readers_[static_cast<std::size_t>(operand.from_recv)];
    }
    reads_input_.push_back(reads_input);
    input_readers_ += reads_input ? 1 : 0;
    output_writers_ += writes_output(step) ? 1 : 0;
  }
}

}  // namespace longspan::executor
