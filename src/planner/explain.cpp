#include <fmt/format.h>

#include <limits>
#include <map>
#include <tuple>
#include <utility>

#include "planner/candidate.hpp"
#include "planner/sorted.hpp"
#include "planner/text.hpp"

namespace longspan::planner {
namespace {

/// What the plan gives a flow over `link`, and why; the transport's reasons follow.
std::vector<std::string> reasons_of(const ChannelPlan& channel, const WanLink& link, double budget, double headroom) {
  std::vector<std::string> reasons;
  if (channel.rate_bytes_per_second > 0) {
    reasons.push_back(fmt::format("rate: by bytes, its share of the {} that plans use of {}", rate_text(budget),
                                  rate_text(link.bandwidth.bytes_per_second)));
  } else {
    reasons.emplace_back("rate: not paced, no capacity is stated");
  }
  if (channel.window_bytes > 0) {
    reasons.push_back(fmt::format("window: {:g} x the bandwidth-delay product of the faster direction, RTT {}",
                                  headroom, time_text(channel.rtt_seconds)));
  } else {
    reasons.emplace_back("window: the system's default, no capacity or no latency is stated");
  }
  return reasons;
}

}  // namespace

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
  std::map<std::tuple<int, double, std::size_t, int>, LinkConnections> alike;
  for (const auto& [ends, share] : shares) {
    const auto [from, to] = ends;
    const auto back = shares.find({to, from});
    const Network::Path path = network_.path(from, to);
    FlowLine line;
    line.from = from;
    line.to = to;
    line.link = network_.name(network_.wan_resource(static_cast<std::size_t>(path.wan)));
    line.bytes = share * explanation.block_bytes;
    ScheduleChannel channel{.peer = to, .send_share = share, .sends = 1};
    if (back != shares.end()) channel.recv_share = back->second, channel.recvs = 1;
    line.channel = table.channel(from, channel);
    LinkConnections& group =
        alike[{path.wan, line.channel.rate_bytes_per_second, line.channel.window_bytes, line.channel.lanes}];
    if (group.flows++ == 0) {
      const auto wan = static_cast<std::size_t>(path.wan);
      group.link = line.link;
      group.from = from;
      group.to = to;
      group.channel = line.channel;
      group.reasons = reasons_of(line.channel, cluster_.topology.wan[wan], network_.wan_budget(wan),
                                 options_.parameters.window_headroom);
    }
    if (explanation.flows.size() < kMaxFlowLines) explanation.flows.push_back(std::move(line));
  }
  for (auto& [key, group] : alike) explanation.connections.push_back(std::move(group));
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
