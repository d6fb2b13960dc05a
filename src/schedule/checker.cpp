#include "schedule/checker.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "schedule/check_parts.hpp"
#include "schedule/export.hpp"

namespace longspan {
namespace checking {

Grid::Grid(std::span<const Schedule> all_ranks) : edges_{kZero, kOne} {
  const auto add = [this](const Slice& slice) {
    edges_.push_back(slice.begin);
    edges_.push_back(slice.end);
  };
  const auto squeeze = [this] {
    std::sort(edges_.begin(), edges_.end());
    edges_.erase(std::unique(edges_.begin(), edges_.end()), edges_.end());
  };
  for (const Schedule& schedule : all_ranks) {
    for (const ScratchArea& area : schedule.scratch) add(area.extent);
    for (const Operand& operand : schedule.operands) add(operand.slice);
    for (const Step& step : schedule.steps) add(step.dst);
    squeeze();
  }
}

std::uint32_t Grid::index_of(Fraction edge) const {
  return static_cast<std::uint32_t>(std::lower_bound(edges_.begin(), edges_.end(), edge) - edges_.begin());
}

Layout::Layout(const Schedule& schedule, const Grid& grid, bool in_place) : schedule_(&schedule), grid_(&grid) {
  const std::uint32_t segments = grid.segments();
  const auto blocks = [](int count) { return static_cast<std::uint32_t>(count); };
  const std::uint32_t ins = blocks(blocks_in(schedule.shape, schedule.ranks, schedule.rank));
  const std::uint32_t outs = blocks(blocks_out(schedule.shape, schedule.ranks, schedule.rank));
  out_base_ = ins * segments;
  cells_ = out_base_ + outs * segments;
  for (const ScratchArea& area : schedule.scratch) {
    area_base_.push_back(cells_);
    cells_ += area.extent.blocks * (grid.index_of(area.extent.end) - grid.index_of(area.extent.begin));
  }
  same_as_.resize(cells_);
  for (std::uint32_t i = 0; i < cells_; ++i) same_as_[i] = i;
  if (!in_place) return;
  for (std::uint32_t block = 0; block < outs; ++block) {
    Slice alias;
    if (!in_place_alias(schedule.shape, schedule.ranks, schedule.rank,
                        Slice{BufferKind::kOut, 0, block, 1, kZero, kOne}, alias)) {
      continue;
    }
    for (std::uint32_t s = 0; s < segments; ++s) same_as_[out_base_ + block * segments + s] = in_cell(alias.block, s);
  }
}

void Layout::cells_of(const Slice& slice, std::vector<std::uint32_t>& cells) const {
  cells.clear();
  const std::uint32_t first = grid_->index_of(slice.begin);
  const std::uint32_t last = grid_->index_of(slice.end);
  std::uint32_t base = slice.buffer == BufferKind::kOut ? out_base_ : 0;
  std::uint32_t width = grid_->segments();
  std::uint32_t block = slice.block;
  std::uint32_t skip = 0;
  if (slice.buffer == BufferKind::kScratch) {
    const Slice& extent = schedule_->scratch[slice.area].extent;
    base = area_base_[slice.area];
    block -= extent.block;
    skip = grid_->index_of(extent.begin);
    width = grid_->index_of(extent.end) - skip;
  }
  for (std::uint32_t b = block; b < block + slice.blocks; ++b) {
    for (std::uint32_t s = first; s < last; ++s) cells.push_back(same_as_[base + b * width + s - skip]);
  }
}

std::span<const Operand> operands(const Schedule& schedule, const Step& step) {
  return std::span(schedule.operands).subspan(step.operands_begin, step.operands_count);
}

std::span<const Dependency> dependencies(const Schedule& schedule, const Step& step) {
  return std::span(schedule.dependencies).subspan(step.dependencies_begin, step.dependencies_count);
}

std::string where(const Program& program, StepRef at) {
  return fmt::format("{} {}", program.cluster->describe(static_cast<int>(at.rank)),
                     describe_step(program.ranks[at.rank], at.step));
}

Status defect(std::string message) { return Status(StatusCode::kInternal, std::move(message)); }

}  // namespace checking

Status check(std::span<const Schedule> all_ranks, const Cluster& cluster, const CheckOptions& options) {
  using namespace checking;
  Program program{all_ranks, &cluster, {}, {}};
  LONGSPAN_TRY(check_structure(program));
  LONGSPAN_TRY(check_order(program));
  const Grid grid(all_ranks);
  for (const bool in_place : {false, true}) {
    LONGSPAN_TRY(check_races(program, grid, in_place));
    LONGSPAN_TRY(check_values(program, grid, in_place));
  }
  LONGSPAN_TRY(check_barrier(program));
  LONGSPAN_TRY(check_counts(program, grid, options));
  if (options.deadlocks) LONGSPAN_TRY(check_deadlocks(program, options));
  return {};
}

}  // namespace longspan
