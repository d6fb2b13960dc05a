#pragma once

#include <span>
#include <vector>

#include "longspan/plan.hpp"
#include "longspan/spi/algorithm.hpp"
#include "planner/cost_parameters.hpp"
#include "planner/network.hpp"

namespace longspan::planner {

/// How a candidate's flows divide the WAN links: each flow gets the link's budget in proportion to its bytes, so that
/// all flows of a link end together and their rates add up to no more than the budget; less where a NIC or an uplink
/// would have to carry more than it can.
class RateTable {
 public:
  /// Keeps a reference to `network`. All flows must be reachable.
  RateTable(const Network& network, std::span<const spi::Stage> stages, const CostParameters& parameters);

  /// Bytes of IP packets per second for what `from` sends `to` (`share`: over the whole collective, in blocks);
  /// 0 inside a region, where nothing is paced.
  double rate(int from, int to, double share) const;

  /// How `rank` uses its channel; a direction in which nothing goes has no rate.
  ChannelPlan channel(int rank, const ScheduleChannel& channel) const;

 private:
  double fair_rate(const Network::Path& path, double share) const;
  int lanes(Tier tier, double rate, double rtt, double loss, double nic) const;

  const Network* network_;
  CostParameters parameters_;
  std::vector<double> link_share_;  ///< per WAN link: blocks that all flows carry
  std::vector<double> link_flows_;  ///< per WAN link: flows, for collectives without bytes
  std::vector<double> scale_;       ///< per resource: <= 1
};

}  // namespace longspan::planner
