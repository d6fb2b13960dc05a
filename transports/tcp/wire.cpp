#include "tcp/wire.hpp"

#include <algorithm>
#include <bit>
#include <concepts>
#include <cstring>

namespace longspan::tcp::wire {
namespace {

constexpr std::uint64_t kHelloMagic = 0x4e4150'53474e4f4cULL;  // "LONGSPAN" in memory
constexpr std::uint16_t kFrameMagic = 0x534c;                  // "LS"
constexpr std::uint16_t kOffer = 1;                            // flag of a HELLO
constexpr std::uint8_t kKnownFlags = kCounted | kAnnounced | kAckWanted | kRefused;

template <std::unsigned_integral T>
T swapped_on_big_endian(T value) noexcept {
  if constexpr (std::endian::native == std::endian::big) {
    T result = 0;
    for (std::size_t i = 0; i < sizeof(T); ++i) result = static_cast<T>(result << 8 | (value >> (8 * i) & 0xff));
    return result;
  }
  return value;
}

template <std::unsigned_integral T>
void put(std::byte* at, T value) noexcept {
  value = swapped_on_big_endian(value);
  std::memcpy(at, &value, sizeof value);
}

template <std::unsigned_integral T>
T get(const std::byte* at) noexcept {
  T value;
  std::memcpy(&value, at, sizeof value);
  return swapped_on_big_endian(value);
}

WireError check_lengths(const Frame& frame) noexcept {
  if (frame.type == FrameType::kPad) {
    return frame.payload_bytes <= kMaxFragment ? WireError::kNone : WireError::kPayloadLength;
  }
  if (frame.message_bytes > kMaxMessage) return WireError::kMessageLength;
  if (!brings_data(frame.type)) {
    return frame.payload_bytes == 0 ? WireError::kNone : WireError::kPayloadLength;
  }
  if (frame.payload_bytes > kMaxFragment) return WireError::kPayloadLength;
  // An empty fragment is legal only as the whole of an empty message, or a message could come in endless pieces.
  if (frame.payload_bytes == 0 && frame.message_bytes != 0) return WireError::kPayloadLength;
  if (frame.offset > frame.message_bytes || frame.payload_bytes > frame.message_bytes - frame.offset) {
    return WireError::kMessageLength;
  }
  return WireError::kNone;
}

}  // namespace

std::string_view describe(WireError error) noexcept {
  switch (error) {
    case WireError::kNone: return "valid";
    case WireError::kNotLongspan: return "bytes that are not longspan's protocol";
    case WireError::kWrongVersion: return "another version of longspan's protocol";
    case WireError::kUnknownType: return "a frame of unknown type";
    case WireError::kUnknownFlags: return "a frame with unknown flags";
    case WireError::kPayloadLength: return "a frame whose payload length is not allowed";
    case WireError::kMessageLength: return "a frame that does not lie inside its message";
    case WireError::kLane: return "lane numbers that make no sense";
  }
  return "an unknown error";
}

std::string_view describe(Refusal refusal) noexcept {
  switch (refusal) {
    case Refusal::kOtherJob: return "it belongs to another job";
    case Refusal::kOtherPeer: return "another rank listens at this address";
    case Refusal::kUnknownLane: return "its process was replaced by another one";
    case Refusal::kKeyNeeded:
      return "it requires the job's key, and there is none here (LONGSPAN_KEY, LONGSPAN_KEY_FILE)";
    case Refusal::kNotEncrypted: return "LONGSPAN_ENCRYPT=all is set there, and not here";
    case Refusal::kOver: return "it has given up this channel";
  }
  return "it refused the connection";
}

bool may_become_hello(std::span<const std::byte> begin) noexcept {
  std::array<std::byte, sizeof kHelloMagic> magic;
  put(magic.data(), kHelloMagic);
  return std::equal(magic.begin(), magic.begin() + static_cast<std::ptrdiff_t>(std::min(begin.size(), magic.size())),
                    begin.begin());
}

void encode(const Hello& hello, HelloHeader& out) noexcept {
  std::byte* p = out.data();
  put(p, kHelloMagic);
  put(p + 8, kVersion);
  put(p + 10, hello.lane);
  put(p + 12, hello.lanes);
  put(p + 14, hello.offer ? kOffer : std::uint16_t{0});
  put(p + 16, hello.job);
  put(p + 24, hello.from);
  put(p + 32, hello.to);
  put(p + 40, hello.credit_bytes);
  put(p + 48, hello.window_bytes);
  put(p + 56, hello.generation);
  put(p + 60, std::uint32_t{0});
  put(p + 64, hello.received);
  put(p + 72, hello.acknowledged);
}

WireError decode(std::span<const std::byte, kHelloBytes> in, Hello& out) noexcept {
  const std::byte* p = in.data();
  if (get<std::uint64_t>(p) != kHelloMagic) return WireError::kNotLongspan;
  if (get<std::uint16_t>(p + 8) != kVersion) return WireError::kWrongVersion;
  out.lane = get<std::uint16_t>(p + 10);
  out.lanes = get<std::uint16_t>(p + 12);
  const auto flags = get<std::uint16_t>(p + 14);
  if ((flags & ~kOffer) != 0) return WireError::kUnknownFlags;
  out.offer = flags != 0;
  out.job = get<std::uint64_t>(p + 16);
  out.from = get<std::uint64_t>(p + 24);
  out.to = get<std::uint64_t>(p + 32);
  out.credit_bytes = get<std::uint64_t>(p + 40);
  out.window_bytes = get<std::uint64_t>(p + 48);
  out.generation = get<std::uint32_t>(p + 56);
  out.received = get<std::uint64_t>(p + 64);
  out.acknowledged = get<std::uint64_t>(p + 72);
  if (out.lanes == 0 || out.lanes > kMaxLanes || out.lane >= out.lanes) return WireError::kLane;
  if (out.credit_bytes > kMaxMessage || out.window_bytes > kMaxMessage) return WireError::kMessageLength;
  return WireError::kNone;
}

void encode(const Frame& frame, Header& out) noexcept {
  std::byte* p = out.data();
  put(p, kFrameMagic);
  put(p + 2, static_cast<std::uint8_t>(frame.type));
  put(p + 3, frame.flags);
  put(p + 4, frame.payload_bytes);
  put(p + 8, frame.id.comm);
  put(p + 16, frame.id.seq);
  put(p + 20, frame.id.stream);
  put(p + 24, frame.id.chunk);
  put(p + 28, frame.number);
  put(p + 32, frame.digest);
  put(p + 40, frame.message_bytes);
  put(p + 48, frame.offset);
}

WireError decode(std::span<const std::byte, kHeaderBytes> in, Frame& out) noexcept {
  const std::byte* p = in.data();
  if (get<std::uint16_t>(p) != kFrameMagic) return WireError::kNotLongspan;
  const auto type = get<std::uint8_t>(p + 2);
  if (type == 0 || type > kLastFrameType) return WireError::kUnknownType;
  out.type = static_cast<FrameType>(type);
  out.flags = get<std::uint8_t>(p + 3);
  if ((out.flags & ~kKnownFlags) != 0) return WireError::kUnknownFlags;
  out.payload_bytes = get<std::uint32_t>(p + 4);
  out.id.comm = get<std::uint64_t>(p + 8);
  out.id.seq = get<std::uint32_t>(p + 16);
  out.id.stream = get<std::uint32_t>(p + 20);
  out.id.chunk = get<std::uint32_t>(p + 24);
  out.number = get<std::uint32_t>(p + 28);
  out.digest = get<std::uint64_t>(p + 32);
  out.message_bytes = get<std::uint64_t>(p + 40);
  out.offset = get<std::uint64_t>(p + 48);
  return check_lengths(out);
}

}  // namespace longspan::tcp::wire
