#include <fmt/format.h>

#include <algorithm>

#include "schedule/check_parts.hpp"
#include "schedule/export.hpp"

namespace longspan::checking {
namespace {

/// Which steps of a rank are complete before which, by its dependencies alone: a bit per pair.
class Closure {
 public:
  explicit Closure(const Schedule& schedule)
      : words_((schedule.steps.size() + 63) / 64), bits_(words_ * schedule.steps.size()) {
    for (std::size_t i = 0; i < schedule.steps.size(); ++i) {
      for (const Dependency& d : dependencies(schedule, schedule.steps[i])) {
        for (std::size_t w = 0; w <= d.step / 64; ++w) bits_[i * words_ + w] |= bits_[d.step * words_ + w];
        bits_[i * words_ + d.step / 64] |= std::uint64_t{1} << (d.step % 64);
      }
    }
  }
  bool before(std::uint32_t earlier, std::uint32_t later) const {
    return earlier == later || ((bits_[later * words_ + earlier / 64] >> (earlier % 64)) & 1) != 0;
  }

 private:
  std::size_t words_;
  std::vector<std::uint64_t> bits_;
};

/// What a cell has seen: enough, since orders are transitive and what a write follows is ordered before it.
struct History {
  std::uint32_t writer = kNone;
  std::vector<std::uint32_t> readers;
};

class RaceCheck {
 public:
  RaceCheck(const Program& program, const Grid& grid, std::uint32_t rank, bool in_place)
      : program_(program),
        rank_(rank),
        in_place_(in_place),
        schedule_(program.ranks[rank]),
        layout_(schedule_, grid, in_place),
        closure_(schedule_),
        history_(layout_.cells()) {}

  Status run() {
    std::vector<std::uint32_t> cells;
    std::vector<std::uint32_t> source;
    for (std::uint32_t i = 0; i < schedule_.steps.size(); ++i) {
      const Step& step = schedule_.steps[i];
      const bool writes = step.kind != StepKind::kSend && !step.signal;
      if (step.kind == StepKind::kCopy) {
        layout_.cells_of(operands(schedule_, step)[0].slice, source);
        layout_.cells_of(step.dst, cells);
        if (source == cells) continue;  // in place: the bytes are there already
      }
      for (const Operand& operand : operands(schedule_, step)) {
        layout_.cells_of(operand.slice, cells);
        for (const std::uint32_t cell : cells) LONGSPAN_TRY(read(cell, i));
      }
      if (!writes) continue;
      layout_.cells_of(step.dst, cells);
      for (const std::uint32_t cell : cells) LONGSPAN_TRY(write(cell, i));
    }
    return {};
  }

 private:
  Status fail(std::uint32_t step, std::string_view verb, std::uint32_t other, std::string_view other_verb) const {
    return defect(fmt::format("{} {} what {} {}, and no dependency orders them{}",
                              where(program_, StepRef{rank_, step}), verb, describe_step(schedule_, other), other_verb,
                              in_place_ ? " (in place)" : ""));
  }
  Status read(std::uint32_t cell, std::uint32_t step) {
    History& seen = history_[cell];
    if (seen.writer != kNone && !closure_.before(seen.writer, step)) return fail(step, "reads", seen.writer, "writes");
    if (seen.readers.empty() || seen.readers.back() != step) seen.readers.push_back(step);
    return {};
  }
  Status write(std::uint32_t cell, std::uint32_t step) {
    History& seen = history_[cell];
    if (seen.writer != kNone && !closure_.before(seen.writer, step)) {
      return fail(step, "overwrites", seen.writer, "writes");
    }
    for (const std::uint32_t reader : seen.readers) {
      if (!closure_.before(reader, step)) return fail(step, "overwrites", reader, "reads");
    }
    seen.writer = step;
    seen.readers.clear();
    return {};
  }

  const Program& program_;
  std::uint32_t rank_;
  bool in_place_;
  const Schedule& schedule_;
  Layout layout_;
  Closure closure_;
  std::vector<History> history_;
};

}  // namespace

Status check_races(const Program& program, const Grid& grid, bool in_place) {
  for (std::uint32_t r = 0; r < program.ranks.size(); ++r) LONGSPAN_TRY(RaceCheck(program, grid, r, in_place).run());
  return {};
}

}  // namespace longspan::checking
