#include "planner/planner.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <optional>

#include "planner/candidate.hpp"
#include "planner/context.hpp"
#include "planner/hash.hpp"

namespace longspan::planner {
namespace {

// Enough for a program's usual calls; a program that goes through more pays for planning again.
constexpr std::size_t kMaxShapes = 32;
constexpr std::size_t kMaxPlansPerShape = 64;

Status check(const CollectiveShape& shape, const Cluster& cluster) {
  if (cluster.size() == 0) return Status(StatusCode::kInvalidArgument, "no ranks to plan for");
  if (has_root(shape.kind) && (shape.root < 0 || shape.root >= cluster.size())) {
    return Status(StatusCode::kInvalidArgument, fmt::format("{} from or to root {}: ranks are 0 to {}",
                                                            name_of(shape.kind), shape.root, cluster.size() - 1));
  }
  return {};
}

}  // namespace

std::size_t size_bucket(std::size_t bytes) noexcept {
  if (bytes < 4) return bytes;
  const int step_bits = static_cast<int>(std::bit_width(bytes - 1)) - 3;  // of a quarter of the power of two below
  if (step_bits <= 0) return bytes;
  const std::size_t step = std::size_t{1} << step_bits;
  const std::size_t rounded = (bytes + step - 1) & ~(step - 1);
  return rounded == 0 ? bytes : rounded;  // beyond the largest quarter: itself
}

Planner::Planner(Cluster cluster, std::span<const spi::Algorithm* const> algorithms, PlannerOptions options)
    : cluster_(std::move(cluster)),
      algorithms_(algorithms.begin(), algorithms.end()),
      options_(std::move(options)),
      network_(cluster_, options_.parameters),
      context_(context_digest(cluster_, algorithms_, options_)) {}

Planner::~Planner() = default;

Result<Planner::ShapeState*> Planner::state_of(const CollectiveShape& shape) {
  LONGSPAN_TRY(check(shape, cluster_));
  CollectiveShape normal = shape;
  if (!has_root(normal.kind)) normal.root = 0;
  const Key key{static_cast<int>(normal.kind), normal.root, normal.uneven ? 1 : 0, normal.private_lengths ? 1 : 0};
  if (const auto found = states_.find(key); found != states_.end()) return found->second.get();

  auto state = std::make_unique<ShapeState>();
  state->shape = normal;
  LONGSPAN_ASSIGN(state->forced, forced_for(options_.forced, normal.kind));
  for (const spi::Algorithm* algorithm : algorithms_) {
    for (std::string& variant : algorithm->variants(normal, cluster_)) {
      auto candidate = std::make_unique<Candidate>();
      candidate->algorithm = algorithm;
      candidate->flow_count = algorithm->flow_count(normal, cluster_, variant);
      candidate->variant = std::move(variant);
      state->candidates.push_back(std::move(candidate));
    }
  }
  if (states_.size() >= kMaxShapes) states_.clear();
  return states_.emplace(key, std::move(state)).first->second.get();
}

void Planner::profile(ShapeState& state, Candidate& candidate) {
  if (candidate.profiled) return;
  candidate.profiled = true;
  const auto stages = candidate.algorithm->stages(state.shape, cluster_, candidate.variant);
  auto made = make_profile(network_, stages, options_.parameters);
  if (made.ok()) {
    candidate.profile = std::move(made).value();
    // Listing this many flows takes most of the time there is: not twice.
    if (candidate.flow_count > options_.parameters.max_flows) {
      candidate.rates = std::make_unique<RateTable>(network_, stages, options_.parameters);
    }
  } else {
    candidate.error = made.status();
  }
}

Result<std::vector<Planner::Candidate*>> Planner::eligible(ShapeState& state) {
  std::vector<Candidate*> usable, not_through_gateways, large;
  Status why;
  std::string offered;
  for (const auto& candidate : state.candidates) {
    offered += (offered.empty() ? "" : ", ") + candidate->full_name();
    if (!state.forced.matches(candidate->algorithm->name(), candidate->variant)) continue;
    if (candidate->flow_count > options_.parameters.max_flows) {
      large.push_back(candidate.get());
      continue;
    }
    profile(state, *candidate);
    if (!candidate->profile) {
      if (why.ok()) why = candidate->error;
    } else {
      (candidate->profile->not_a_gateway < 0 ? usable : not_through_gateways).push_back(candidate.get());
    }
  }
  if (!usable.empty()) return usable;
  if (!not_through_gateways.empty()) return not_through_gateways;
  if (!large.empty()) {
    const auto fewer = [](const Candidate* a, const Candidate* b) { return a->flow_count < b->flow_count; };
    Candidate* smallest = *std::min_element(large.begin(), large.end(), fewer);
    if (smallest->flow_count <= options_.parameters.max_priced_flows) profile(state, *smallest);
    if (smallest->error.ok()) return std::vector<Candidate*>{smallest};
    why = smallest->error;
  }
  if (!why.ok()) return why.with_context(name_of(state.shape.kind));
  if (offered.empty()) {
    return Status(StatusCode::kUnsupported,
                  fmt::format("no algorithm in this build offers {} on this cluster of {} ranks",
                              name_of(state.shape.kind), cluster_.size()));
  }
  return Status(StatusCode::kUnsupported,
                fmt::format("the forced algorithm \"{}\" does not offer {} on this cluster; offered: {}",
                            state.forced.text(), name_of(state.shape.kind), offered));
}

bool Planner::chunkable(const ShapeState& state, Candidate& candidate) {
  if (!candidate.chunkable) {
    // Whether some rank's slices span several blocks. Blocks travel together near the root, or else everywhere; the
    // same ranks are asked on every rank, so that all get the same answer, and plan() checks each rank's own.
    const int n = cluster_.size();
    bool all = true;
    for (const int rank : {state.shape.root, n - 1, n / 2}) {
      all = all && candidate.algorithm->build(state.shape, cluster_, candidate.variant, rank).chunkable;
    }
    candidate.chunkable = all;
  }
  return *candidate.chunkable;
}

Planner::Priced Planner::price_of(const Candidate& candidate, std::size_t bucket) const {
  if (!candidate.profile) return {};
  const auto bytes = static_cast<double>(bucket);
  Priced priced;
  priced.chunks =
      best_chunks(network_, *candidate.profile, options_.parameters, bytes, candidate.chunkable.value_or(true));
  const Price whole = price(network_, *candidate.profile, options_.parameters, bytes, priced.chunks);
  priced.seconds = whole.seconds;
  priced.busy_seconds = whole.interval_seconds * priced.chunks;
  priced.local_seconds = whole.local_seconds;
  return priced;
}

Planner::Priced Planner::choose(const ShapeState& state, std::span<Candidate* const> candidates, std::size_t bucket) {
  // Asking whether a candidate can be cut costs schedules, so only those that may win are asked; one that cannot is
  // priced again in one piece and the choice repeated. The outcome is the same as if all had been asked at once.
  for (;;) {
    std::vector<Priced> prices;
    for (Candidate* candidate : candidates) {
      prices.push_back(price_of(*candidate, bucket));
      prices.back().candidate = candidate;
    }
    const auto by_time = [](const Priced& a, const Priced& b) { return a.seconds < b.seconds; };
    const Priced fastest = *std::min_element(prices.begin(), prices.end(), by_time);
    const double limit = fastest.seconds + options_.parameters.tie * fastest.busy_seconds;
    Priced best = fastest;
    bool asked = false;
    for (const Priced& priced : prices) {
      if (priced.seconds > limit) continue;
      if (priced.chunks > 1 && !priced.candidate->chunkable) {
        chunkable(state, *priced.candidate);
        asked = true;
      }
      if (priced.local_seconds < best.local_seconds) best = priced;
    }
    if (!asked) return best;
  }
}

std::uint64_t Planner::digest_of(const ShapeState& state, const Decision& decision, std::size_t bucket) const {
  Hasher hash;
  hash.add(context_).add(static_cast<int>(state.shape.kind)).add(state.shape.root);
  hash.add(state.shape.uneven ? 1 : 0).add(state.shape.private_lengths ? 1 : 0).add(std::uint64_t{bucket});
  hash.add(decision.algorithm)
      .add(decision.variant)
      .add(std::uint64_t{decision.chunks})
      .add(std::uint64_t{decision.window});
  return hash.value();
}

Result<Decision> Planner::decide_locked(ShapeState& state, std::size_t block_bytes) {
  const std::size_t bucket = size_bucket(block_bytes);
  if (const auto known = state.decisions.find(bucket); known != state.decisions.end()) return known->second;
  LONGSPAN_ASSIGN(const std::vector<Candidate*> candidates, eligible(state));
  const Priced chosen = choose(state, candidates, bucket);
  Decision decision;
  decision.shape = state.shape;
  decision.algorithm = std::string(chosen.candidate->algorithm->name());
  decision.variant = chosen.candidate->variant;
  decision.chunks = chosen.chunks;
  decision.window = 1;
  if (chosen.candidate->profile) {
    decision.window = window_for(network_, *chosen.candidate->profile, options_.parameters, static_cast<double>(bucket),
                                 chosen.chunks);
  }
  decision.predicted_seconds = chosen.seconds;
  decision.digest = digest_of(state, decision, bucket);
  state.decisions.emplace(bucket, decision);
  return decision;
}

Result<Planner::Candidate*> Planner::find(ShapeState& state, const Decision& decision) {
  for (const auto& candidate : state.candidates) {
    if (candidate->algorithm->name() == decision.algorithm && candidate->variant == decision.variant)
      return candidate.get();
  }
  return Status(StatusCode::kUnsupported, fmt::format("algorithm {}, chosen for {}, is not offered by this build",
                                                      decision.full_name(), name_of(decision.shape.kind)));
}

const RateTable& Planner::rates(const ShapeState& state, Candidate& candidate) {
  if (!candidate.rates) {
    // Unpriced candidates have too many flows to list: their channels share a link as the transport finds it.
    std::vector<spi::Stage> stages;
    if (candidate.profile) stages = candidate.algorithm->stages(state.shape, cluster_, candidate.variant);
    candidate.rates = std::make_unique<RateTable>(network_, stages, options_.parameters);
  }
  return *candidate.rates;
}

Result<Plan> Planner::plan_locked(ShapeState& state, const Decision& decision, int rank) {
  if (rank < 0 || rank >= cluster_.size()) {
    return Status(StatusCode::kInvalidArgument, fmt::format("rank {}: ranks are 0 to {}", rank, cluster_.size() - 1));
  }
  LONGSPAN_ASSIGN(Candidate * candidate, find(state, decision));
  if (candidate->flow_count <= options_.parameters.max_priced_flows) profile(state, *candidate);
  if (!candidate->error.ok()) return candidate->error.with_context(decision.full_name());
  Plan plan;
  plan.decision = decision;
  plan.schedule = candidate->algorithm->build(state.shape, cluster_, decision.variant, rank);
  if (decision.chunks > 1 && !plan.schedule.chunkable) {
    return Status(
        StatusCode::kInternal,
        fmt::format("{}: {} was to be cut into {} chunks, but its schedule for {} cannot be", name_of(state.shape.kind),
                    decision.full_name(), decision.chunks, cluster_.describe(rank)));
  }
  const RateTable& table = rates(state, *candidate);
  plan.channels.reserve(plan.schedule.channels.size());
  for (const ScheduleChannel& channel : plan.schedule.channels) {
    plan.channels.push_back(table.channel(rank, channel));
  }
  return plan;
}

Result<Decision> Planner::decide(const CollectiveShape& shape, std::size_t block_bytes) {
  const std::lock_guard lock(mutex_);
  LONGSPAN_ASSIGN(ShapeState * state, state_of(shape));
  return decide_locked(*state, block_bytes);
}

Result<Plan> Planner::plan(const Decision& decision, int rank) {
  const std::lock_guard lock(mutex_);
  LONGSPAN_ASSIGN(ShapeState * state, state_of(decision.shape));
  return plan_locked(*state, decision, rank);
}

Result<std::shared_ptr<const Plan>> Planner::plan_for(const CollectiveShape& shape, std::size_t block_bytes, int rank) {
  const std::lock_guard lock(mutex_);
  LONGSPAN_ASSIGN(ShapeState * state, state_of(shape));
  const std::pair<std::size_t, int> key{size_bucket(block_bytes), rank};
  if (const auto known = state->plans.find(key); known != state->plans.end()) return known->second;
  LONGSPAN_ASSIGN(const Decision decision, decide_locked(*state, block_bytes));
  LONGSPAN_ASSIGN(Plan made, plan_locked(*state, decision, rank));
  if (state->plans.size() >= kMaxPlansPerShape) state->plans.clear();
  auto plan = std::make_shared<const Plan>(std::move(made));
  state->plans.emplace(key, plan);
  return plan;
}

const BoundTable& Planner::bounds() {
  if (!bounds_) bounds_ = std::make_unique<BoundTable>(cluster_);
  return *bounds_;
}

Bound Planner::bound(const CollectiveShape& shape, double block_bytes) {
  if (!check(shape, cluster_).ok()) return {};
  const std::lock_guard lock(mutex_);
  return bounds().bound(shape, block_bytes);
}

}  // namespace longspan::planner
