#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "schedule/check_parts.hpp"

namespace longspan {
namespace checking {
namespace {

double share_of(const Slice& slice) { return (slice.end.value() - slice.begin.value()) * slice.blocks; }
bool same_share(double a, double b) { return std::abs(a - b) <= 1e-9 * std::max(1.0, std::abs(a)); }

/// What the schedules do in one phase.
struct Observed {
  std::map<std::pair<int, int>, double> flows;
  std::uint32_t rounds = 0;
  std::vector<double> reduced;  ///< by rank
};

/// Rounds of a phase: the longest chain of its messages in which each carries what came with the one before.
void count_rounds(const Program& program, std::vector<Observed>& phases) {
  std::vector<std::vector<std::uint32_t>> depth(program.ranks.size());
  for (std::size_t r = 0; r < depth.size(); ++r) depth[r].resize(program.ranks[r].steps.size());
  for (const StepRef at : program.order) {
    const Step& s = program.step(at);
    std::uint32_t deepest = 0;
    for (const Dependency& d : dependencies(program.ranks[at.rank], s)) {
      if (d.kind != DependencyKind::kData || program.ranks[at.rank].steps[d.step].phase != s.phase) continue;
      deepest = std::max(deepest, depth[at.rank][d.step]);
    }
    if (s.kind == StepKind::kRecv) {
      deepest = std::max(deepest, depth[static_cast<std::size_t>(s.peer)][program.other_end[at.rank][at.step]] + 1);
      phases[s.phase].rounds = std::max(phases[s.phase].rounds, deepest);
    }
    depth[at.rank][at.step] = deepest;
  }
}

Status compare(const Observed& seen, const spi::Stage& stage) {
  const auto fail = [&](std::string what) { return defect(fmt::format("stage {}: {}", stage.name, what)); };
  std::map<std::pair<int, int>, double> stated;
  for (const spi::StageFlow& flow : stage.flows) stated[{flow.from, flow.to}] += flow.share;
  for (const auto& [pair, share] : seen.flows) {
    const auto found = stated.find(pair);
    const double said = found == stated.end() ? 0 : found->second;
    if (found == stated.end() || !same_share(share, said)) {
      return fail(fmt::format("rank {} sends rank {} {} blocks, stated are {}", pair.first, pair.second, share, said));
    }
  }
  for (const auto& [pair, share] : stated) {
    if (!seen.flows.contains(pair)) {
      return fail(fmt::format("rank {} sends rank {} nothing, stated are {} blocks", pair.first, pair.second, share));
    }
  }
  if (!seen.flows.empty() && seen.rounds != static_cast<std::uint32_t>(stage.rounds)) {
    return fail(fmt::format("{} messages follow one another, stated are {} rounds", seen.rounds, stage.rounds));
  }
  const double busiest = *std::max_element(seen.reduced.begin(), seen.reduced.end());
  if (seen.flows.empty() || same_share(busiest, stage.reduce_share)) return {};
  return fail(fmt::format("the busiest rank reduces {} blocks, stated are {}", busiest, stage.reduce_share));
}

}  // namespace
}  // namespace checking

Status check_stages(std::span<const Schedule> all_ranks, std::span<const spi::Stage> stages) {
  using namespace checking;
  const Cluster nowhere;
  Program program{all_ranks, &nowhere, {}, {}};
  if (all_ranks.empty()) return defect("no schedules");
  if (all_ranks[0].phases.size() != stages.size()) {
    return defect(fmt::format("{} phases, but {} stages", all_ranks[0].phases.size(), stages.size()));
  }
  for (std::size_t p = 0; p < stages.size(); ++p) {
    if (all_ranks[0].phases[p] == stages[p].name) continue;
    return defect(fmt::format("phase {} is {}, but the stage is {}", p, all_ranks[0].phases[p], stages[p].name));
  }
  LONGSPAN_TRY(match_messages(program));
  LONGSPAN_TRY(check_order(program));
  std::vector<Observed> phases(stages.size());
  for (Observed& phase : phases) phase.reduced.resize(all_ranks.size());
  for (const StepRef at : program.order) {
    const Step& s = program.step(at);
    const bool moves = s.kind == StepKind::kSend || s.kind == StepKind::kRecv;
    if (s.phase >= phases.size()) {
      // A rank alone has nothing to price, and needs no phase.
      if (!moves) continue;
      return defect(where(program, at) + ": is in no phase");
    }
    Observed& phase = phases[s.phase];
    const auto reads = operands(all_ranks[at.rank], s);
    if (s.kind == StepKind::kSend) {
      phase.flows[{static_cast<int>(at.rank), s.peer}] += s.signal ? 0 : share_of(reads[0].slice);
      const auto other = StepRef{static_cast<std::uint32_t>(s.peer), program.other_end[at.rank][at.step]};
      if (program.step(other).phase != s.phase) return defect(where(program, at) + ": its receive is in another phase");
    } else if (s.kind == StepKind::kReduce) {
      for (const Operand& read : reads) phase.reduced[at.rank] += share_of(read.slice);
    }
  }
  count_rounds(program, phases);
  for (std::size_t p = 0; p < stages.size(); ++p) LONGSPAN_TRY(compare(phases[p], stages[p]));
  return {};
}

}  // namespace longspan
