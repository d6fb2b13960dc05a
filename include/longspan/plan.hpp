#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "longspan/schedule.hpp"

namespace longspan {

/// The least time that the topology allows, and what sets it. `seconds` < 0: not known (no stated capacity binds).
struct Bound {
  double seconds = -1;
  std::string cut;  ///< "region eu out: 1 Gbit/s", "routing over 3 regions", "latency eu-1 -> us-1", ...
};

/// The predicted time of one stage for a single chunk and for the whole, and the link that sets it.
struct PhaseCost {
  std::string name;
  double chunk_seconds = 0;    ///< one chunk, without latency
  double latency_seconds = 0;  ///< paid once, however many chunks follow
  std::string bottleneck;      ///< "wan eu->us", "nic eu-1 out", ...
};

/// Bytes that a plan moves over a link, for the size it was made for.
struct LinkLoad {
  std::string link;
  double bytes = 0;
  double seconds = 0;  ///< bytes / capacity; 0 where the capacity is not stated
};

/// How a rank uses the way to one peer; indices as Schedule::channels.
struct ChannelPlan {
  double rate_bytes_per_second = 0;  ///< this flow's share of the WAN link, bytes of IP packets; 0: unpaced
  std::size_t window_bytes = 0;      ///< >= rate x RTT; 0: the system's default
  int lanes = 1;                     ///< connections to stripe over
  double rtt_seconds = 0;
  double loss = 0;
};

/// What all ranks must choose alike: a pure function of (cluster, options, shape, size bucket).
struct Decision {
  CollectiveShape shape;
  std::string algorithm;  ///< registry name
  std::string variant;    ///< "" when the algorithm has one
  std::uint32_t chunks = 1;
  std::uint32_t window = 1;  ///< chunks in flight; also the number of scratch slots
  double predicted_seconds = 0;
  std::uint64_t digest = 0;  ///< of everything above and the planning context

  /// "hierarchical:one-shot".
  std::string full_name() const { return variant.empty() ? algorithm : algorithm + ":" + variant; }
};

/// A candidate that was not chosen, and why.
struct Rejected {
  std::string name;
  double predicted_seconds = -1;  ///< < 0: not offered
  std::string reason;
};

/// One rank's plan: schedule, chunking, and how each channel is used.
struct Plan {
  Decision decision;
  Schedule schedule;
  std::vector<ChannelPlan> channels;
};

}  // namespace longspan
