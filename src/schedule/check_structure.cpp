#include <fmt/format.h>

#include <unordered_map>

#include "schedule/check_parts.hpp"
#include "schedule/export.hpp"

namespace longspan::checking {
namespace {

bool moves(const Step& step) { return step.kind == StepKind::kSend || step.kind == StepKind::kRecv; }

/// Well-formedness of one rank's schedule. Each check may rely on those before it.
class RankCheck {
 public:
  RankCheck(const Program& program, std::uint32_t rank)
      : program_(program), rank_(rank), schedule_(program.ranks[rank]), first_(program.ranks[0]) {}

  Status run() {
    LONGSPAN_TRY(header());
    for (std::uint32_t a = 0; a < schedule_.scratch.size(); ++a) LONGSPAN_TRY(scratch(a));
    for (step_ = 0; step_ < schedule_.steps.size(); ++step_) LONGSPAN_TRY(step(schedule_.steps[step_]));
    return {};
  }

 private:
  Status fail(std::string_view what) const {
    return defect(fmt::format("{}: {}", where(program_, StepRef{rank_, step_}), what));
  }
  Status fail_rank(std::string_view what) const {
    return defect(fmt::format("{}: {}", program_.cluster->describe(static_cast<int>(rank_)), what));
  }

  Status header() const {
    if (schedule_.rank != static_cast<int>(rank_) || schedule_.ranks != static_cast<int>(program_.ranks.size())) {
      return fail_rank(fmt::format("the schedule is for rank {} of {}", schedule_.rank, schedule_.ranks));
    }
    if (!(schedule_.shape == first_.shape)) return fail_rank("another collective than rank 0's");
    if (schedule_.algorithm != first_.algorithm) {
      return fail_rank(fmt::format("algorithm {}, but rank 0 has {}", schedule_.algorithm, first_.algorithm));
    }
    if (schedule_.chunkable != first_.chunkable) {
      return fail_rank(fmt::format("chunkable is {}, but {} on rank 0: they would cut messages differently",
                                   schedule_.chunkable, first_.chunkable));
    }
    if (schedule_.phases != first_.phases) return fail_rank("other phases than rank 0's");
    return {};
  }

  Status scratch(std::uint32_t area) const {
    const Slice& extent = schedule_.scratch[area].extent;
    const std::string name = fmt::format("scratch area {} (extent {})", area, describe(schedule_, extent));
    if (extent.buffer == BufferKind::kScratch) return fail_rank(name + " must be described by in or out");
    // The lengths of in and out of any rank may serve as a measure, also those of a buffer this rank does not have.
    const auto most = static_cast<std::uint32_t>(schedule_.ranks);
    if (extent.blocks == 0 || extent.block >= most || extent.blocks > most - extent.block) {
      return fail_rank(name + " has blocks that no rank has");
    }
    return range(extent, name, [&](std::string_view what) { return fail_rank(what); });
  }

  template <class Fail>
  Status range(const Slice& slice, const std::string& name, Fail&& fail_with) const {
    if (slice.begin.den == 0 || slice.end.den == 0 || slice.end < slice.begin || kOne < slice.end) {
      return fail_with(fmt::format("{} is not a range inside a block", name));
    }
    if (slice.blocks > 1 && (slice.begin != kZero || slice.end != kOne)) {
      return fail_with(fmt::format("{} spans several blocks, but not whole ones", name));
    }
    if (slice.blocks > 1 && schedule_.chunkable) {
      return fail_with(fmt::format("{} spans several blocks in a schedule that says it is chunkable", name));
    }
    return {};
  }

