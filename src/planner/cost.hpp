#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "longspan/plan.hpp"
#include "longspan/spi/algorithm.hpp"
#include "longspan/status.hpp"
#include "planner/cost_parameters.hpp"
#include "planner/network.hpp"

namespace longspan::planner {

/// What a stage puts on a resource, in blocks.
struct Load {
  std::uint32_t resource = 0;
  double share = 0;
};

/// A stage without its flows: all that its price depends on, for every size.
struct StageProfile {
  std::string name;
  std::vector<Load> loads;
  double latency_seconds = 0;  ///< of its rounds, incl. per-message time
  double message_seconds = 0;  ///< per chunk, of the rank with the most messages
  double reduce_share = 0;
  double copy_share = 0;  ///< in blocks, of the rank that copies most to and from peers in its host
  /// A chain of ranks that each pass on what they got: one chunk takes the sum of the hops, per byte of a block.
  double walk_seconds_per_byte = 0;
};

/// A candidate without its flows.
struct Profile {
  std::vector<StageProfile> stages;
  std::vector<Load> loads;     ///< summed over the stages: the same NIC carries reduce-scatter, WAN and allgather
  double message_seconds = 0;  ///< per chunk, summed over the stages, of the busiest rank
  double reduce_share = 0;     ///< summed over the stages
  double copy_share = 0;       ///< summed over the stages, of the rank that copies most
  double smallest_piece = 0;   ///< share of the smallest message; 0: no bytes at all
  double received_share = 0;   ///< of the rank that receives most: no rank needs more scratch
  double longest_rtt = 0;      ///< of the WAN flows
  int not_a_gateway = -1;      ///< the first rank whose host is no gateway and that still sends or receives across
};

/// Sums up an algorithm's stages. kUnsupported, naming the two regions, when a flow needs a WAN link that does not
/// exist.
Result<Profile> make_profile(const Network& network, std::span<const spi::Stage> stages,
                             const CostParameters& parameters);

/// T = sum of the stages' chunk times and latencies + (K - 1) x the time of the busiest resource, which is charged with
/// what all stages put on it.
struct Price {
  double seconds = 0;
  double first_chunk_seconds = 0;  ///< through all stages
  double interval_seconds = 0;     ///< from one chunk to the next: the busiest resource
  double local_seconds = 0;        ///< all chunks, of the busiest resource that is no WAN link
};
Price price(const Network& network, const Profile& profile, const CostParameters& parameters, double block_bytes,
            std::uint32_t chunks);

/// The fewest chunks, a power of two, whose price is as good as the least; 1 where not `chunkable`.
std::uint32_t best_chunks(const Network& network, const Profile& profile, const CostParameters& parameters,
                          double block_bytes, bool chunkable);

/// Chunks in flight so that the busiest resource (the WAN, when there is one) never idles, within the scratch limit.
std::uint32_t window_for(const Network& network, const Profile& profile, const CostParameters& parameters,
                         double block_bytes, std::uint32_t chunks);

/// The parts of the price, for people.
std::vector<PhaseCost> phase_costs(const Network& network, const Profile& profile, const CostParameters& parameters,
                                   double block_bytes, std::uint32_t chunks);
/// Bytes on every link that the candidate uses, the slowest first; links without a stated capacity last.
std::vector<LinkLoad> link_loads(const Network& network, const Profile& profile, double block_bytes);

}  // namespace longspan::planner
