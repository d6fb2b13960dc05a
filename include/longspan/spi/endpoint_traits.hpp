#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "longspan/types.hpp"

namespace longspan::spi {

/// What carries an endpoint's bytes, the best first.
enum class Medium : std::uint8_t {
  kMemory,  ///< the host's own memory
  kDevice,  ///< links between accelerators (NVLink, PCIe)
  kRdma,    ///< network cards that read and write registered memory
  kIp,      ///< sockets
};
inline constexpr int kMediumCount = 4;

/// What an open endpoint is, as this host has it: the bootstrap tells every rank, and both ends of a pair choose their
/// transport from it (src/planner/transport_choice). Data, so that both ends compute the same.
struct EndpointTraits {
  Medium medium = Medium::kIp;
  /// Endpoints of one transport reach each other only where both names are equal, or one is empty: an InfiniBand
  /// subnet, an NVLink domain.
  std::string fabric;
  double rate_bytes_per_second = 0;     ///< per direction, as its device states it; 0: not known
  std::chrono::nanoseconds latency{0};  ///< of a small message to a neighbour, software included; 0: not known
  /// The farthest tier that it joins by itself; farther only where both ranks name it in LONGSPAN_TRANSPORTS. Where the
  /// transport's capabilities say host_local it is kHost, where they say wide_area kWan, whatever stands here.
  Tier reach = Tier::kSite;
  /// Among equals the lower one is taken: a general layer (UCX) stands behind the transport made for its medium; one
  /// that does more than another on top of it (CUDA IPC, on shared memory) before it, below 0; `detail` says what.
  int preference = 0;
  std::string detail;  ///< for people: "mlx5_0 port 1, RoCEv2, MTU 4096"
};

}  // namespace longspan::spi
