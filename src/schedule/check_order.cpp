#include <fmt/format.h>

#include <algorithm>

#include "schedule/check_parts.hpp"
#include "schedule/export.hpp"

namespace longspan::checking {
namespace {

/// The steps that `at` waits for: its dependencies, and for a recv the send.
template <class Visit>
void each_before(const Program& program, StepRef at, Visit&& visit) {
  const Step& step = program.step(at);
  for (const Dependency& d : dependencies(program.ranks[at.rank], step)) visit(StepRef{at.rank, d.step});
  if (step.kind == StepKind::kRecv) {
    visit(StepRef{static_cast<std::uint32_t>(step.peer), program.other_end[at.rank][at.step]});
  }
}

/// Names a cycle among the steps that never became ready, by walking back until one comes up again.
Status name_cycle(const Program& program, const std::vector<std::vector<std::uint32_t>>& waiting, StepRef start) {
  std::vector<StepRef> path;
  StepRef at = start;
  const auto same = [&](const StepRef& old) { return old.rank == at.rank && old.step == at.step; };
  while (std::none_of(path.begin(), path.end(), same)) {
    path.push_back(at);
    StepRef next = at;
    each_before(program, at, [&](StepRef before) {
      if (waiting[before.rank][before.step] != 0) next = before;
    });
    at = next;
  }
  path.erase(path.begin(), std::find_if(path.begin(), path.end(), same));
  std::string text = fmt::format("a cycle of {} steps, each waiting for the next: ", path.size());
  constexpr std::size_t kShown = 6;
  for (std::size_t i = 0; i < std::min(kShown, path.size()); ++i) text += where(program, path[i]) + "; ";
  text += path.size() > kShown ? "..." : "and again the first";
  return defect(text);
}

}  // namespace

Status check_order(Program& program) {
  const auto ranks = static_cast<std::uint32_t>(program.ranks.size());
  std::vector<std::vector<std::uint32_t>> waiting(ranks);
  std::vector<std::vector<std::vector<std::uint32_t>>> dependents(ranks);
  std::vector<StepRef> open;
  for (std::uint32_t r = 0; r < ranks; ++r) {
    const Schedule& schedule = program.ranks[r];
    waiting[r].resize(schedule.steps.size());
    dependents[r].resize(schedule.steps.size());
    for (std::uint32_t i = 0; i < schedule.steps.size(); ++i) {
      const Step& step = schedule.steps[i];
      waiting[r][i] = step.dependencies_count + (step.kind == StepKind::kRecv ? 1 : 0);
      for (const Dependency& d : dependencies(schedule, step)) dependents[r][d.step].push_back(i);
      if (waiting[r][i] == 0) open.push_back(StepRef{r, i});
    }
  }
  const auto release = [&](StepRef at) {
    if (--waiting[at.rank][at.step] == 0) open.push_back(at);
  };
  program.order.clear();
  while (!open.empty()) {
    const StepRef at = open.back();
    open.pop_back();
    program.order.push_back(at);
    for (const std::uint32_t next : dependents[at.rank][at.step]) release(StepRef{at.rank, next});
    const Step& step = program.step(at);
    if (step.kind == StepKind::kSend) {
      release(StepRef{static_cast<std::uint32_t>(step.peer), program.other_end[at.rank][at.step]});
    }
  }
  for (std::uint32_t r = 0; r < ranks; ++r) {
    const auto stuck = std::find_if(waiting[r].begin(), waiting[r].end(), [](std::uint32_t left) { return left != 0; });
    if (stuck != waiting[r].end()) {
      return name_cycle(program, waiting, StepRef{r, static_cast<std::uint32_t>(stuck - waiting[r].begin())});
    }
  }
  return {};
}

Status check_barrier(const Program& program) {
  if (program.ranks[0].shape.kind != Collective::kBarrier) return {};
  const std::size_t n = program.ranks.size();
  // heard[r][i]: the ranks that are known to have come once step i of rank r is done.
  std::vector<std::vector<std::vector<bool>>> heard(n);
  std::vector<std::vector<bool>> at_exit(n, std::vector<bool>(n));
  for (std::size_t r = 0; r < n; ++r) {
    heard[r].resize(program.ranks[r].steps.size());
    at_exit[r][r] = true;
  }
  for (const StepRef at : program.order) {
    std::vector<bool> known(n);
    known[at.rank] = true;
    each_before(program, at, [&](StepRef before) {
      for (std::size_t k = 0; k < n; ++k) known[k] = known[k] || heard[before.rank][before.step][k];
    });
    for (std::size_t k = 0; k < n; ++k) at_exit[at.rank][k] = at_exit[at.rank][k] || known[k];
    heard[at.rank][at.step] = std::move(known);
  }
  for (std::size_t r = 0; r < n; ++r) {
    const auto missing = std::find(at_exit[r].begin(), at_exit[r].end(), false);
    if (missing == at_exit[r].end()) continue;
    return defect(fmt::format("{} leaves the barrier without knowing that rank {} came",
                              program.cluster->describe(static_cast<int>(r)), missing - at_exit[r].begin()));
  }
  return {};
}

}  // namespace longspan::checking
