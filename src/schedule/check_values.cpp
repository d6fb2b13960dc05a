#include <fmt/format.h>

#include <algorithm>

#include "schedule/check_parts.hpp"
#include "schedule/export.hpp"
#include "schedule/expressions.hpp"

namespace longspan::checking {
namespace {

/// Runs all ranks on expressions, in one order: race-free schedules give the same in every order.
class SymbolicRun {
 public:
  SymbolicRun(const Program& program, const Grid& grid, bool in_place)
      : program_(program), grid_(grid), in_place_(in_place), values_(static_cast<std::uint32_t>(program.ranks.size())) {
    for (std::uint32_t r = 0; r < program.ranks.size(); ++r) {
      const Schedule& schedule = program.ranks[r];
      layouts_.emplace_back(schedule, grid, in_place);
      memory_.emplace_back(layouts_.back().cells());
      messages_.emplace_back(schedule.steps.size());
      const auto blocks = static_cast<std::uint32_t>(blocks_in(schedule.shape, schedule.ranks, schedule.rank));
      for (std::uint32_t b = 0; b < blocks; ++b) {
        for (std::uint32_t s = 0; s < grid.segments(); ++s) {
          memory_[r][layouts_[r].in_cell(b, s)].value = values_.leaf(r, b * grid.segments() + s);
        }
      }
    }
  }

  Status run() {
    for (const StepRef at : program_.order) {
      if (!program_.step(at).signal) LONGSPAN_TRY(step(at));
    }
    for (std::uint32_t r = 0; r < program_.ranks.size(); ++r) LONGSPAN_TRY(outputs(r));
    return {};
  }

 private:
  struct Cell {
    Expr value = kUnwritten;
    std::uint32_t writer = kNone;
  };

  Status fail(StepRef at, std::string_view what) const {
    return defect(fmt::format("{} {}{}", where(program_, at), what, in_place_ ? " (in place)" : ""));
  }

  Status step(StepRef at) {
    const Step& s = program_.step(at);
    const Schedule& schedule = program_.ranks[at.rank];
    if (s.kind == StepKind::kRecv) {
      const auto peer = static_cast<std::uint32_t>(s.peer);
      auto& message = messages_[peer][program_.other_end[at.rank][at.step]];
      store(at, message);
      message = {};
      return {};
    }
    const auto reads = operands(schedule, s);
    std::vector<std::vector<Expr>> read(reads.size());
    for (std::size_t k = 0; k < reads.size(); ++k) LONGSPAN_TRY(load(at, reads[k], read[k]));
    if (s.kind == StepKind::kSend) {
      messages_[at.rank][at.step] = std::move(read[0]);
      return {};
    }
    if (s.kind == StepKind::kReduce) LONGSPAN_TRY(reduce(at, read));
    store(at, read[0]);
    return {};
  }

  Status load(StepRef at, const Operand& operand, std::vector<Expr>& values) {
    const Schedule& schedule = program_.ranks[at.rank];
    layouts_[at.rank].cells_of(operand.slice, cells_);
    for (const std::uint32_t c : cells_) {
      const Cell& cell = memory_[at.rank][c];
      if (cell.value == kUnwritten) {
        return fail(at, fmt::format("reads {}, which was not written", describe(schedule, operand.slice)));
      }
      const bool viewed = cell.writer != kNone && schedule.steps[cell.writer].view_ok;
      const std::uint32_t recv = operand.from_recv < 0 ? kNone : static_cast<std::uint32_t>(operand.from_recv);
      if ((viewed || recv != kNone) && recv != cell.writer) {
        return fail(at,
                    fmt::format("reads {} as if step {} had written it, but {} did", describe(schedule, operand.slice),
                                operand.from_recv, describe_step(schedule, cell.writer)));
      }
      values.push_back(cell.value);
    }
    return {};
  }

  /// Leaves the results in read[0].
  Status reduce(StepRef at, std::vector<std::vector<Expr>>& read) {
    std::vector<Expr> column(read.size());
    for (std::size_t i = 0; i < read[0].size(); ++i) {
      for (std::size_t k = 0; k < read.size(); ++k) column[k] = read[k][i];
      auto made = values_.reduce(column, program_.step(at).post_scale);
      if (!made.ok()) return fail(at, made.status().message());
      read[0][i] = *made;
    }
    return {};
  }