  Status slice(const Slice& slice) const {
    const std::string name = describe(schedule_, slice);
    const auto fail_with = [&](std::string_view what) { return fail(what); };
    if (slice.buffer == BufferKind::kScratch) {
      if (slice.area >= schedule_.scratch.size()) return fail(name + ": no such scratch area");
      const Slice& extent = schedule_.scratch[slice.area].extent;
      if (slice.blocks == 0 || slice.block < extent.block ||
          slice.block + slice.blocks > extent.block + extent.blocks || slice.begin < extent.begin ||
          extent.end < slice.end) {
        return fail(fmt::format("{} reaches outside its area, {}", name, describe(schedule_, extent)));
      }
    } else {
      const bool in = slice.buffer == BufferKind::kIn;
      const auto count = in ? blocks_in : blocks_out;
      const auto blocks = static_cast<std::uint32_t>(count(schedule_.shape, schedule_.ranks, schedule_.rank));
      if (slice.blocks == 0 || slice.block >= blocks || slice.blocks > blocks - slice.block) {
        return fail(fmt::format("{} is outside the buffer, which has {} blocks", name, blocks));
      }
    }
    LONGSPAN_TRY(range(slice, name, fail_with));
    return lengths_known(slice, name);
  }

  /// With private lengths a rank knows only the blocks that it owns or reads; it can neither hold nor forward others.
  Status lengths_known(const Slice& slice, const std::string& name) const {
    if (!schedule_.shape.private_lengths) return {};
    for (std::uint32_t i = 0; i < slice.blocks; ++i) {
      const std::uint32_t c = length_class_of(schedule_, slice, i);
      const auto n = static_cast<std::uint32_t>(schedule_.ranks);
      const bool all_to_all = schedule_.shape.kind == Collective::kAllToAll;
      const std::uint32_t one = all_to_all ? c / n : c;
      const std::uint32_t other = all_to_all ? c % n : static_cast<std::uint32_t>(schedule_.shape.root);
      if (rank_ != one && rank_ != other) {
        return fail(fmt::format("{} has a length that only ranks {} and {} know", name, one, other));
      }
    }
    return {};
  }

  Status step(const Step& s) const {
    if (std::size_t{s.operands_begin} + s.operands_count > schedule_.operands.size()) {
      return fail("operands out of range");
    }
    if (s.phase >= std::max<std::size_t>(1, schedule_.phases.size())) return fail("no such phase");
    LONGSPAN_TRY(dependencies_of(s));
    LONGSPAN_TRY(operand_count(s));
    for (const Operand& operand : operands(schedule_, s)) {
      LONGSPAN_TRY(slice(operand.slice));
      LONGSPAN_TRY(recv_of(operand));
    }
    if (s.kind != StepKind::kSend && !s.signal) {
      LONGSPAN_TRY(slice(s.dst));
      if (s.dst.buffer == BufferKind::kIn) return fail("writes the caller's input");
    }
    if (moves(s)) return peer_of(s);
    if (s.kind == StepKind::kReduce && !reduces(schedule_.shape.kind)) {
      return fail("reduces in a collective that only moves");
    }
    for (const Operand& operand : operands(schedule_, s)) LONGSPAN_TRY(same_form(s.dst, operand.slice));
    return {};
  }

  Status dependencies_of(const Step& s) const {
    if (std::size_t{s.dependencies_begin} + s.dependencies_count > schedule_.dependencies.size()) {
      return fail("dependencies out of range");
    }
    for (const Dependency& d : dependencies(schedule_, s)) {
      if (d.step >= schedule_.steps.size()) {
        return fail(fmt::format("depends on step {}, which does not exist", d.step));
      }
      if (d.step < step_) continue;
      const bool back = depends_on(d.step, step_);
      return fail(fmt::format("depends on {}{}", describe_step(schedule_, d.step),
                              back ? ", which depends on it: a cycle" : ", which comes later"));
    }
    return {};
  }

