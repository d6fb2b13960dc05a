#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "longspan/plan.hpp"
#include "longspan/spi/algorithm.hpp"
#include "longspan/status.hpp"
#include "longspan/topology.hpp"
#include "planner/bounds.hpp"
#include "planner/cost.hpp"
#include "planner/cost_parameters.hpp"
#include "planner/network.hpp"
#include "planner/rates.hpp"
#include "planner/tier_transports.hpp"

namespace longspan::planner {

struct PlannerOptions {
  /// Algorithms to force, separated by commas: "name[:variant]" for every collective that moves data, or
  /// "collective=name[:variant]" for one. A forced algorithm is used or the plan is refused, never replaced.
  std::string forced;
  CostParameters parameters;
};

/// What one flow across regions may do, for people; ChannelPlan is what a rank gets.
struct FlowLine {
  int from = 0;
  int to = 0;
  std::string link;
  double bytes = 0;
  ChannelPlan channel;
};

/// The connections of flows that use a link alike.
struct LinkConnections {
  std::string link;
  std::size_t flows = 0;
  int from = 0;  ///< ranks of the first of these flows
  int to = 0;
  ChannelPlan channel;
  std::vector<std::string> reasons;
  // What a transport makes of it: filled in by who knows the transports; empty: unknown.
  std::string transport;
  std::string congestion_control;
  int lanes = 0;
  int repair_lanes = 0;
  int express_lanes = 0;
};

/// Everything behind a decision.
struct Explanation {
  Decision decision;
  double block_bytes = 0;
  std::vector<PhaseCost> phases;
  std::vector<LinkLoad> links;  ///< slowest first
  Bound bound;
  std::vector<Rejected> rejected;  ///< fastest first, those not offered last
  std::vector<FlowLine> flows;     ///< the first kMaxFlowLines flows between regions
  std::size_t flow_count = 0;      ///< all flows between regions
  std::vector<LinkConnections> connections;  ///< of all flows between regions
  std::vector<TierTransport> transports;     ///< by tier: filled in by who knows the transports; empty: unknown
};

/// The size that stands for `bytes` in decisions: rounded up to 1, 1.25, 1.5 or 1.75 times a power of two.
std::size_t size_bucket(std::size_t bytes) noexcept;

/// Chooses how to do a collective. Every rank holds an equal Planner (cluster, algorithms, options) and so decides
/// alike without talking: all arithmetic is deterministic (see CMakeLists.txt), and nothing depends on the rank that
/// asks.
///
///     Planner planner(cluster, spi::all_algorithms(), {});
///     LONGSPAN_ASSIGN(auto plan, planner.plan_for({Collective::kAllReduce}, 64 << 20, my_rank));
///
/// Safe from any thread.
class Planner {
 public:
  static constexpr std::size_t kMaxFlowLines = 64;

  /// The algorithms must outlive the planner.
  Planner(Cluster cluster, std::span<const spi::Algorithm* const> algorithms, PlannerOptions options);
  Planner(const Planner&) = delete;
  Planner& operator=(const Planner&) = delete;
  ~Planner();

  /// The choice for blocks of `block_bytes` (see Collective). kUnsupported: the forced algorithm is not offered, or no
  /// algorithm is; the message lists what is.
  Result<Decision> decide(const CollectiveShape& shape, std::size_t block_bytes);

  /// One rank's schedule and channels for a decision of this planner (or rank 0's).
  Result<Plan> plan(const Decision& decision, int rank);

  /// decide and plan, remembered by (shape, size bucket, rank). The planner is one owner, the running call the other.
  Result<std::shared_ptr<const Plan>> plan_for(const CollectiveShape& shape, std::size_t block_bytes, int rank);

  /// The choice with its reasons; slower than decide.
  Result<Explanation> explain(const CollectiveShape& shape, std::size_t block_bytes);

  /// The least time that the topology allows.
  Bound bound(const CollectiveShape& shape, double block_bytes);

  const Cluster& cluster() const noexcept { return cluster_; }

 private:
  struct Candidate;
  struct Priced;
  struct ShapeState;
  /// Shapes with equal keys are planned alike: (kind, root, uneven, private lengths).
  using Key = std::array<int, 4>;

  Result<ShapeState*> state_of(const CollectiveShape& shape);
  void profile(ShapeState& state, Candidate& candidate);
  bool chunkable(const ShapeState& state, Candidate& candidate);
  /// The candidates to choose from, profiled; never empty.
  Result<std::vector<Candidate*>> eligible(ShapeState& state);
  Priced price_of(const Candidate& candidate, std::size_t bucket) const;
  Priced choose(const ShapeState& state, std::span<Candidate* const> candidates, std::size_t bucket);
  Result<Decision> decide_locked(ShapeState& state, std::size_t block_bytes);
  Result<Plan> plan_locked(ShapeState& state, const Decision& decision, int rank);
  Result<Candidate*> find(ShapeState& state, const Decision& decision);
  const RateTable& rates(const ShapeState& state, Candidate& candidate);
  const BoundTable& bounds();
  std::vector<Rejected> rejected(ShapeState& state, const Decision& decision, std::size_t bucket);
  void add_flows(Explanation& explanation, const ShapeState& state, Candidate& candidate);
  std::uint64_t digest_of(const ShapeState& state, const Decision& decision, std::size_t bucket) const;

  const Cluster cluster_;
  const std::vector<const spi::Algorithm*> algorithms_;
  const PlannerOptions options_;
  const Network network_;
  const std::uint64_t context_;

  std::mutex mutex_;  ///< guards what follows
  std::unique_ptr<BoundTable> bounds_;
  std::map<Key, std::unique_ptr<ShapeState>> states_;
};

}  // namespace longspan::planner
