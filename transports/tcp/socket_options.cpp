#include "tcp/socket_options.hpp"

#include <linux/sockios.h>
#include <linux/tcp.h>  // not <netinet/tcp.h>: its tcp_info ends before the delivery rate
#include <netinet/in.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <memory>
#include <string_view>

#include "base/fd.hpp"
#include "base/log.hpp"
#include "base/sockets.hpp"

namespace longspan::tcp {
namespace {

template <class T>
bool set_option(int fd, int level, int option, const T& value) noexcept {
  return ::setsockopt(fd, level, option, &value, sizeof value) == 0;
}

/// Around each segment: 20 bytes of IPv4, 20 of TCP, 12 of timestamps. IPv6 has 20 more, 1.4 % of a packet of 1500
/// bytes.
constexpr std::uint64_t kHeaderBytes = 52;

/// The last number in a file of /proc/sys: how far autotuning, or an application, may go in this network namespace.
std::size_t last_number(const char* path) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path, "re"), &std::fclose);
  unsigned long number = 0;
  while (file != nullptr && std::fscanf(file.get(), "%lu", &number) == 1) {
  }
  return number;
}

struct BufferKind {
  const char* tcp_path;
  const char* tcp_sysctl;
  const char* core_path;
  int option;
  int force_option;
  std::atomic<bool>* warned;
};

std::atomic<bool> warned_of_send_window{false};
std::atomic<bool> warned_of_receive_window{false};
KernelLimits limits_for_tests;

std::size_t limit_in(const char* path) {
  return limits_for_tests.read ? limits_for_tests.read(path) : last_number(path);
}

void set_window(int fd, std::size_t window_bytes, const BufferKind& kind) {
  const std::size_t needed = 2 * window_bytes;
  const std::size_t limit = limit_in(kind.tcp_path);
  if (window_bytes == 0 || limit >= needed) return;
  const int half = static_cast<int>(std::min<std::size_t>(needed / 2, std::size_t{1} << 30));  // the kernel doubles it
  if (limits_for_tests.may_force && set_option(fd, SOL_SOCKET, kind.force_option, half)) return;
  // Without CAP_NET_ADMIN the kernel cuts silently to rmem_max or wmem_max. A size fixed below what autotuning may
  // reach would make it worse, so it is fixed only where that suffices.
  if (2 * limit_in(kind.core_path) >= needed && set_option(fd, SOL_SOCKET, kind.option, half)) return;
  if (kind.warned->exchange(true)) return;
  log::warn(
      "tcp: a socket buffer of {} bytes is needed to keep the link full, {} allows {}; as root: sysctl -w {}=\"4096 "
      "131072 {}\"",
      needed, kind.tcp_sysctl, limit, kind.tcp_sysctl, needed);
}

}  // namespace

LaneInfo lane_info(int fd) {
  tcp_info info{};
  socklen_t length = sizeof info;
  LaneInfo result;
  if (::getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) != 0) return result;
  result.mss = info.tcpi_snd_mss;
  result.congestion_window_bytes = std::uint64_t{info.tcpi_snd_cwnd} * info.tcpi_snd_mss;
  result.rtt = std::chrono::microseconds(info.tcpi_rtt);
  result.min_rtt = std::chrono::microseconds(info.tcpi_min_rtt);
  result.retransmits = info.tcpi_total_retrans;
  result.delivery_rate_bytes_per_second = static_cast<double>(info.tcpi_delivery_rate);
  result.packets_sent = info.tcpi_data_segs_out;
  result.spurious_retransmits = info.tcpi_dsack_dups;
  const std::uint64_t mss = std::max<std::uint64_t>(1, info.tcpi_snd_mss);
  result.delivered_packet_bytes = info.tcpi_bytes_acked + info.tcpi_bytes_acked / mss * kHeaderBytes;
  result.arrived_packets = info.tcpi_data_segs_in;
  result.arrived_packet_bytes = info.tcpi_bytes_received + result.arrived_packets * kHeaderBytes;
  result.unsent_bytes = info.tcpi_notsent_bytes;
  return result;
}

