#include "lab/port.hpp"

#include <fmt/format.h>

namespace longspan::lab {

std::optional<PortKind> parse_port_kind(std::string_view name) noexcept {
  if (name == "auto") return PortKind::kAuto;
  if (name == "tun") return PortKind::kTun;
  if (name == "packet") return PortKind::kPacket;
  return std::nullopt;
}

Result<std::unique_ptr<PacketPort>> open_port(PortKind kind, const Namespace& router, int mtu, bool offload) {
  if (kind == PortKind::kPacket) return open_packet_port(router, mtu);
  auto tun = open_tun_port(router, offload);
  if (tun.ok() || kind == PortKind::kTun) return tun;
  auto packet = open_packet_port(router, mtu);
  if (packet.ok()) return packet;
  return Status(packet.status().code(), fmt::format("no way to carry packets between regions: {}; {}",
                                                    tun.status().message(), packet.status().message()));
}

}  // namespace longspan::lab