  void store(StepRef at, std::span<const Expr> values) {
    const Step& s = program_.step(at);
    layouts_[at.rank].cells_of(s.dst, cells_);
    for (std::size_t i = 0; i < cells_.size(); ++i) {
      Cell& cell = memory_[at.rank][cells_[i]];
      // A copy onto itself moves nothing: who wrote it remains.
      if (s.kind != StepKind::kCopy || cell.value != values[i]) cell.writer = at.step;
      cell.value = values[i];
    }
  }

  Status outputs(std::uint32_t rank) {
    const Schedule& schedule = program_.ranks[rank];
    const auto blocks = static_cast<std::uint32_t>(blocks_out(schedule.shape, schedule.ranks, schedule.rank));
    for (std::uint32_t b = 0; b < blocks; ++b) {
      for (std::uint32_t s = 0; s < grid_.segments(); ++s) {
        const Expr value = memory_[rank][layouts_[rank].out_cell(b, s)].value;
        const std::string what = output(schedule, b, s, value);
        if (what.empty()) continue;
        const Slice slice{BufferKind::kOut, 0, b, 1, grid_.edge(s), grid_.edge(s + 1)};
        return defect(fmt::format("{}: {} {}{}", program_.cluster->describe(static_cast<int>(rank)),
                                  describe(schedule, slice), what, in_place_ ? " (in place)" : ""));
      }
    }
    return {};
  }

  /// What is wrong with a value in an output; empty when nothing is.
  std::string output(const Schedule& schedule, std::uint32_t block, std::uint32_t segment, Expr value) {
    if (value == kUnwritten) return "was never written";
    const auto rank = static_cast<std::uint32_t>(schedule.rank);
    const auto root = static_cast<std::uint32_t>(schedule.shape.root);
    const auto position = [&](std::uint32_t b) { return b * grid_.segments() + segment; };
    if (reduces(schedule.shape.kind)) {
      return reduction(position(schedule.shape.kind == Collective::kReduceScatter ? rank : 0), value);
    }
    Expr expected = kUnwritten;
    switch (schedule.shape.kind) {
      case Collective::kAllGather:
      case Collective::kGather: expected = values_.leaf(block, position(0)); break;
      case Collective::kBroadcast: expected = values_.leaf(root, position(0)); break;
      case Collective::kScatter: expected = values_.leaf(root, position(rank)); break;
      default: expected = values_.leaf(block, position(rank)); break;
    }
    if (value == expected) return {};
    return fmt::format("holds elements of rank {}, expected rank {}'s, or other elements", values_.text(value),
                       values_.text(expected));
  }

  std::string reduction(std::uint32_t position, Expr value) {
    if (values_.position(value) != position) return "holds the reduction of other elements";
    if (const std::uint32_t missing = values_.first_missing(value); missing < program_.ranks.size()) {
      return fmt::format("lacks the contribution of rank {}: it holds {}", missing, values_.text(value));
    }
    if (!values_.final_value(value)) return "was not made final (scaled) by the last reduce";
    const Expr first = agreed_.try_emplace(position, value).first->second;
    if (first == value) return {};
    return fmt::format(
        "is reduced in another order than on a lower rank (results would differ in bits): {} here, {} there",
        values_.text(value), values_.text(first));
  }

  const Program& program_;
  const Grid& grid_;
  bool in_place_;
  Expressions values_;
  std::vector<Layout> layouts_;
  std::vector<std::vector<Cell>> memory_;
  std::vector<std::vector<std::vector<Expr>>> messages_;  ///< by sender and step
  std::unordered_map<std::uint32_t, Expr> agreed_;        ///< position -> what the first rank holds there
  std::vector<std::uint32_t> cells_;
};

}  // namespace

Status check_values(const Program& program, const Grid& grid, bool in_place) {
  return SymbolicRun(program, grid, in_place).run();
}

}  // namespace longspan::checking