std::uint64_t unacknowledged_bytes(int fd) {
  int bytes = 0;
  return ::ioctl(fd, SIOCOUTQ, &bytes) == 0 && bytes > 0 ? static_cast<std::uint64_t>(bytes) : 0;
}

std::uint64_t acknowledged_bytes(int fd) {
  tcp_info info{};
  socklen_t length = sizeof info;
  return ::getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) == 0 ? info.tcpi_bytes_acked : 0;
}

void set_unsent_limit(int fd, std::size_t bytes) {
  set_option(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, static_cast<unsigned>(bytes));
}

bool set_congestion_control(int fd, const std::string& name) {
  return ::setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name.data(), static_cast<socklen_t>(name.size())) == 0;
}

bool can_use_congestion_control(const std::string& name) {
  const Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  return fd.valid() && set_congestion_control(fd.get(), name);
}

bool restart_congestion_control(int fd) {
  std::array<char, 16> name{};  // TCP_CA_NAME_MAX
  socklen_t length = name.size();
  if (::getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name.data(), &length) != 0 ||
      std::string_view(name.data()) != "bbr") {
    return true;
  }
  tcp_info info{};
  length = sizeof info;
  if (::getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) != 0 || info.tcpi_ca_state != TCP_CA_Open) return false;
  // Setting what is set already does nothing; reno is in every kernel and allowed to everybody.
  return !set_congestion_control(fd, "reno") || set_congestion_control(fd, "bbr");
}

void set_silence_limit(int fd, std::chrono::milliseconds patience, std::chrono::nanoseconds rtt) {
  using std::chrono::milliseconds;
  using std::chrono::seconds;
  const milliseconds shortest = std::max<milliseconds>(milliseconds(1000), std::chrono::ceil<milliseconds>(8 * rtt));
  const milliseconds limit = std::max(shortest, std::min(patience / 3, milliseconds(10'000)));
  set_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, static_cast<unsigned>(limit.count()));
  const auto at_least_one = [](seconds some) { return std::max(seconds(1), some); };
  const seconds whole = std::chrono::floor<seconds>(limit);
  set_keepalive(fd, at_least_one(whole / 2), at_least_one(whole / 5), 5);
}

void set_kernel_limits(KernelLimits limits) {
  limits_for_tests = std::move(limits);
  warned_of_send_window = warned_of_receive_window = false;
}

void set_send_window(int fd, std::size_t window_bytes) {
  set_window(fd, window_bytes,
             {"/proc/sys/net/ipv4/tcp_wmem", "net.ipv4.tcp_wmem", "/proc/sys/net/core/wmem_max", SO_SNDBUF,
              SO_SNDBUFFORCE, &warned_of_send_window});
}

void set_receive_window(int fd, std::size_t window_bytes) {
  set_window(fd, window_bytes,
             {"/proc/sys/net/ipv4/tcp_rmem", "net.ipv4.tcp_rmem", "/proc/sys/net/core/rmem_max", SO_RCVBUF,
              SO_RCVBUFFORCE, &warned_of_receive_window});
}

void set_pacing(int fd, double ip_bytes_per_second) {
  if (ip_bytes_per_second <= 0) {
    set_option(fd, SOL_SOCKET, SO_MAX_PACING_RATE, ~std::uint64_t{0});
    return;
  }
  // TCP's own pacing (tcp_update_skb_after_send) counts payload only, while the rate we are given counts whole IP
  // packets: 20 (IPv4) or 40 bytes of IP, 20 of TCP and 12 of timestamps around each segment.
  // A socket for both families that speaks IPv4 has an IPv6 address, too, but local_address() knows better.
  const double headers = (local_address(fd).family() == AF_INET6 ? 40 : 20) + 20 + 12;
  const std::uint32_t mss = lane_info(fd).mss;
  const double payload = mss > 0 ? mss : 1448;
  set_option(fd, SOL_SOCKET, SO_MAX_PACING_RATE,
             static_cast<std::uint64_t>(ip_bytes_per_second * payload / (payload + headers)));
}

}  // namespace longspan::tcp
