#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "longspan/spi/transport.hpp"

/// What travels on a connection: one HELLO, then frames. Every header has the same fixed size, little-endian, fields
/// aligned to their size. Pure functions over bytes: nothing here reads a socket, and everything here may be fed garbage.
namespace longspan::tcp::wire {

inline constexpr std::size_t kHeaderBytes = 56;
inline constexpr std::uint16_t kVersion = 1;
/// The longest payload of one frame. Senders use less; it bounds what a receiver must believe.
inline constexpr std::size_t kMaxFragment = std::size_t{1} << 20;
inline constexpr std::uint64_t kMaxMessage = std::uint64_t{1} << 48;
inline constexpr std::uint32_t kMaxLanes = 256;

using Header = std::array<std::byte, kHeaderBytes>;

/// The first bytes of each connection, from the side that dialed. Nothing else is parsed before it was found valid.
struct Hello {
  std::uint64_t job = 0;
  spi::PeerId from = 0;
  spi::PeerId to = 0;  ///< whom the dialer believes to reach: an address that now belongs to another rank is refused
  std::uint16_t lane = 0;
  std::uint16_t lanes = 0;
  std::uint64_t credit_bytes = 0;  ///< per communicator: what the dialer may send ahead of receives
  std::uint64_t window_bytes = 0;  ///< what the dialer wants in flight: the receiver sizes its buffer by it
};

enum class FrameType : std::uint8_t {
  kData = 1,   ///< a fragment of a message; its payload follows
  kRts,        ///< request to send: a message waits for credit; announces its length
  kCts,        ///< clear to send: that message's receive is posted, the rest of it may come without credit
  kCredit,     ///< `message_bytes` of credit of communicator `id.comm` come back
  kGoodbye,    ///< nothing follows from this side, and the end of stream is no failure
  kPad,        ///< payload to be discarded: it warms a connection up
  kHeartbeat,  ///< reserved for the healing of broken connections; ignored
  kAck,        ///< reserved for the healing of broken connections; ignored
};
inline constexpr std::uint8_t kLastFrameType = static_cast<std::uint8_t>(FrameType::kAck);

inline constexpr std::uint8_t kCounted = 1;    ///< DATA: consumed credit, which the receiver returns
inline constexpr std::uint8_t kAnnounced = 2;  ///< DATA: an RTS for this message was sent before, maybe on another lane

struct Frame {
  FrameType type = FrameType::kData;
  std::uint8_t flags = 0;
  std::uint32_t payload_bytes = 0;
  spi::MessageId id;
  std::uint64_t digest = 0;
  std::uint64_t message_bytes = 0;
  std::uint64_t offset = 0;
};

/// Why bytes are no valid header.
enum class WireError : std::uint8_t {
  kNone,
  kNotLongspan,   ///< does not start as ours do
  kWrongVersion,  ///< another version of the protocol
  kUnknownType,
  kUnknownFlags,
  kPayloadLength, ///< a payload where none may be, or longer than allowed
  kMessageLength, ///< absurd, or the fragment does not lie inside the message
  kLane,          ///< lane numbers that make no sense
};
std::string_view describe(WireError error) noexcept;

void encode(const Hello& hello, Header& out) noexcept;
void encode(const Frame& frame, Header& out) noexcept;
WireError decode(std::span<const std::byte, kHeaderBytes> in, Hello& out) noexcept;
WireError decode(std::span<const std::byte, kHeaderBytes> in, Frame& out) noexcept;

}  // namespace longspan::tcp::wire
