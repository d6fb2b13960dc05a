#include "hierarchical/blocks.hpp"

#include <algorithm>
#include <map>
#include <unordered_map>

#include "hierarchical/exchange.hpp"

namespace longspan::hierarchical {
namespace {

std::size_t index(int i) { return static_cast<std::size_t>(i); }

const Segment& owner_of(const Partition& partition, Fraction point) {
  return *std::partition_point(partition.begin(), partition.end(),
                               [&](const Segment& s) { return s.span.end <= point; });
}

// Adds up what one region's entries move, level by level.
class SpreadSum {
 public:
  SpreadSum(const BlockRoutes& routes, std::map<Tier, spi::Stage>& stages, std::map<Tier, double>& collected)
      : routes_(routes), stages_(stages), collected_(collected) {}

  void add(int unit_id, const std::vector<Entry>& entries) {
    const Tiers& tiers = routes_.tiers();
    const Unit& unit = tiers.unit(unit_id);
    if (unit.level == Tier::kSelf) return;
    std::unordered_map<int, double> held;
    for (const Entry& entry : entries) held[entry.holder] += entry.span.length();
    double& collected = collected_[unit.level];
    for (const auto& [rank, share] : held) {
      collected = std::max(collected, share * static_cast<double>(unit.children.size()));
    }
    for (const int child : unit.children) {
      if (tiers.unit(child).level == Tier::kSelf) {
        // A single rank gets everything itself, so only how much each sender holds counts.
        for (const auto& [rank, share] : held) add_flow(unit.level, rank, child, share);
      } else {
        descend(unit, child, entries);
      }
    }
  }

 private:
  void add_flow(Tier level, int from, int to, double share) {
    if (from != to) stages_[level].flows.push_back(spi::StageFlow{from, to, share});
  }

  void descend(const Unit& unit, int child, std::vector<Entry> entries) {
    const Tiers& tiers = routes_.tiers();
    std::unordered_map<std::uint64_t, double> flows;
    for (Entry& entry : entries) {
      if (tiers.below(entry.holder, unit.level) == child) continue;
      const int to = routes_.delegate(tiers.unit(child), unit.level, entry.holder, entry.block);
      flows[(static_cast<std::uint64_t>(entry.holder) << 32) | static_cast<std::uint32_t>(to)] += entry.span.length();
      entry.holder = to;
    }
    for (const auto& [pair, share] : flows) {
      add_flow(unit.level, static_cast<int>(pair >> 32), static_cast<int>(pair & 0xffffffffU), share);
    }
    add(child, entries);
  }

