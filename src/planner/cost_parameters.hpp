#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "longspan/types.hpp"

namespace longspan::planner {

/// What the cost model assumes where the topology says nothing. Used to rank candidates and to predict; bounds never
/// use them. All ranks must hold the same values (they are part of the plan's digest).
struct CostParameters {
  double nic_bytes_per_second = 10e9 / 8;     ///< of a host whose nic is not stated; 10 Gbit/s
  double host_memory_bytes_per_second = 24e9;  ///< what all ranks of a host move between them, together
  double reduce_bytes_per_second = 12e9;       ///< operand bytes that one rank reduces
  double copy_bytes_per_second = 30e9;         ///< what one rank copies to and from its peers in the host

  /// Seconds from one rank's send to the other's continuation, beyond latency and bytes / rate: system calls, wake-ups.
  /// By tier: self, host, rack, site, region, WAN.
  std::array<double, kTierCount> message_seconds{0, 2e-6, 25e-6, 25e-6, 25e-6, 30e-6};

  /// What is left of a link for payload after IP and TCP headers (MTU 9000: 0.994; MTU 1500: 0.965).
  double payload_fraction = 0.99;
  /// Share of a WAN link that all flows together may use: a queue that is never full drops nothing. Deep buffers (at
  /// least half the link's rate x RTT or this many seconds of its rate, or not stated) absorb the jitter of many
  /// senders; those in between, in proportion to their depth, some of it.
  double deep_buffer_seconds = 0.05;
  double deep_buffer_margin = 0.99;
  double shallow_buffer_margin = 0.97;

  double window_headroom = 1.25;           ///< window = rate x RTT x this
  double lane_bytes_per_second = 5e9 / 8;  ///< one WAN connection is asked for no more
  double fast_nic_bytes_per_second =
      25e9 / 8;  ///< from here on two connections per LAN peer: one core no longer fills it
  int max_lanes = 8;

  std::uint32_t max_chunks = 256;  ///< a power of two; more only where chunks would be larger than max_chunk_bytes
  std::size_t max_chunk_bytes = std::size_t{8} << 20;
  /// Inside one host no chunk is larger: what one phase wrote is still in the cache when the next one reads it.
  std::size_t max_host_chunk_bytes = std::size_t{2} << 20;
  std::size_t min_piece_bytes = std::size_t{64} << 10;  ///< a message of a cut collective is no smaller
  /// The fewest chunks whose time is within this share of the best: fewer messages at equal speed.
  double chunking_gain = 0.005;
  /// Candidates whose times differ by less than this share of the time that the busiest resource needs count as equal
  /// (the model is no better than that); the one that keeps hosts less busy is taken.
  double tie = 0.01;
  std::uint32_t min_window = 4;                       ///< chunks in flight
  double window_margin = 2;                           ///< chunks in flight cover (RTT + stages) this many times
  std::size_t scratch_bytes = std::size_t{64} << 20;  ///< per rank and collective, beyond what rate x RTT needs

  /// Candidates with more flows than this are skipped while another is offered: pricing them would take longer than
  /// DESIGN's promise for planning, and a rank with that many peers pays for each message anyway.
  std::size_t max_flows = 300'000;
  /// Beyond this even the last candidate is taken without a price.
  std::size_t max_priced_flows = 4'000'000;
};

}  // namespace longspan::planner
