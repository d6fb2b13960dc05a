#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "longspan/plan.hpp"

namespace longspan::executor {

bool writes_output(const Step& step) noexcept;

/// A rank's plan in the form that runs: who waits for whom, turned around. Immutable; shared by all its executions.
class CompiledPlan {
 public:
  explicit CompiledPlan(std::shared_ptr<const Plan> plan);

  const Plan& plan() const noexcept { return *plan_; }
  const Schedule& schedule() const noexcept { return plan_->schedule; }
  std::uint32_t step_count() const noexcept { return static_cast<std::uint32_t>(plan_->schedule.steps.size()); }
  const Step& step(std::uint32_t id) const { return plan_->schedule.steps[id]; }
  std::span<const Operand> operands(const Step& step) const {
    return std::span(plan_->schedule.operands).subspan(step.operands_begin, step.operands_count);
  }
  std::span<const std::uint32_t> successors(std::uint32_t id) const {
    return std::span(successors_).subspan(successors_begin_[id], successors_begin_[id + 1] - successors_begin_[id]);
  }
  std::uint32_t predecessors(std::uint32_t id) const { return predecessors_[id]; }
  /// A send of the library's own memory to another region: the caller's result does not wait for it.
  bool trails(std::uint32_t id) const { return trails_[id]; }
  /// Steps of a chunk that do not trail.
  std::uint32_t answering_steps() const noexcept { return answering_steps_; }
  /// All its messages stay on the host.
  bool host_only() const noexcept { return host_only_; }
  /// How many later operands read what this recv brings; its peer view is released after the last.
  std::uint32_t view_readers(std::uint32_t recv) const { return view_readers_[recv]; }
  /// The step reads the caller's input. / How many steps do; how many write the output.
  bool reads_input(std::uint32_t id) const { return reads_input_[id]; }
  std::uint32_t input_readers() const noexcept { return input_readers_; }
  std::uint32_t output_writers() const noexcept { return output_writers_; }

 private:
  std::shared_ptr<const Plan> plan_;  // the planner remembers it too
  std::vector<std::uint32_t> successors_;
  std::vector<std::uint32_t> successors_begin_;
  std::vector<std::uint32_t> predecessors_;
  std::vector<std::uint32_t> view_readers_;
  std::vector<bool> trails_;
  std::vector<bool> reads_input_;
  std::uint32_t input_readers_ = 0;
  std::uint32_t output_writers_ = 0;
  std::uint32_t answering_steps_ = 0;
  bool host_only_ = true;
};

}  // namespace longspan::executor