  const BlockRoutes& routes_;
  std::map<Tier, spi::Stage>& stages_;
  std::map<Tier, double>& collected_;
};

}  // namespace

BlockRoutes::BlockRoutes(const Tiers& tiers, bool whole_blocks) : tiers_(tiers), whole_blocks_(whole_blocks) {
  for (int g = 0; g < static_cast<int>(tiers.regions().size()); ++g) {
    const std::vector<int>& ranks = tiers.region(g).ranks;
    position_.resize(std::max(position_.size(), index(ranks.back()) + 1));
    carriers_.resize(position_.size());
    for (std::size_t i = 0; i < ranks.size(); ++i) {
      const int rank = ranks[i];
      position_[index(rank)] = static_cast<int>(i);
      relays_ = relays_ || !tiers.carries(rank);
      if (tiers.carries(rank)) {
        carriers_[index(rank)] = whole(rank);
      } else {
        carriers_[index(rank)] =
            whole_blocks ? whole(tiers.gateways(g)[i % tiers.gateways(g).size()]) : tiers.gateway_shares(g);
      }
    }
  }
}

const Partition& BlockRoutes::carriers(int block) const { return carriers_[index(block)]; }

Partition BlockRoutes::landing(int block, int region) const {
  if (tiers_.region_of(block) == region) return whole(block);
  const auto i = static_cast<std::uint64_t>(position(block));
  const std::uint64_t count = tiers_.region(tiers_.region_of(block)).ranks.size();
  const Partition& shares = tiers_.gateway_shares(region);
  if (whole_blocks_) return whole(owner_of(shares, Fraction{2 * i + 1, 2 * count}).rank);
  Partition partition;
  const Fraction begin{i, count};
  const Fraction end{i + 1, count};
  auto it = std::partition_point(shares.begin(), shares.end(), [&](const Segment& s) { return s.span.end <= begin; });
  for (; it != shares.end() && it->span.begin < end; ++it) {
    const Interval part = zoom(it->span, i, count);
    if (!part.empty()) partition.push_back(Segment{part, it->rank});
  }
  return partition;
}

std::vector<Entry> BlockRoutes::entries(int region) const {
  std::vector<Entry> result;
  for (int block = 0; block < static_cast<int>(position_.size()); ++block) {
    for (const Segment& segment : landing(block, region)) result.push_back(Entry{block, segment.span, segment.rank});
  }
  return result;
}

int BlockRoutes::delegate(const Unit& child, Tier level, int holder, int block) const {
  const std::vector<int>& siblings = tiers_.unit(tiers_.below(holder, level)).ranks;
  const auto at =
      static_cast<std::size_t>(std::lower_bound(siblings.begin(), siblings.end(), holder) - siblings.begin());
  const std::size_t size = child.ranks.size();
  // Where the child has more ranks than the sender's unit, several answer for one position: blocks take turns.
  const std::size_t low = at * size / siblings.size();
  const std::size_t high = std::max(low + 1, (at + 1) * size / siblings.size());
  return child.ranks[low + index(block) % (high - low)];
}

std::vector<spi::Stage> spread_stages(const BlockRoutes& routes, std::vector<double>& collected) {
  const Tiers& tiers = routes.tiers();
  std::map<Tier, spi::Stage> by_level;
  std::map<Tier, double> read;
  SpreadSum sum(routes, by_level, read);
  for (std::size_t g = 0; g < tiers.regions().size(); ++g) {
    sum.add(tiers.regions()[g], routes.entries(static_cast<int>(g)));
  }
  std::vector<spi::Stage> stages;
  for (auto level = tiers.levels().rbegin(); level != tiers.levels().rend(); ++level) {
    stages.push_back(std::move(by_level[*level]));
    collected.push_back(read[*level]);
  }
  return stages;
}

namespace {

// Whether any block lands on, or is carried by, several ranks; if not, "whole" would say the same as "sharded".
bool cuts_blocks(const Cluster& cluster, const Outline& outline) {
  const Tiers tiers(cluster, TierOptions{.flat = true});
  const BlockRoutes routes(tiers, false);
  for (int block = 0; block < cluster.size(); ++block) {
    if (routes.carriers(block).size() > 1 && outline.regions > 1) return true;
    for (int region = 0; region < outline.regions; ++region) {
      if (routes.landing(block, region).size() > 1) return true;
    }
  }
  return false;
}

}  // namespace

std::vector<std::string> block_variants(const CollectiveShape&, const Cluster& cluster) {
  const Outline outline = outline_of(cluster);
  const bool flat = outline.layered && outline.largest_region <= kLargestFlatRegion;
  std::vector<std::string> names{"sharded"};
  if (flat) names.push_back("sharded-flat");
  if (cuts_blocks(cluster, outline)) {
    names.push_back("whole");
    if (flat) names.push_back("whole-flat");
  }
  return names;
}

TierOptions block_options(const Request& request) {
  TierOptions options;
  options.flat = request.variant.ends_with("flat");
  return options;
}

std::size_t block_flows(const Request& request) {
  const TierOptions options = block_options(request);
  return inner_flows(request.cluster, options) + outer_flows(request.cluster, options);
}

}  // namespace longspan::hierarchical
