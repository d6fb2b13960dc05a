#include "lab/packet_train.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <cstring>

namespace longspan::lab {
namespace {

/// struct virtio_net_hdr; <linux/virtio_net.h> is not C++ ("class" is a member of another structure there).
struct OffloadHeader {
  std::uint8_t flags;
  std::uint8_t gso_type;
  std::uint16_t hdr_len;
  std::uint16_t gso_size;
  std::uint16_t csum_start;
  std::uint16_t csum_offset;
};
static_assert(sizeof(OffloadHeader) == PacketTrain::kPrefix);
constexpr std::uint8_t kNeedsChecksum = 1;
constexpr std::uint8_t kSingle = 0;
constexpr std::uint8_t kTcp4 = 1;
constexpr std::uint8_t kTcp6 = 4;
constexpr std::uint8_t kUdp = 5;
constexpr std::uint8_t kCongestionNotified = 0x80;  ///< beside the type

constexpr std::size_t kV4Header = 20;
constexpr std::size_t kV6Header = 40;
constexpr std::size_t kUdpHeader = 8;
constexpr std::size_t kTcpHeader = 20;
constexpr std::size_t kTcpFlags = 13;
constexpr std::uint8_t kFinPsh = 0x09;
constexpr std::uint8_t kCwr = 0x80;

std::uint8_t byte_at(std::span<const std::byte> bytes, std::size_t offset) {
  return std::to_integer<std::uint8_t>(bytes[offset]);
}

std::uint16_t read_16(std::span<const std::byte> bytes, std::size_t offset) {
  std::uint16_t value = 0;
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return ntohs(value);
}

void write_16(std::span<std::byte> bytes, std::size_t offset, std::size_t value) {
  const std::uint16_t wire = htons(static_cast<std::uint16_t>(value));
  std::memcpy(bytes.data() + offset, &wire, sizeof wire);
}

/// The Internet checksum's sum, not yet complemented.
std::uint32_t sum_16(std::span<const std::byte> bytes, std::uint32_t sum = 0) {
  for (std::size_t i = 0; i + 1 < bytes.size(); i += 2) sum += read_16(bytes, i);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  return sum;
}

bool is_v6(std::span<const std::byte> packet) { return byte_at(packet, 0) >> 4 == 6; }

void add_to_v4_id(std::span<std::byte> packet, std::uint32_t packets) {
  if (!is_v6(packet)) write_16(packet, 4, read_16(packet, 4) + packets);
}

/// Fills in all that depends on the packet's length, where the bytes may be its headers alone.
void write_lengths(std::span<std::byte> packet, std::size_t length, const TrainLayout& layout) {
  const bool v6 = is_v6(packet);
  if (v6) {
    write_16(packet, 4, length - kV6Header);
  } else {
    write_16(packet, 2, length);
    write_16(packet, 10, 0);
    write_16(packet, 10, ~sum_16(packet.first(std::size_t{4} * (byte_at(packet, 0) & 0xfU))) & 0xffffU);
  }
  const std::size_t behind_ip = length - layout.transport;
  if (layout.udp) write_16(packet, layout.transport + 4U, behind_ip);
  // What the kernel expects where a device is to fill in the checksum: the sum of the pseudo-header.
  const auto addresses = v6 ? packet.subspan(8, 32) : packet.subspan(12, 8);
  const auto start = static_cast<std::uint32_t>(behind_ip + (layout.udp ? IPPROTO_UDP : IPPROTO_TCP));
  write_16(packet, layout.transport + (layout.udp ? 6U : 16U), sum_16(addresses, start));
}

}  // namespace

std::optional<PacketTrain> PacketTrain::parse(std::span<const std::byte> frame, Framing framing) {
  const std::size_t link = framing == Framing::kEthernet ? kEthernetHeader : 0;
  if (frame.size() < kPrefix + link + kV4Header) return std::nullopt;
  OffloadHeader header{};
  std::memcpy(&header, frame.data(), sizeof header);
  PacketTrain train(frame);
  train.layout_.prefix = static_cast<std::uint16_t>(kPrefix + link);
  const auto type = static_cast<std::uint8_t>(header.gso_type & ~kCongestionNotified);
  train.layout_.gso_type = type;
  if (type == kSingle) return train;
  if (header.gso_size == 0 || header.csum_start < link) return std::nullopt;
  if (!train.read_headers(static_cast<std::uint16_t>(header.csum_start - link), type)) return std::nullopt;
  train.layout_.segment = header.gso_size;
  const std::size_t payload = train.packet().size() - train.layout_.headers;
  train.packets_ =
      static_cast<std::uint32_t>(std::max<std::size_t>(1, (payload + header.gso_size - 1) / header.gso_size));
  return train;
}

bool PacketTrain::read_headers(std::uint16_t transport, std::uint8_t type) {
  const bool udp = type == kUdp;
  if (!udp && type != kTcp4 && type != kTcp6) return false;
  const std::size_t ip = is_v6(packet()) ? kV6Header : kV4Header;
  // The kernel's own hdr_len says how much it holds in one piece, not where the headers end.
  if (transport < ip || packet().size() < transport + (udp ? kUdpHeader : kTcpHeader)) return false;
  const std::size_t more = udp ? kUdpHeader : std::size_t{4} * (byte_at(packet(), transport + 12U) >> 4);
  layout_.transport = transport;
  layout_.headers = static_cast<std::uint16_t>(transport + more);
  layout_.udp = udp;
  return more >= (udp ? kUdpHeader : kTcpHeader) && layout_.headers <= packet().size();
}

std::size_t PacketTrain::payload_bytes(std::uint32_t first, std::uint32_t count) const noexcept {
  const std::size_t all = frame_.size() - head_bytes();
  if (count == packets_) return all;
  return std::min(all, (std::size_t{first} + count) * segment()) - first * segment();
}

void PacketTrain::write(std::uint32_t first, std::uint32_t count, std::span<std::byte> out) const {
  write_head(first, count, out.first(head_bytes()));
  const auto bytes = payload(first, count);
  std::memcpy(out.data() + head_bytes(), bytes.data(), bytes.size());
}

void PacketTrain::write_head(std::uint32_t first, std::uint32_t count, std::span<std::byte> out) const {
  std::memcpy(out.data(), frame_.data(), head_bytes());
  if (count == packets_) return;
  OffloadHeader header{};
  std::memcpy(&header, frame_.data(), sizeof header);
  header.flags = kNeedsChecksum;
  header.hdr_len = static_cast<std::uint16_t>(head_bytes() - kPrefix);
  if (first > 0) header.gso_type = layout_.gso_type;
  if (count == 1) {
    header.gso_type = kSingle;
    header.gso_size = 0;
  }
  std::memcpy(out.data(), &header, sizeof header);
  adjust_headers(first, count, out.subspan(layout_.prefix));
}

void PacketTrain::adjust_headers(std::uint32_t first, std::uint32_t count, std::span<std::byte> headers) const {
  add_to_v4_id(headers, first);
  if (!layout_.udp) {
    const std::size_t tcp = layout_.transport;
    std::uint32_t sequence = 0;
    std::memcpy(&sequence, headers.data() + tcp + 4, sizeof sequence);
    sequence = htonl(ntohl(sequence) + static_cast<std::uint32_t>(first * segment()));
    std::memcpy(headers.data() + tcp + 4, &sequence, sizeof sequence);
    auto flags = byte_at(headers, tcp + kTcpFlags);
    if (first + count < packets_) flags &= static_cast<std::uint8_t>(~kFinPsh);
    if (first > 0) flags &= static_cast<std::uint8_t>(~kCwr);
    headers[tcp + kTcpFlags] = std::byte{flags};
  }
  write_lengths(headers, headers.size() + payload_bytes(first, count), layout_);
}

void PacketTrain::join(const TrainLayout& layout, std::span<std::byte> first, std::size_t payload,
                       std::span<const std::byte> last) {
  OffloadHeader header{};
  std::memcpy(&header, first.data(), sizeof header);
  // A single packet has lost the mark that its first byte of flags still shows.
  const auto packet = first.subspan(layout.prefix);
  const std::size_t flags = layout.transport + kTcpFlags;
  const bool notified = !layout.udp && (byte_at(packet, flags) & kCwr) != 0;
  header.gso_type = static_cast<std::uint8_t>(layout.gso_type | (notified ? kCongestionNotified : 0));
  header.gso_size = layout.segment;
  std::memcpy(first.data(), &header, sizeof header);
  if (!layout.udp) packet[flags] |= last[layout.prefix + flags] & std::byte{kFinPsh};
  write_lengths(packet, packet.size() + payload, layout);
}

}  // namespace longspan::lab
