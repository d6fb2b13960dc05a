#include <fcntl.h>
#include <fmt/format.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <sstream>
#include <string>

#include "base/fd.hpp"
#include "lab/namespace.hpp"
#include "lab/packet_train.hpp"
#include "lab/port.hpp"

namespace longspan::lab {
namespace {

class TunPort final : public PacketPort {
 public:
  TunPort(Fd fd, const Namespace& router, std::string device, Framing framing)
      : fd_(std::move(fd)), router_(router), device_(std::move(device)), framing_(framing) {}
  int fd() const noexcept override { return fd_.get(); }

  std::size_t receive(std::span<std::byte> room) override {
    const ssize_t got = ::read(fd_.get(), room.data(), room.size());
    return got > 0 ? static_cast<std::size_t>(got) : 0;
  }

  bool send(std::span<const iovec> frame) override {
    return ::writev(fd_.get(), frame.data(), static_cast<int>(frame.size())) > 0;
  }

  std::uint64_t kernel_drops() override {
    constexpr std::size_t kTransmitDrops = 11;
    const auto devices = router_.device_counters();
    const std::size_t line = devices.ok() ? devices.value().find(" " + device_ + ":") : std::string::npos;
    if (line == std::string::npos) return 0;
    std::istringstream fields(devices.value().substr(line + device_.size() + 2));
    std::uint64_t value = 0;
    for (std::size_t i = 0; i <= kTransmitDrops; ++i) fields >> value;
    return value;
  }

  std::string_view kind() const noexcept override { return "tun"; }
  Framing framing() const noexcept override { return framing_; }

 private:
  Fd fd_;
  const Namespace& router_;
  std::string device_;
  Framing framing_;
};

#ifndef TUN_F_USO4  // Linux 6.2
constexpr unsigned TUN_F_USO4 = 0x20;
constexpr unsigned TUN_F_USO6 = 0x40;
#endif

/// Lets the kernel leave to us what it would otherwise do for each packet: cutting up and checksums. A kernel that
/// knows less of it gives smaller pieces.
void turn_on_offloads(int fd) {
  constexpr unsigned kTcp = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN;
  if (::ioctl(fd, TUNSETOFFLOAD, kTcp | TUN_F_USO4 | TUN_F_USO6) != 0) (void)::ioctl(fd, TUNSETOFFLOAD, kTcp);
}

Result<std::unique_ptr<PacketPort>> open_device(const Namespace& router, const std::string& device, Framing framing,
                                                bool offload) {
  const ScopedNamespace inside(router);
  LONGSPAN_TRY(inside.status());
  Fd fd(::open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC));
  if (!fd) return system_error("open /dev/net/tun", errno);
  ifreq request{};
  request.ifr_flags =
      static_cast<short>((framing == Framing::kEthernet ? IFF_TAP : IFF_TUN) | IFF_NO_PI | IFF_VNET_HDR);
  std::memcpy(request.ifr_name, device.c_str(), std::min(device.size() + 1, std::size_t{IFNAMSIZ}));
  if (::ioctl(fd.get(), TUNSETIFF, &request) != 0) return system_error("TUNSETIFF " + device, errno);
  int prefix = PacketTrain::kPrefix;
  if (::ioctl(fd.get(), TUNSETVNETHDRSZ, &prefix) != 0) return system_error("TUNSETVNETHDRSZ", errno);
  if (offload) turn_on_offloads(fd.get());
  // The kernel's own queue in front of the reader: it must never be what drops.
  LONGSPAN_TRY(router.ip(fmt::format("link set {} txqueuelen 20000\n", device)));
  return std::unique_ptr<PacketPort>(std::make_unique<TunPort>(std::move(fd), router, device, framing));
}

}  // namespace

Result<std::unique_ptr<PacketPort>> open_tun_port(const Namespace& router, bool offload) {
  return open_device(router, "wan0", Framing::kIp, offload);
}

Result<std::unique_ptr<PacketPort>> open_tap_port(const Namespace& router, const std::string& device, bool offload) {
  return open_device(router, device, Framing::kEthernet, offload);
}

}  // namespace longspan::lab