  /// Whether `from` needs `target` first, by whatever path; ids may be in any order here.
  bool depends_on(std::uint32_t from, std::uint32_t target) const {
    std::vector<bool> seen(schedule_.steps.size());
    std::vector<std::uint32_t> open{from};
    while (!open.empty()) {
      const std::uint32_t at = open.back();
      open.pop_back();
      if (at == target) return true;
      if (at >= seen.size() || seen[at]) continue;
      seen[at] = true;
      const Step& s = schedule_.steps[at];
      if (std::size_t{s.dependencies_begin} + s.dependencies_count > schedule_.dependencies.size()) continue;
      for (const Dependency& d : dependencies(schedule_, s)) open.push_back(d.step);
    }
    return false;
  }

  Status operand_count(const Step& s) const {
    const bool one = s.kind == StepKind::kCopy || (s.kind == StepKind::kSend && !s.signal);
    if (one && s.operands_count != 1) return fail(fmt::format("needs one operand, has {}", s.operands_count));
    if (s.kind == StepKind::kReduce && s.operands_count == 0) return fail("reduces nothing");
    if ((s.kind == StepKind::kRecv || s.signal) && s.operands_count != 0) return fail("cannot have operands");
    return {};
  }

  Status recv_of(const Operand& operand) const {
    if (operand.from_recv < 0) return {};
    const auto id = static_cast<std::uint32_t>(operand.from_recv);
    if (id >= step_ || schedule_.steps[id].kind != StepKind::kRecv) {
      return fail(fmt::format("from_recv {} is not an earlier recv", operand.from_recv));
    }
    const Slice& got = schedule_.steps[id].dst;
    const Slice& read = operand.slice;
    const bool covered = got.buffer == read.buffer && got.area == read.area && got.block <= read.block &&
                         read.block + read.blocks <= got.block + got.blocks && got.begin <= read.begin &&
                         read.end <= got.end;
    return covered ? Status() : fail(fmt::format("from_recv {} wrote {}", operand.from_recv, describe(schedule_, got)));
  }

  Status peer_of(const Step& s) const {
    if (s.peer < 0 || s.peer >= schedule_.ranks || s.peer == schedule_.rank) return fail("no such peer");
    const Tier tier = program_.cluster->tier_between(schedule_.rank, s.peer);
    if (s.tier != tier) return fail(fmt::format("tier is {}, must be {}", name_of(s.tier), name_of(tier)));
    if (s.channel >= schedule_.channels.size() || schedule_.channels[s.channel].peer != s.peer) {
      return fail(fmt::format("channel {} does not lead to its peer", s.channel));
    }
    return {};
  }

  Status same_form(const Slice& dst, const Slice& read) const {
    if (dst.blocks != read.blocks || dst.begin != read.begin || dst.end != read.end) {
      return fail(
          fmt::format("{} and {} are not the same elements", describe(schedule_, dst), describe(schedule_, read)));
    }
    for (std::uint32_t i = 0; i < dst.blocks; ++i) {
      if (length_class_of(schedule_, dst, i) == length_class_of(schedule_, read, i)) continue;
      return fail(fmt::format("the blocks of {} and {} may differ in length", describe(schedule_, dst),
                              describe(schedule_, read)));
    }
    return {};
  }

