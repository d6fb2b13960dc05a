#include "planner/cost.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "planner/sorted.hpp"

namespace longspan::planner {
namespace {

/// Longest walk of at most `rounds` hops is sought by dynamic programming up to this many relaxations; beyond it every
/// hop is taken for the longest one.
constexpr std::size_t kMaxRelaxations = 4'000'000;

std::size_t index(int value) { return static_cast<std::size_t>(value); }

struct Hop {
  int from = 0;
  int to = 0;
  double seconds = 0;
  double seconds_per_byte = 0;  ///< of a block
};

/// Largest sum of hop times over a walk of at most `rounds` hops.
double longest_walk(std::span<const Hop> hops, double Hop::* weight, int ranks, int rounds) {
  double shortest = std::numeric_limits<double>::infinity();
  double longest = 0;
  for (const Hop& hop : hops) {
    shortest = std::min(shortest, hop.*weight);
    longest = std::max(longest, hop.*weight);
  }
  const bool all_alike = shortest >= longest;
  if (all_alike || hops.size() * index(rounds) > kMaxRelaxations) return longest * rounds;
  constexpr double kUnreached = -1;
  std::vector<double> reached(index(ranks), 0);
  std::vector<double> next(index(ranks));
  double best = 0;
  for (int round = 0; round < rounds; ++round) {
    std::fill(next.begin(), next.end(), kUnreached);
    for (const Hop& hop : hops) {
      const double before = reached[index(hop.from)];
      if (before >= 0) next[index(hop.to)] = std::max(next[index(hop.to)], before + hop.*weight);
    }
    reached.swap(next);
    best = std::max(best, *std::max_element(reached.begin(), reached.end()));
  }
  return best;
}

/// Whether some rank only sends: then the flows form chains, else circles.
bool is_chain(const spi::Stage& stage, int ranks) {
  if (!stage.chained) return false;
  std::vector<bool> receives(index(ranks), false);
  for (const spi::StageFlow& flow : stage.flows) receives[index(flow.to)] = true;
  return std::any_of(stage.flows.begin(), stage.flows.end(),
                     [&](const spi::StageFlow& flow) { return !receives[index(flow.from)]; });
}

/// Collects loads by resource without clearing the whole table for each stage.
class LoadTable {
 public:
  explicit LoadTable(std::size_t resources) : share_(resources, 0), listed_(resources, false) {}

  void add(std::uint32_t resource, double share) {
    if (!listed_[resource]) {
      listed_[resource] = true;
      used_.push_back(resource);
    }
    share_[resource] += share;
  }
  std::vector<Load> take() {
    std::sort(used_.begin(), used_.end());
    std::vector<Load> loads;
    loads.reserve(used_.size());
    for (const std::uint32_t resource : used_) {
      loads.push_back({resource, share_[resource]});
      share_[resource] = 0;
      listed_[resource] = false;
    }
    used_.clear();
    return loads;
  }

 private:
  std::vector<double> share_;
  std::vector<bool> listed_;
  std::vector<std::uint32_t> used_;
};

Status no_direct_link(const Cluster& cluster, int from, int to) {
  const auto region = [&cluster](int rank) -> const std::string& {
    return cluster.topology.regions[index(cluster.region_of(rank))].name;
  };
  return Status(StatusCode::kUnsupported,
                fmt::format("no direct [[wan]] link from region {} to region {}, over which {} would send to {}: state "
                            "the link in {}, or force an algorithm that does not need it",
                            region(from), region(to), cluster.describe(from), cluster.describe(to),
                            cluster.topology.source.empty() ? "the topology" : cluster.topology.source));
}

double maximum(std::span<const double> values) {
  return values.empty() ? 0 : *std::max_element(values.begin(), values.end());
}

/// Builds a Profile stage by stage.
class Profiler {
 public:
  Profiler(const Network& network, const CostParameters& parameters)
      : network_(network),
        parameters_(parameters),
        ranks_(network.cluster().size()),
        loads_(network.size()),
        totals_(network.size()),
        busy_(index(ranks_)),
        busy_total_(index(ranks_), 0),
        copied_(index(ranks_)),
        copied_total_(index(ranks_), 0),
        received_(index(ranks_), 0) {
    profile_.smallest_piece = std::numeric_limits<double>::infinity();
  }

