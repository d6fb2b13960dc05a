#pragma once

#include <string>

#include "longspan/spi/transport.hpp"

/// What the connections to a peer are: the one place that decides it. Channels use it, `longspan explain` prints it.
namespace longspan::tcp {

/// What this host has for a path.
struct PathMeans {
  std::string forced;            ///< congestion control that was asked for (LONGSPAN_CONGESTION_CONTROL); empty: none
  bool has_forced = false;       ///< this kernel offers it
  bool has_bbr = false;
  std::string system = "cubic";  ///< what the kernel takes by itself
  int default_lanes = 1;
};

/// Asks the kernel.
PathMeans path_means(const spi::EndpointOptions& options);

/// Where the loss comes from, for the reasons.
enum class LossSource : std::uint8_t { kStated, kObserved };

/// Less loss than this is not worth more connections.
inline constexpr double kLossy = 1e-5;

spi::PathChoice choose_path(const spi::ChannelOptions& options, const PathMeans& means,
                            LossSource source = LossSource::kStated);

}  // namespace longspan::tcp
