#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "longspan/export.hpp"
#include "longspan/status.hpp"
#include "longspan/types.hpp"

namespace longspan {

/// Settings of a communicator. A field that is left empty comes from the environment (LONGSPAN_*), then from defaults.
struct Options {
  std::optional<std::string> topology_file;            ///< LONGSPAN_TOPOLOGY; rank 0's is used everywhere
  std::optional<std::string> topology_text;            ///< instead of a file
  std::optional<std::string> host;                     ///< LONGSPAN_HOST: which [[host]] this rank is on
  std::optional<std::string> algorithm;                ///< LONGSPAN_ALGORITHM: force "name" or "name:variant"
  std::optional<std::vector<std::string>> transports;  ///< LONGSPAN_TRANSPORTS: allow these only
  std::optional<std::chrono::nanoseconds> timeout;     ///< LONGSPAN_TIMEOUT: deadline of every operation; 5 min
  std::optional<std::string> log_level;                ///< LONGSPAN_LOG
  /// LONGSPAN_PORT_RANGE: first and last port to listen on.
  std::optional<std::pair<std::uint16_t, std::uint16_t>> ports;
  /// LONGSPAN_NICS: IP addresses of this host's cards to use together.
  std::optional<std::vector<std::string>> nics;
  /// LONGSPAN_RDMA: "device=mlx5_0,port=1,gid=3,tc=106,...", each optional.
  std::optional<std::string> rdma;
  /// LONGSPAN_CONGESTION_CONTROL: instead of the choice for each path.
  std::optional<std::string> congestion_control;
  std::optional<std::string> key;                      ///< LONGSPAN_KEY: every connection of the job proves it
  std::optional<std::string> key_file;                 ///< LONGSPAN_KEY_FILE: the same, from a file
  /// LONGSPAN_ENCRYPT: what is encrypted where there is a key; kWan.
  std::optional<Encryption> encryption;
  /// LONGSPAN_ADVERTISE: IP address that others dial; "none": they cannot.
  std::optional<std::string> advertise;
};

/// `options` with every empty field filled from the environment or the default. Errors name the variable, what was
/// found and what was expected; unknown LONGSPAN_* variables are a warning with the nearest name.
LONGSPAN_API Result<Options> resolve(const Options& options);

/// One line per setting: name, environment variable, default, meaning; what `longspan info` prints.
LONGSPAN_API std::string describe_options();

}  // namespace longspan
