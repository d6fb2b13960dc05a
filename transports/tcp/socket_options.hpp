#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>

/// Every setsockopt and TCP_INFO of the transport.
namespace longspan::tcp {

/// What TCP_INFO says of one connection.
struct LaneInfo {
  std::uint32_t mss = 0;
  std::uint64_t congestion_window_bytes = 0;
  std::chrono::nanoseconds rtt{0};
  std::chrono::nanoseconds min_rtt{0};
  std::uint64_t retransmits = 0;
  double delivery_rate_bytes_per_second = 0;
  std::uint64_t packets_sent = 0;
  std::uint64_t spurious_retransmits = 0;    ///< the peer had those packets already
  std::uint64_t delivered_packet_bytes = 0;  ///< acknowledged, headers of IP and TCP included
  std::uint64_t arrived_packet_bytes = 0;    ///< in order, headers included
  std::uint64_t arrived_packets = 0;         ///< with data
  std::uint64_t unsent_bytes = 0;
};
LaneInfo lane_info(int fd);

/// Bytes that the kernel still holds: unsent or unacknowledged. 0 when the connection is gone.
std::uint64_t unacknowledged_bytes(int fd);

/// Bytes that the peer's kernel has acknowledged on this connection.
std::uint64_t acknowledged_bytes(int fd);

/// The kernel takes at most about this many bytes that it cannot send yet; the rest stays ours, so that lanes that
/// are fast can have it.
void set_unsent_limit(int fd, std::size_t bytes);
/// The congestion control named `name`, when this kernel has it; false otherwise.
bool set_congestion_control(int fd, const std::string& name);
bool can_use_congestion_control(const std::string& name);
/// A connection under BBR forgets its model of the path, except the least RTT and its congestion window. False: it is
/// repairing a loss now, try again.
bool restart_congestion_control(int fd);
/// Ends a connection whose other side is silent, a few seconds after it should have answered, so that it can be
/// replaced well within `patience`; asks an idle one whether it is there (which also keeps NATs from forgetting it).
void set_silence_limit(int fd, std::chrono::milliseconds patience, std::chrono::nanoseconds rtt);
/// Room for `window_bytes` in flight. Autotuning stays on where its limit suffices, since a fixed size ends it.
void set_send_window(int fd, std::size_t window_bytes);
void set_receive_window(int fd, std::size_t window_bytes);
/// For tests, instead of what this kernel allows: how far buffers may grow, by the file in /proc/sys that says so.
struct KernelLimits {
  std::function<std::size_t(const std::string& path)> read;
  bool may_force = true;  ///< as root may
};
/// Also forgets what was warned of; {} ends it.
void set_kernel_limits(KernelLimits limits);
/// Paces to this connection's share of `ip_bytes_per_second`; 0 ends pacing.
void set_pacing(int fd, double ip_bytes_per_second);

}  // namespace longspan::tcp
