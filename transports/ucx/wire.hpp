#pragma once

#include <array>
#include <cstdint>

#include "longspan/spi/transport.hpp"

/// What both sides see. UCX joins machines of one byte order and architecture, so these are plain structures; nothing
/// in them is a pointer, and every value is checked by whoever reads it.
namespace longspan::ucx::wire {

/// "LSux": begins as all of ours do that have no key (src/security).
inline constexpr std::uint32_t kMagic = 0x7875'534c;
inline constexpr std::uint16_t kVersion = 1;
inline constexpr std::uint32_t kMaxAddress = 3'000;  ///< of a worker, in bytes

/// Why a greeting was refused.
enum class Verdict : std::uint16_t {
  kWelcome = 0,
  kOtherJob,
  kOtherPeer,
  kOtherVersion,
  kAlreadyConnected,
  kKeyNeeded
};

/// The first on a lifeline, from each side; the dialer's is followed by the address of its worker.
struct Greeting {
  std::uint32_t magic = kMagic;
  std::uint16_t version = kVersion;
  Verdict verdict = Verdict::kWelcome;
  std::uint64_t job = 0;
  std::uint64_t from = 0;
  std::uint64_t to = 0;
  std::uint64_t credit = 0;         ///< bytes that may be sent ahead of receives, per communicator
  std::array<std::uint64_t, 2> token{};  ///< what messages to this side must bear
  std::uint32_t address_bytes = 0;
  std::uint32_t reserved = 0;
};
static_assert(sizeof(Greeting) == 64);

enum class NoteKind : std::uint32_t {
  kGoodbye = 1,  ///< `value` messages were sent, and none will follow
  kFarewell,     ///< all that was announced by the goodbye has come
};
/// Everything after the greetings.
struct Note {
  NoteKind kind = NoteKind::kGoodbye;
  std::uint32_t reserved = 0;
  std::uint64_t value = 0;
};
static_assert(sizeof(Note) == 16);

enum class MessageKind : std::uint32_t {
  kEager = 1,  ///< a message with its data
  kOffer,      ///< a message whose data is fetched when its receive is posted
  kBequest,    ///< the data of an offer that its receiver had not fetched when its sender left
  kCredit,     ///< `bytes` of the eager credit of `comm` come back
};

/// The header of an active message.
struct MessageHeader {
  std::array<std::uint64_t, 2> token{};
  std::uint64_t comm = 0;
  std::uint64_t digest = 0;
  std::uint64_t bytes = 0;
  std::uint32_t seq = 0;
  std::uint32_t stream = 0;
  std::uint32_t chunk = 0;
  MessageKind kind = MessageKind::kEager;

  spi::MessageId id() const noexcept { return {comm, seq, stream, chunk}; }
};
static_assert(sizeof(MessageHeader) == 56);

/// Follows the data of each message: kWhole, or the sender took the message back while it was being sent.
inline constexpr std::uint64_t kWhole = 0x656c'6f68'7720'7369;
inline constexpr std::size_t kTrailerBytes = sizeof kWhole;

/// What an eager message costs of the credit: its record too, so that a flood of tiny ones is bounded.
constexpr std::size_t eager_cost(std::size_t bytes) noexcept { return bytes + 64; }

}  // namespace longspan::ucx::wire