  Status add(const spi::Stage& stage) {
    hops_.clear();
    longest_hop_ = 0;
    std::fill(busy_.begin(), busy_.end(), 0.0);
    std::fill(copied_.begin(), copied_.end(), 0.0);
    const bool chain = is_chain(stage, ranks_);
    for (const spi::StageFlow& flow : stage.flows)
      LONGSPAN_TRY(add(flow, stage.chained && !chain ? stage.rounds : 1, stage.chained));

    StageProfile made;
    made.name = stage.name;
    made.loads = loads_.take();
    made.reduce_share = stage.reduce_share;
    made.latency_seconds =
        stage.chained ? longest_walk(hops_, &Hop::seconds, ranks_, stage.rounds) : longest_hop_ * stage.rounds;
    if (chain) made.walk_seconds_per_byte = longest_walk(hops_, &Hop::seconds_per_byte, ranks_, stage.rounds);
    made.message_seconds = maximum(busy_);
    made.copy_share = maximum(copied_);
    for (std::size_t rank = 0; rank < busy_.size(); ++rank) {
      busy_total_[rank] += busy_[rank];
      copied_total_[rank] += copied_[rank];
    }
    profile_.reduce_share += stage.reduce_share;
    for (const Load& load : made.loads) totals_.add(load.resource, load.share);
    profile_.stages.push_back(std::move(made));
    return {};
  }

  Profile take() {
    profile_.loads = totals_.take();
    profile_.message_seconds = maximum(busy_total_);
    profile_.copy_share = maximum(copied_total_);
    profile_.received_share = maximum(received_);
    if (profile_.smallest_piece == std::numeric_limits<double>::infinity()) profile_.smallest_piece = 0;
    return std::move(profile_);
  }

 private:
  Status add(const spi::StageFlow& flow, double messages, bool chained) {
    const Network::Path path = network_.path(flow.from, flow.to);
    if (!path.reachable) return no_direct_link(network_.cluster(), flow.from, flow.to);
    for (std::uint32_t i = 0; i < path.count; ++i) loads_.add(path.resources[i], flow.share);
    const double per_message = parameters_.message_seconds[static_cast<std::size_t>(path.tier)];
    // Half on each side: a rank that sends and receives one message at a time is busy for one message time per round.
    busy_[index(flow.from)] += messages * per_message / 2;
    busy_[index(flow.to)] += messages * per_message / 2;
    received_[index(flow.to)] += flow.share;
    if (path.tier == Tier::kHost) {  // memory is moved by the ranks' own cores: one copies in, the other out
      copied_[index(flow.from)] += flow.share;
      copied_[index(flow.to)] += flow.share;
    }
    const double hop = path.latency_seconds + per_message;
    longest_hop_ = std::max(longest_hop_, hop);
    if (chained) {
      double slowest = 0;
      for (std::uint32_t i = 0; i < path.count; ++i)
        slowest = std::max(slowest, flow.share / network_.capacity(path.resources[i]));
      hops_.push_back({flow.from, flow.to, hop, slowest});
    }
    if (flow.share > 0) profile_.smallest_piece = std::min(profile_.smallest_piece, flow.share / messages);
    if (path.wan >= 0) {
      const double rtt = path.latency_seconds + network_.path(flow.to, flow.from).latency_seconds;
      profile_.longest_rtt = std::max(profile_.longest_rtt, rtt);
      for (const int rank : {flow.from, flow.to}) {
        if (profile_.not_a_gateway < 0 && !network_.cluster().gateway(rank)) profile_.not_a_gateway = rank;
      }
    }
    return {};
  }

