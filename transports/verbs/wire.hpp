#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <type_traits>

#include "longspan/spi/transport.hpp"

/// What travels: a greeting each way by TCP, then frames by RDMA send. Everything here may be fed garbage.
namespace longspan::verbs::wire {

static_assert(std::endian::native == std::endian::little, "frames are written as they lie in memory");

inline constexpr std::uint32_t kVersion = 1;
inline constexpr std::size_t kMaxLanes = 16;
inline constexpr std::uint64_t kMaxMessage = std::uint64_t{1} << 48;
/// What one posted receive buffer holds: a frame and its payload.
inline constexpr std::size_t kBufferBytes = std::size_t{16} << 10;

/// A queue pair as its peer must know it.
struct QueueName {
  std::uint32_t number = 0;
  std::uint32_t first_packet = 0;
};

enum class Verdict : std::uint32_t {
  kWelcome = 1,
  kOtherVersion,
  kOtherJob,
  kOtherPeer,  ///< the address belongs to another rank now
  kAlreadyConnected,
  kNoResources,  ///< queue pairs, completion queue, memory that may be locked
};
std::string_view describe(Verdict verdict) noexcept;

/// Both ways the same: who dials says who it is and which queue pairs it has; the answer, those that belong to them.
struct Greeting {
  std::uint64_t magic = 0x3173'6272'6576'736cULL;  // "lsverbs1"
  std::uint32_t version = kVersion;
  Verdict verdict = Verdict::kWelcome;
  std::uint64_t job = 0;
  spi::PeerId from = 0;
  spi::PeerId to = 0;
  std::uint64_t credit_bytes = 0;
  std::array<std::uint8_t, 16> gid{};
  std::uint16_t lid = 0;
  std::uint8_t mtu = 0;  ///< as ibv_mtu counts
  std::uint8_t lanes = 0;
  std::uint32_t buffers = 0;   ///< receives that are posted for frames
  std::uint32_t segments = 0;  ///< receives that are posted on each lane
  QueueName control;
  std::array<QueueName, kMaxLanes> data{};
};
static_assert(std::is_trivially_copyable_v<Greeting> && sizeof(Greeting) == 216);

enum class FrameType : std::uint8_t {
  kReady = 1,  ///< the first from who dialed: its queue pairs stand
  kEager,      ///< a piece of a message that comes ahead of its receive; `address` is its offset, the payload follows
  kOffer,      ///< a message that stays with its sender until the receive is posted
  kGrant,      ///< its receive is posted: write to `address` under `key`, with `token` as the immediate value
  kClear,      ///< its receive is posted: send it as eager pieces, without credit
  kDrop,       ///< it is not wanted: another length or digest than expected
  kCredit,     ///< `bytes` of eager credit of communicator `id.comm` come back
  kSlots,      ///< `token` receives were posted again on lane `lane`
  /// The lanes were made anew, all grants are void; the payload names the queue pairs, `token` is the epoch.
  kReset,
  kResetDone,  ///< the answer, with the other ends
  kLaneDown,   ///< a lane of epoch `token` failed: make them anew
  kGoodbye,    ///< nothing follows
};
inline constexpr std::uint8_t kCounted = 1;    ///< kEager: consumed credit, which the receiver returns
/// kGoodbye: the peer has its own connection to us, by which it says goodbye, too.
inline constexpr std::uint8_t kDialsToo = 2;

struct Frame {
  FrameType type = FrameType::kReady;
  std::uint8_t flags = 0;
  std::uint8_t lane = 0;
  std::uint8_t reserved = 0;
  std::uint32_t slots = 0;  ///< receives for frames that were posted again
  std::uint64_t comm = 0;
  std::uint32_t seq = 0;
  std::uint32_t stream = 0;
  std::uint32_t chunk = 0;
  std::uint32_t key = 0;
  std::uint64_t digest = 0;
  std::uint64_t bytes = 0;  ///< of the whole message
  std::uint64_t address = 0;
  std::uint32_t token = 0;
  std::uint32_t payload = 0;  ///< bytes that follow

  spi::MessageId id() const noexcept { return {comm, seq, stream, chunk}; }
  void set_id(const spi::MessageId& id) noexcept {
    comm = id.comm;
    seq = id.seq;
    stream = id.stream;
    chunk = id.chunk;
  }
};
static_assert(std::is_trivially_copyable_v<Frame> && sizeof(Frame) == 64);

inline constexpr std::size_t kMaxPayload = kBufferBytes - sizeof(Frame);

/// Empty when it makes sense; else what is wrong.
std::string_view check(const Greeting& greeting) noexcept;
std::string_view check(const Frame& frame, std::size_t arrived_bytes) noexcept;

}  // namespace longspan::verbs::wire
