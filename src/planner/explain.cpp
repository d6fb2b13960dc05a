#include <fmt/format.h>

#include <limits>
#include <map>
#include <utility>

#include "planner/candidate.hpp"
#include "planner/sorted.hpp"

namespace longspan::planner {

std::vector<Rejected> Planner::rejected(ShapeState& state, const Decision& decision, std::size_t bucket) {
  std::vector<Rejected> list;
  for (const auto& candidate : state.candidates) {
    if (candidate->full_name() == decision.full_name()) continue;
    Rejected entry;
    entry.name = candidate->full_name();
    if (candidate->flow_count <= options_.parameters.max_flows) profile(state, *candidate);
    if (!candidate->error.ok()) {
      entry.reason = std::string(candidate->error.message());
    } else if (!candidate->profile) {
      entry.reason = fmt::format("about {} flows, more than the {} that are worth pricing", candidate->flow_count,
                                 options_.parameters.max_flows);
    } else {
      if (price_of(*candidate, bucket).chunks > 1) chunkable(state, *candidate);
      entry.predicted_seconds = price_of(*candidate, bucket).seconds;
      if (decision.predicted_seconds > 0) {
        const double times = entry.predicted_seconds / decision.predicted_seconds;
        entry.reason = fmt::format("{:.{}f} x the chosen time", times, times < 1.1 ? 3 : 2);
      }
      const int rank = candidate->profile->not_a_gateway;
      if (rank >= 0)
        entry.reason += fmt::format("; {} would cross regions, but its host is no gateway", cluster_.describe(rank));
      if (!state.forced.algorithm.empty()) entry.reason += fmt::format("; {} was forced", state.forced.text());
    }
    list.push_back(std::move(entry));
  }
  return sorted_by(std::move(list), [](const Rejected& r) {
    return r.predicted_seconds < 0 ? std::numeric_limits<double>::infinity() : r.predicted_seconds;
  });
}

void Planner::add_flows(Explanation& explanation, const ShapeState& state, Candidate& candidate) {
  if (!candidate.profile) return;
  std::map<std::pair<int, int>, double> shares;
  for (const spi::Stage& stage : candidate.algorithm->stages(state.shape, cluster_, candidate.variant)) {
    for (const spi::StageFlow& flow : stage.flows) {
      if (cluster_.region_of(flow.from) != cluster_.region_of(flow.to)) shares[{flow.from, flow.to}] += flow.share;
    }
  }
  explanation.flow_count = shares.size();
  const RateTable& table = rates(state, candidate);
  for (const auto& [ends, share] : shares) {
    if (explanation.flows.size() == kMaxFlowLines) return;
    const auto [from, to] = ends;
    const auto back = shares.find({to, from});
    const Network::Path path = network_.path(from, to);
    FlowLine line;
    line.from = from;
    line.to = to;
    line.link = network_.name(network_.wan_resource(static_cast<std::size_t>(path.wan)));
    line.bytes = share * explanation.block_bytes;
    line.channel = table.channel(from, to, share, back == shares.end() ? 0 : back->second);
    explanation.flows.push_back(std::move(line));
  }
}

Result<Explanation> Planner::explain(const CollectiveShape& shape, std::size_t block_bytes) {
  const std::lock_guard lock(mutex_);
  LONGSPAN_ASSIGN(ShapeState * state, state_of(shape));
  Explanation explanation;
  LONGSPAN_ASSIGN(explanation.decision, decide_locked(*state, block_bytes));
  LONGSPAN_ASSIGN(Candidate * chosen, find(*state, explanation.decision));
  explanation.block_bytes = static_cast<double>(block_bytes);
  if (chosen->profile) {
    explanation.phases = phase_costs(network_, *chosen->profile, options_.parameters, explanation.block_bytes,
                                     explanation.decision.chunks);
    explanation.links = link_loads(network_, *chosen->profile, explanation.block_bytes);
  }
  explanation.bound = bounds().bound(state->shape, explanation.block_bytes);
  explanation.rejected = rejected(*state, explanation.decision, size_bucket(block_bytes));
  add_flows(explanation, *state, *chosen);
  return explanation;
}

}  // namespace longspan::planner