  const Network& network_;
  const CostParameters& parameters_;
  int ranks_;
  Profile profile_;
  LoadTable loads_, totals_;
  std::vector<double> busy_, busy_total_, copied_, copied_total_, received_;
  std::vector<Hop> hops_;
  double longest_hop_ = 0;
};

struct Busiest {
  double seconds = 0;
  double local_seconds = 0;    ///< of the busiest that is no WAN link
  std::int64_t resource = -1;  ///< -1: the ranks themselves (messages and reductions)
};

/// `Of`: a StageProfile or a whole Profile. A rank's messages, copies and reductions share its core: they add up.
template <typename Of>
Busiest busiest_of(const Network& network, const Of& profile, const CostParameters& parameters, double chunk_bytes) {
  Busiest found{profile.message_seconds + profile.reduce_share * chunk_bytes / parameters.reduce_bytes_per_second +
                    profile.copy_share * chunk_bytes / parameters.copy_bytes_per_second,
                0, -1};
  found.local_seconds = found.seconds;
  for (const Load& load : profile.loads) {
    const double seconds = load.share * chunk_bytes / network.capacity(load.resource);
    if (network.kind(load.resource) != ResourceKind::kWan) found.local_seconds = std::max(found.local_seconds, seconds);
    if (seconds <= found.seconds) continue;
    found.seconds = seconds;
    found.resource = load.resource;
  }
  return found;
}

Busiest busiest(const Network& network, const StageProfile& stage, const CostParameters& parameters,
                double chunk_bytes) {
  Busiest found = busiest_of(network, stage, parameters, chunk_bytes);
  found.seconds = std::max(found.seconds, stage.walk_seconds_per_byte * chunk_bytes);
  return found;
}

double max_wan_rate(const Network& network) {
  double fastest = 0;
  for (std::size_t w = 0; w < network.cluster().topology.wan.size(); ++w)
    fastest = std::max(fastest, network.wan_budget(w));
  return fastest;
}

}  // namespace

Result<Profile> make_profile(const Network& network, std::span<const spi::Stage> stages,
                             const CostParameters& parameters) {
  Profiler profiler(network, parameters);
  for (const spi::Stage& stage : stages) LONGSPAN_TRY(profiler.add(stage));
  return profiler.take();
}

Price price(const Network& network, const Profile& profile, const CostParameters& parameters, double block_bytes,
            std::uint32_t chunks) {
  const double chunk_bytes = block_bytes / chunks;
  Price made;
  for (const StageProfile& stage : profile.stages) {
    made.first_chunk_seconds += busiest(network, stage, parameters, chunk_bytes).seconds + stage.latency_seconds;
  }
  const Busiest overall = busiest_of(network, profile, parameters, chunk_bytes);
  made.interval_seconds = overall.seconds;
  made.local_seconds = overall.local_seconds * chunks;
  made.seconds = made.first_chunk_seconds + (chunks - 1) * made.interval_seconds;
  return made;
}

std::uint32_t best_chunks(const Network& network, const Profile& profile, const CostParameters& parameters,
                          double block_bytes, bool chunkable) {
  if (!chunkable || profile.smallest_piece <= 0) return 1;
  const double smallest = static_cast<double>(parameters.min_piece_bytes);
  const bool one_host = std::all_of(profile.loads.begin(), profile.loads.end(), [&](const Load& load) {
    return network.kind(load.resource) == ResourceKind::kMemory;
  });
  const double largest = static_cast<double>(one_host ? parameters.max_host_chunk_bytes : parameters.max_chunk_bytes);
  const auto seconds_of = [&](std::uint32_t chunks) {
    return price(network, profile, parameters, block_bytes, chunks).seconds;
  };
  const auto too_large = [&](std::uint32_t chunks) { return block_bytes / chunks > largest; };
  std::uint32_t most = 1;
  double least = seconds_of(1);
  while (profile.smallest_piece * block_bytes / (2.0 * most) >= smallest &&
         (most < parameters.max_chunks || too_large(most))) {
    most *= 2;
    least = std::min(least, seconds_of(most));
  }
  std::uint32_t best = 1;
  while (best < most && (too_large(best) || seconds_of(best) > least * (1 + parameters.chunking_gain))) best *= 2;
  return best;
}

std::uint32_t window_for(const Network& network, const Profile& profile, const CostParameters& parameters,
                         double block_bytes, std::uint32_t chunks) {
  const Price priced = price(network, profile, parameters, block_bytes, chunks);
  if (chunks == 1 || priced.interval_seconds <= 0) return chunks;
  const double chunk_bytes = block_bytes / chunks;
  const double turnaround = profile.longest_rtt + priced.first_chunk_seconds;
  double wanted = parameters.window_margin * turnaround / priced.interval_seconds + 1;
  // A window may always hold twice what is under way on the fastest WAN link; the rest is bounded by the scratch limit.
  const double needed_bytes = 2 * max_wan_rate(network) * profile.longest_rtt;
  const double limit = (static_cast<double>(parameters.scratch_bytes) + needed_bytes) /
                       std::max(chunk_bytes * profile.received_share, 1.0);
  wanted = std::max(std::min(wanted, limit), static_cast<double>(parameters.min_window));
  return wanted >= chunks ? chunks : static_cast<std::uint32_t>(wanted);
}

std::vector<PhaseCost> phase_costs(const Network& network, const Profile& profile, const CostParameters& parameters,
                                   double block_bytes, std::uint32_t chunks) {
  std::vector<PhaseCost> costs;
  for (const StageProfile& stage : profile.stages) {
    const Busiest found = busiest(network, stage, parameters, block_bytes / chunks);
    const bool rank_bound = found.resource < 0;
    costs.push_back({stage.name, found.seconds, stage.latency_seconds,
                     rank_bound ? std::string("ranks (messages, reduction)")
                                : network.name(static_cast<std::uint32_t>(found.resource))});
  }
  return costs;
}

std::vector<LinkLoad> link_loads(const Network& network, const Profile& profile, double block_bytes) {
  std::vector<LinkLoad> loads;
  for (const Load& load : profile.loads) {
    if (load.share <= 0) continue;
    const double stated = network.stated(load.resource);
    const double bytes = load.share * block_bytes;
    loads.push_back({network.name(load.resource), bytes, stated > 0 ? bytes / stated : 0});
  }
  // To the nanosecond: links that differ by a rounding error keep the topology's order.
  return sorted_by(std::move(loads), [](const LinkLoad& load) { return -std::round(load.seconds * 1e9); });
}

}  // namespace longspan::planner
