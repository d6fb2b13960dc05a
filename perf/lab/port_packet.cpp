#include <arpa/inet.h>
#include <fmt/format.h>
#include <linux/ethtool.h>
#include <linux/if_packet.h>
#include <linux/sockios.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <string>

#include "base/fd.hpp"
#include "lab/namespace.hpp"
#include "lab/packet_train.hpp"
#include "lab/port.hpp"

namespace longspan::lab {
namespace {

constexpr std::array<std::uint8_t, 6> kRouterMac{0x02, 0x4c, 0x53, 0x00, 0x00, 0x01};
constexpr const char* kRouterMacText = "02:4c:53:00:00:01";
constexpr int kReceiveBuffer = 256 << 20;

class PacketSocketPort final : public PacketPort {
 public:
  PacketSocketPort(Namespace far_side, Fd fd, int interface) : far_side_(std::move(far_side)), fd_(std::move(fd)) {
    to_router_.sll_family = AF_PACKET;
    to_router_.sll_ifindex = interface;
    to_router_.sll_halen = static_cast<unsigned char>(kRouterMac.size());
    std::memcpy(to_router_.sll_addr, kRouterMac.data(), kRouterMac.size());
  }
  int fd() const noexcept override { return fd_.get(); }

  std::size_t receive(std::span<std::byte> room) override {
    std::memset(room.data(), 0, PacketTrain::kPrefix);
    const auto packet = room.subspan(PacketTrain::kPrefix);
    const ssize_t got = ::recv(fd_.get(), packet.data(), packet.size(), MSG_DONTWAIT);
    return got > 0 ? PacketTrain::kPrefix + static_cast<std::size_t>(got) : 0;
  }

  bool send(std::span<const iovec> frame) override {
    // This port takes no trains, so a frame is one piece.
    const auto* packet = static_cast<const std::uint8_t*>(frame.front().iov_base) + PacketTrain::kPrefix;
    sockaddr_ll to = to_router_;
    to.sll_protocol = htons((packet[0] >> 4) == 6 ? ETH_P_IPV6 : ETH_P_IP);
    return ::sendto(fd_.get(), packet, frame.front().iov_len - PacketTrain::kPrefix, MSG_DONTWAIT,
                    reinterpret_cast<const sockaddr*>(&to), sizeof to) > 0;
  }

  std::uint64_t kernel_drops() override {
    tpacket_stats stats{};
    socklen_t length = sizeof stats;
    // Reading these counters resets them.
    if (::getsockopt(fd_.get(), SOL_PACKET, PACKET_STATISTICS, &stats, &length) == 0) drops_ += stats.tp_drops;
    return drops_;
  }

  std::string_view kind() const noexcept override { return "packet"; }

 private:
  Namespace far_side_;
  Fd fd_;
  sockaddr_ll to_router_{};
  std::uint64_t drops_ = 0;
};

/// Without this, veth passes on packets of 64 KiB with checksums left to hardware that does not exist.
Status turn_off_offloads(const Namespace& router) {
  const ScopedNamespace inside(router);
  LONGSPAN_TRY(inside.status());
  const Fd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!socket) return system_error("socket for ethtool", errno);
  for (const int command : {ETHTOOL_STSO, ETHTOOL_SGSO, ETHTOOL_STXCSUM, ETHTOOL_SSG}) {
    ethtool_value value{static_cast<std::uint32_t>(command), 0};
    ifreq request{};
    std::memcpy(request.ifr_name, "wan0", 5);
    request.ifr_data = reinterpret_cast<char*>(&value);
    if (::ioctl(socket.get(), SIOCETHTOOL, &request) != 0) return system_error("ethtool on wan0", errno);
  }
  return {};
}

Result<Fd> open_socket(const Namespace& far_side, int* interface) {
  const ScopedNamespace inside(far_side);
  LONGSPAN_TRY(inside.status());
  Fd fd(::socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return system_error("packet socket", errno);
  *interface = static_cast<int>(::if_nametoindex("lab0"));
  const int on = 1;
  if (::setsockopt(fd.get(), SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof on) != 0) {
    return system_error("PACKET_IGNORE_OUTGOING", errno);
  }
  // Where forcing is not allowed the machine's limit applies, and kernel_drops() tells when that was too little.
  if (::setsockopt(fd.get(), SOL_SOCKET, SO_RCVBUFFORCE, &kReceiveBuffer, sizeof kReceiveBuffer) != 0) {
    (void)::setsockopt(fd.get(), SOL_SOCKET, SO_RCVBUF, &kReceiveBuffer, sizeof kReceiveBuffer);
  }
  sockaddr_ll local{};
  local.sll_family = AF_PACKET;
  local.sll_protocol = htons(ETH_P_ALL);
  local.sll_ifindex = *interface;
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&local), sizeof local) != 0) {
    return system_error("bind packet socket", errno);
  }
  return fd;
}

}  // namespace

Result<std::unique_ptr<PacketPort>> open_packet_port(const Namespace& router, int mtu) {
  LONGSPAN_ASSIGN(Namespace far_side, Namespace::create("WAN side of " + router.name()));
  LONGSPAN_TRY(
      router.ip(fmt::format("link add wan0 mtu {0} type veth peer name lab0 mtu {0} netns {1}\n"
                            "link set wan0 address {2} arp off\n",
                            mtu, far_side.path(), kRouterMacText)));
  LONGSPAN_TRY(turn_off_offloads(router));
  (void)far_side.set_sysctl("ipv6/conf/lab0/disable_ipv6", "1");
  LONGSPAN_TRY(far_side.ip("link set lab0 arp off up\n"));
  int interface = 0;
  LONGSPAN_ASSIGN(Fd fd, open_socket(far_side, &interface));
  return std::unique_ptr<PacketPort>(std::make_unique<PacketSocketPort>(std::move(far_side), std::move(fd), interface));
}

}  // namespace longspan::lab
