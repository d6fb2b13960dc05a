#pragma once

// What the parts of the checker share. Internal to src/schedule.

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "longspan/schedule.hpp"
#include "longspan/status.hpp"
#include "longspan/topology.hpp"
#include "schedule/checker.hpp"

namespace longspan::checking {

inline constexpr std::uint32_t kNone = ~std::uint32_t{0};

/// Every fraction that any slice of any rank uses: between two neighbours, all elements of a block share one fate, so
/// one symbol stands for them.
class Grid {
 public:
  explicit Grid(std::span<const Schedule> all_ranks);
  std::uint32_t index_of(Fraction edge) const;
  std::uint32_t segments() const { return static_cast<std::uint32_t>(edges_.size()) - 1; }
  Fraction edge(std::uint32_t i) const { return edges_[i]; }
  std::span<const Fraction> edges() const { return edges_; }

 private:
  std::vector<Fraction> edges_;
};

/// One rank's memory as cells: one per buffer, block and segment. In place, cells of `out` are those of `in`.
class Layout {
 public:
  Layout(const Schedule& schedule, const Grid& grid, bool in_place);

  std::uint32_t cells() const { return cells_; }
  std::uint32_t in_cell(std::uint32_t block, std::uint32_t segment) const {
    return block * grid_->segments() + segment;
  }
  std::uint32_t out_cell(std::uint32_t block, std::uint32_t segment) const {
    return same_as_[out_base_ + block * grid_->segments() + segment];
  }
  /// The cells of a valid slice in order; the k-th of two slices of the same form hold the same elements.
  void cells_of(const Slice& slice, std::vector<std::uint32_t>& cells) const;

 private:
  const Schedule* schedule_;
  const Grid* grid_;
  std::uint32_t out_base_ = 0;
  std::vector<std::uint32_t> area_base_;
  std::vector<std::uint32_t> same_as_;
  std::uint32_t cells_ = 0;
};

struct StepRef {
  std::uint32_t rank = 0;
  std::uint32_t step = 0;
};

/// All ranks' schedules, found well-formed, with their messages matched.
struct Program {
  std::span<const Schedule> ranks;
  const Cluster* cluster = nullptr;
  /// For each rank and step: the step at the other end (on rank Step::peer), kNone for reduce and copy.
  std::vector<std::vector<std::uint32_t>> other_end;
  /// An order in which all steps can run.
  std::vector<StepRef> order;

  const Step& step(StepRef at) const { return ranks[at.rank].steps[at.step]; }
};

std::span<const Operand> operands(const Schedule& schedule, const Step& step);
std::span<const Dependency> dependencies(const Schedule& schedule, const Step& step);

/// "rank 2 (host eu-1, region eu) step 7 (recv ...)": how every message of the checker starts.
std::string where(const Program& program, StepRef at);
Status defect(std::string message);

/// Blocks with the same number have the same length whatever the call's counts are.
std::uint32_t length_class(const Schedule& schedule, BufferKind buffer, std::uint32_t block);
/// The class of block `i` of a slice.
std::uint32_t length_class_of(const Schedule& schedule, const Slice& slice, std::uint32_t i);

/// Fills `other_end`.
Status match_messages(Program& program);
/// Every rank on its own, then match_messages.
Status check_structure(Program& program);
/// Fills `order`, or names the cycle.
Status check_order(Program& program);
Status check_races(const Program& program, const Grid& grid, bool in_place);
Status check_values(const Program& program, const Grid& grid, bool in_place);
Status check_barrier(const Program& program);
Status check_deadlocks(const Program& program, const CheckOptions& options);
Status check_counts(const Program& program, const Grid& grid, const CheckOptions& options);

}  // namespace longspan::checking
