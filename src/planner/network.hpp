#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "longspan/topology.hpp"
#include "planner/cost_parameters.hpp"

namespace longspan::planner {

/// What flows compete for. "Out" is what all inside send, "in" what they receive.
enum class ResourceKind : std::uint8_t {
  kMemory,
  kNicOut,
  kNicIn,
  kRackOut,
  kRackIn,
  kSiteOut,
  kSiteIn,
  kRegionOut,
  kRegionIn,
  kWan,
};

/// The resources of a cluster, numbered densely, and which of them a flow between two ranks uses. Pure data.
class Network {
 public:
  /// The longest path: a NIC and three uplinks on each side, and a WAN link.
  static constexpr std::size_t kMaxPath = 9;
  struct Path {
    std::array<std::uint32_t, kMaxPath> resources{};
    std::uint32_t count = 0;
    std::int32_t wan = -1;  ///< index into Topology::wan, -1 inside a region
    bool reachable = true;  ///< false: the regions have no direct link
    Tier tier = Tier::kSelf;
    double latency_seconds = 0;  ///< as Cluster::latency
  };

  /// Keeps a reference to `cluster`.
  Network(const Cluster& cluster, const CostParameters& parameters);

  std::size_t size() const noexcept { return capacities_.size(); }
  /// Payload bytes per second that plans may use, assumed where the topology does not state it.
  double capacity(std::uint32_t resource) const { return capacities_[resource]; }
  /// As the topology states it; 0: not stated.
  double stated(std::uint32_t resource) const { return stated_[resource]; }
  ResourceKind kind(std::uint32_t resource) const;
  /// "wan eu->us", "nic eu-1 out", "rack ams-r1 in", "memory eu-1".
  std::string name(std::uint32_t resource) const;

  Path path(int from_rank, int to_rank) const;
  double rtt(int a, int b) const { return path(a, b).latency_seconds + path(b, a).latency_seconds; }

  /// Margin x stated capacity of a WAN link: what its flows may send together, in bytes of IP packets.
  double wan_budget(std::size_t wan) const { return wan_budgets_[wan]; }
  std::uint32_t wan_resource(std::size_t wan) const { return static_cast<std::uint32_t>(first_[9] + wan); }
  const Cluster& cluster() const noexcept { return *cluster_; }

 private:
  std::uint32_t id(ResourceKind kind, int index) const {
    return static_cast<std::uint32_t>(first_[static_cast<std::size_t>(kind)] + static_cast<std::size_t>(index));
  }
  void add(double stated, double assumed);
  void add_groups(const std::vector<Group>& groups, std::size_t kind);
  void cross(Path& path, const std::vector<Group>& groups, ResourceKind out, int from, int to) const;

  const Cluster* cluster_;
  double payload_fraction_;
  std::array<std::size_t, 10> first_{};  ///< first id of each kind
  std::vector<double> capacities_;
  std::vector<double> stated_;
  std::vector<double> wan_budgets_;
  std::vector<std::int32_t> wan_index_;  ///< [from region * regions + to region]
};

}  // namespace longspan::planner