  const Program& program_;
  std::uint32_t rank_;
  const Schedule& schedule_;
  const Schedule& first_;
  std::uint32_t step_ = 0;
};

std::uint64_t message_key(std::uint64_t from, std::uint64_t to, std::uint64_t stream) {
  return (from << 48) ^ (to << 32) ^ stream;
}

Status same_message(const Program& program, StepRef send, StepRef recv) {
  const Schedule& from = program.ranks[send.rank];
  const Schedule& to = program.ranks[recv.rank];
  const Step& s = program.step(send);
  const Step& r = program.step(recv);
  const auto fail = [&](std::string_view what) {
    return defect(fmt::format("{}: {} at the other end, {}", where(program, send), what, where(program, recv)));
  };
  if (s.signal != r.signal) return fail("a signal, but data (or the other way)");
  if (s.signal) return {};
  const Slice& source = operands(from, s)[0].slice;
  const Slice& dst = r.dst;
  if (source.blocks != dst.blocks || source.begin != dst.begin || source.end != dst.end) return fail("other elements");
  for (std::uint32_t i = 0; i < source.blocks; ++i) {
    if (length_class_of(from, source, i) != length_class_of(to, dst, i)) return fail("a block of another length");
  }
  return {};
}

}  // namespace

Status match_messages(Program& program) {
  std::unordered_map<std::uint64_t, StepRef> sends;
  program.other_end.resize(program.ranks.size());
  const auto each = [&](StepKind kind, auto&& visit) -> Status {
    for (std::uint32_t r = 0; r < program.ranks.size(); ++r) {
      const auto& steps = program.ranks[r].steps;
      program.other_end[r].resize(steps.size(), kNone);
      for (std::uint32_t i = 0; i < steps.size(); ++i) {
        if (steps[i].kind == kind) LONGSPAN_TRY(visit(StepRef{r, i}, steps[i]));
      }
    }
    return {};
  };
  LONGSPAN_TRY(each(StepKind::kSend, [&](StepRef at, const Step& s) -> Status {
    const auto [old, fresh] = sends.emplace(message_key(at.rank, static_cast<std::uint32_t>(s.peer), s.stream), at);
    if (fresh) return {};
    return defect(fmt::format("{}: another message to this rank has the same stream: step {}", where(program, at),
                              old->second.step));
  }));
  LONGSPAN_TRY(each(StepKind::kRecv, [&](StepRef at, const Step& s) -> Status {
    const auto found = sends.find(message_key(static_cast<std::uint32_t>(s.peer), at.rank, s.stream));
    if (found == sends.end()) {
      return defect(fmt::format("{}: rank {} sends no such message", where(program, at), s.peer));
    }
    const StepRef send = found->second;
    std::uint32_t& taken = program.other_end[send.rank][send.step];
    if (taken != kNone) {
      return defect(fmt::format("{}: the message is already received by step {}", where(program, at), taken));
    }
    taken = at.step;
    program.other_end[at.rank][at.step] = send.step;
    return same_message(program, send, at);
  }));
  return each(StepKind::kSend, [&](StepRef at, const Step& s) -> Status {
    if (program.other_end[at.rank][at.step] != kNone) return {};
    return defect(fmt::format("{}: rank {} receives no such message", where(program, at), s.peer));
  });
}

std::uint32_t length_class(const Schedule& schedule, BufferKind buffer, std::uint32_t block) {
  const CollectiveShape& shape = schedule.shape;
  if (!shape.uneven && !shape.private_lengths) return 0;
  const auto n = static_cast<std::uint32_t>(schedule.ranks);
  const auto rank = static_cast<std::uint32_t>(schedule.rank);
  const bool in = buffer == BufferKind::kIn;
  switch (shape.kind) {
    case Collective::kAllGather:
    case Collective::kGather: return in ? rank : block;
    case Collective::kReduceScatter:
    case Collective::kScatter: return in ? block : rank;
    case Collective::kAllToAll: return in ? rank * n + block : block * n + rank;
    default: return 0;
  }
}

std::uint32_t length_class_of(const Schedule& schedule, const Slice& slice, std::uint32_t i) {
  const BufferKind buffer =
      slice.buffer == BufferKind::kScratch ? schedule.scratch[slice.area].extent.buffer : slice.buffer;
  return length_class(schedule, buffer, slice.block + i);
}

Status check_structure(Program& program) {
  if (program.ranks.empty()) return defect("no schedules");
  if (program.cluster->size() != static_cast<int>(program.ranks.size())) {
    return defect(fmt::format("{} schedules for a cluster of {} ranks", program.ranks.size(), program.cluster->size()));
  }
  for (std::uint32_t r = 0; r < program.ranks.size(); ++r) LONGSPAN_TRY(RankCheck(program, r).run());
  return match_messages(program);
}

}  // namespace longspan::checking
