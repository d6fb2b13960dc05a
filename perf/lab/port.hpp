#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "lab/packet_train.hpp"
#include "longspan/status.hpp"

namespace longspan::lab {

class Namespace;

enum class PortKind { kAuto, kTun, kPacket };
std::optional<PortKind> parse_port_kind(std::string_view name) noexcept;

/// Where a region's packets leave the kernel for the emulated WAN and come back: the far side of its router's `wan0`.
/// Packets are frames as PacketTrain describes them. One thread receives; several may send.
class PacketPort {
 public:
  virtual ~PacketPort() = default;
  /// Readable when receive() has something.
  virtual int fd() const noexcept = 0;
  /// The next frame, put into `room`; its bytes, or 0 when none waits.
  virtual std::size_t receive(std::span<std::byte> room) = 0;
  /// Hands a frame, which may lie in several places, to the region's router; false when the kernel had no room for it.
  virtual bool send(std::span<const iovec> frame) = 0;
  /// Packets that the kernel dropped because they were not received in time: each makes a run invalid.
  virtual std::uint64_t kernel_drops() = 0;
  virtual std::string_view kind() const noexcept = 0;
  virtual Framing framing() const noexcept { return Framing::kIp; }
};

/// Makes `wan0` in a router's namespace, which must outlive the port. kAuto takes TUN and, where /dev/net/tun may not
/// be opened, packet sockets. With `offload`, a port that can takes trains of packets.
Result<std::unique_ptr<PacketPort>> open_port(PortKind kind, const Namespace& router, int mtu, bool offload);

/// A TUN device: cheapest, needs /dev/net/tun.
Result<std::unique_ptr<PacketPort>> open_tun_port(const Namespace& router, bool offload);
/// A TAP device in a router's namespace, one end of an uplink between two of its bridges. Needs /dev/net/tun.
Result<std::unique_ptr<PacketPort>> open_tap_port(const Namespace& router, const std::string& device, bool offload);
/// A packet socket on the other end of a veth pair: needs nothing but the namespace, carries packets one by one.
Result<std::unique_ptr<PacketPort>> open_packet_port(const Namespace& router, int mtu);

}  // namespace longspan::lab
