#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "longspan/spi/transport.hpp"

/// What travels on a connection: one HELLO, then frames. Every header has a fixed size, little-endian, fields aligned
/// to their size. Pure functions over bytes: nothing here reads a socket, and everything here may be fed garbage.
namespace longspan::tcp::wire {

inline constexpr std::size_t kHeaderBytes = 56;
inline constexpr std::size_t kHelloBytes = 80;
inline constexpr std::uint16_t kVersion = 2;
/// The longest payload of one frame. Senders use less; it bounds what a receiver must believe.
inline constexpr std::size_t kMaxFragment = std::size_t{1} << 20;
inline constexpr std::uint64_t kMaxMessage = std::uint64_t{1} << 48;
inline constexpr std::uint32_t kMaxLanes = 256;

using Header = std::array<std::byte, kHeaderBytes>;
using HelloHeader = std::array<std::byte, kHelloBytes>;

/// The first bytes of each connection, from the side that dialed. Nothing else is parsed before it was found valid.
struct Hello {
  std::uint64_t job = 0;
  spi::PeerId from = 0;
  spi::PeerId to = 0;  ///< whom the dialer believes to reach: an address that now belongs to another rank is refused
  std::uint16_t lane = 0;
  std::uint16_t lanes = 0;
  std::uint64_t credit_bytes = 0;  ///< per communicator: what the dialer may send ahead of receives
  std::uint64_t window_bytes = 0;  ///< what the dialer wants in flight: the receiver sizes its buffer by it
  std::uint32_t generation = 0;    ///< 0: the first connection of this lane; each one that replaces it counts up
  std::uint64_t received = 0;      ///< counted frames that the dialer has received on this lane
  std::uint64_t acknowledged = 0;  ///< counted frames of the dialer that were acknowledged: the peer must know them
  /// The other way round: whoever dialed has no lane `lane` of the peer, and offers this connection for it. The peer
  /// answers with a HELLO of its own, or hangs up.
  bool offer = false;
};

/// DATA, RTS, CTS, CREDIT and GOODBYE are *counted*: numbered on each lane, kept by the sender until acknowledged, and
/// replayed on the connection that replaces a lost one. The others belong to their connection.
enum class FrameType : std::uint8_t {
  kData = 1,   ///< a fragment of a message; its payload follows
  kRts,        ///< request to send: a message waits for credit; announces its length
  kCts,        ///< clear to send: that message's receive is posted, the rest of it may come without credit
  kCredit,     ///< `message_bytes` of credit of communicator `id.comm` come back
  kGoodbye,    ///< nothing follows from this side, and the end of stream is no failure
  kPad,        ///< payload to be discarded: it warms a connection up
  kHeartbeat,  ///< asks for an ACK
  kAck,        ///< `message_bytes` counted frames of the other side came on this lane
  kResume,     ///< the answer to a HELLO of a later generation: `message_bytes` counted frames came before
  kRepeat,     ///< a DATA that another lane carries too; `number` is `name_of_repeated` of that one
};
inline constexpr std::uint8_t kLastFrameType = static_cast<std::uint8_t>(FrameType::kRepeat);
/// DATA and REPEAT bring a fragment of a message.
constexpr bool brings_data(FrameType type) noexcept { return type == FrameType::kData || type == FrameType::kRepeat; }

constexpr bool is_counted(FrameType type) noexcept { return type <= FrameType::kGoodbye; }

inline constexpr std::uint8_t kCounted = 1;    ///< DATA: consumed credit, which the receiver returns
inline constexpr std::uint8_t kAnnounced = 2;  ///< DATA: an RTS for this message was sent before, maybe on another lane
inline constexpr std::uint8_t kAckWanted = 4;  ///< acknowledge this frame soon
inline constexpr std::uint8_t kRefused = 8;    ///< RESUME: this connection is not wanted; `digest` says why

/// Why a HELLO was refused.
enum class Refusal : std::uint64_t {
  kOtherJob = 1,
  kOtherPeer,    ///< the address belongs to another rank now
  kUnknownLane,  ///< what was acknowledged before is not known here: a process took the place of another
  kOver,         ///< the channel has ended here
  kKeyNeeded,    ///< the job has a key, and the dialer none
  kNotEncrypted, ///< the dialer's settings do not encrypt this connection, those here want it
};

/// A lane and the last 24 bits of a frame's number on it: repeats follow so soon that these tell which.
constexpr std::uint32_t name_of_repeated(std::uint16_t lane, std::uint64_t number) noexcept {
  return std::uint32_t{lane} << 24 | static_cast<std::uint32_t>(number & 0xffffff);
}
constexpr std::uint16_t lane_of_repeated(std::uint32_t name) noexcept { return static_cast<std::uint16_t>(name >> 24); }
/// The number nearest to `near` that has this name.
constexpr std::uint64_t number_of_repeated(std::uint32_t name, std::uint64_t near) noexcept {
  constexpr std::uint64_t kSpan = std::uint64_t{1} << 24;
  const std::uint64_t ahead = ((name & (kSpan - 1)) - near) & (kSpan - 1);
  return ahead < kSpan / 2 || near + ahead < kSpan ? near + ahead : near + ahead - kSpan;
}

struct Frame {
  FrameType type = FrameType::kData;
  std::uint8_t flags = 0;
  std::uint32_t payload_bytes = 0;
  std::uint32_t number = 0;  ///< of a counted frame on its lane, modulo 2^32
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
std::string_view describe(Refusal refusal) noexcept;

/// False when the first bytes of a connection already show that no HELLO begins there.
bool may_become_hello(std::span<const std::byte> begin) noexcept;

void encode(const Hello& hello, HelloHeader& out) noexcept;
void encode(const Frame& frame, Header& out) noexcept;
WireError decode(std::span<const std::byte, kHelloBytes> in, Hello& out) noexcept;
WireError decode(std::span<const std::byte, kHeaderBytes> in, Frame& out) noexcept;

}  // namespace longspan::tcp::wire
