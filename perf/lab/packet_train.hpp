#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace longspan::lab {

/// What stands between the kernel's virtio_net_hdr and the IP packet: nothing, or an Ethernet header.
enum class Framing : std::uint8_t { kIp, kEthernet };

/// Where a train's headers are and what its packets hold; enough to join its pieces again.
struct TrainLayout {
  std::uint16_t headers = 0;    ///< bytes of the IP and transport headers; 0 for a single packet
  std::uint16_t transport = 0;  ///< where the transport header starts
  std::uint16_t segment = 0;    ///< bytes of payload in each packet but the last
  std::uint16_t prefix = 10;    ///< bytes in front of the IP packet
  std::uint8_t gso_type = 0;
  bool udp = false;
};

/// What a port gives and takes: the kernel's virtio_net_hdr, perhaps an Ethernet header, then an IP packet. With
/// segmentation offload the "packet" stands for several of one flow, which share their headers: a train.
///
/// A view: the bytes belong to the caller. Carrying a train in one piece is what makes the lab fast; its packets keep
/// their own bytes on the wire, and any run of them can be taken out as a train of its own.
class PacketTrain {
 public:
  /// Bytes in front of the IP packet, or of the Ethernet header.
  static constexpr std::size_t kPrefix = 10;
  static constexpr std::size_t kEthernetHeader = 14;
  /// The largest frame that a port gives.
  static constexpr std::size_t kLargestFrame = kPrefix + kEthernetHeader + 65536;

  /// nullopt when the bytes are no frame, or a train whose headers make no sense.
  static std::optional<PacketTrain> parse(std::span<const std::byte> frame, Framing framing = Framing::kIp);

  std::uint32_t packets() const noexcept { return packets_; }
  /// Bytes of these packets on a link, each with its own headers.
  std::uint64_t wire_bytes(std::uint32_t first, std::uint32_t count) const noexcept {
    return std::uint64_t{layout_.headers} * count + payload_bytes(first, count);
  }
  /// Bytes of these packets as a frame.
  std::size_t frame_bytes(std::uint32_t first, std::uint32_t count) const noexcept {
    return head_bytes() + payload_bytes(first, count);
  }
  /// Bytes of that frame before its payload: the prefix and, of a train, the headers.
  std::size_t head_bytes() const noexcept { return std::size_t{layout_.prefix} + layout_.headers; }
  /// The payload of these packets, where it lies in the frame.
  std::span<const std::byte> payload(std::uint32_t first, std::uint32_t count) const noexcept {
    return packet().subspan(layout_.headers + first * segment(), payload_bytes(first, count));
  }
  /// Writes what comes before the payload of these packets into `out`, which has head_bytes() bytes.
  void write_head(std::uint32_t first, std::uint32_t count, std::span<std::byte> out) const;
  /// Writes these packets as a frame into `out`, which has frame_bytes(first, count) bytes.
  void write(std::uint32_t first, std::uint32_t count, std::span<std::byte> out) const;

  const TrainLayout& layout() const noexcept { return layout_; }
  /// Makes `first`, a piece of a train, the start of a frame that goes on with `payload` bytes of the pieces that
  /// followed it; `last` is the last of them.
  static void join(const TrainLayout& layout, std::span<std::byte> first, std::size_t payload,
                   std::span<const std::byte> last);

 private:
  explicit PacketTrain(std::span<const std::byte> frame) : frame_(frame) {}
  std::span<const std::byte> packet() const noexcept { return frame_.subspan(layout_.prefix); }
  bool read_headers(std::uint16_t transport, std::uint8_t type);
  std::size_t payload_bytes(std::uint32_t first, std::uint32_t count) const noexcept;
  void adjust_headers(std::uint32_t first, std::uint32_t count, std::span<std::byte> headers) const;
  std::size_t segment() const noexcept { return layout_.segment; }

  std::span<const std::byte> frame_;
  TrainLayout layout_;
  std::uint32_t packets_ = 1;
};

}  // namespace longspan::lab
