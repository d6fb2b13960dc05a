#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <type_traits>

/// What two processes see of each other: the shared segment of a connection, its records, and the two packets that set
/// it up. One connection carries one direction's messages and their answers; the sender makes it.
namespace longspan::shm {

inline constexpr std::uint32_t kVersion = 2;
inline constexpr std::size_t kUnit = 64;  ///< records begin on cache lines

enum class RecordKind : std::uint8_t {
  kSkip = 1,  ///< nothing up to the end of the ring
  // from the sender
  kEager,    ///< a whole message as payload
  kOffer,    ///< a message to be fetched: payload OfferBody
  kSegment,  ///< staged bytes: `offer` is the receiver's token, `digest` the offset
  kGone,     ///< the region `offer` was given up
  // from the receiver
  kDone,    ///< `offer` is no longer needed: fetched or dropped
  kStage,   ///< send `offer` as segments for the token in `digest`
  kCredit,  ///< `digest` bytes of eager data of `comm` were consumed
  // from both
  kGoodbye,  ///< nothing follows; `offer` is 1 when this side also has a connection of its own to the other
};

/// The first 48 bytes of a record; the payload follows.
struct Record {
  std::atomic<std::uint32_t> ready{0};  ///< 1 once everything else is written
  RecordKind kind{};
  std::array<std::uint8_t, 3> unused{};
  std::uint32_t payload = 0;  ///< bytes
  std::uint32_t offer = 0;
  std::uint64_t comm = 0;
  std::uint64_t digest = 0;
  std::uint32_t seq = 0;
  std::uint32_t stream = 0;
  std::uint32_t chunk = 0;
  std::uint32_t slot = 0;  ///< kOffer: index of its state, or kNoSlot

  std::byte* data() noexcept { return reinterpret_cast<std::byte*>(this + 1); }
  const std::byte* data() const noexcept { return reinterpret_cast<const std::byte*>(this + 1); }
};
static_assert(sizeof(Record) == 48 && std::is_standard_layout_v<Record>);
static_assert(std::atomic<std::uint32_t>::is_always_lock_free && std::atomic<std::uint64_t>::is_always_lock_free);

constexpr std::size_t record_bytes(std::size_t payload) noexcept {
  return (sizeof(Record) + payload + kUnit - 1) / kUnit * kUnit;
}

struct OfferBody {
  std::uint64_t address = 0;  ///< in the sender's address space, or from the start of where it is
  std::uint64_t length = 0;
  std::uint32_t where = kPrivate;
  std::uint32_t unused = 0;

  static constexpr std::uint32_t kPrivate = UINT32_MAX;
  static constexpr std::uint32_t kHeap = 0;  ///< a copy in the sender's staging heap; other numbers are regions
};

/// Of one peer, mapped at one time: far below what the kernel allows a process.
inline constexpr std::size_t kMostRegions = 1024;

/// Where a ring's reader is.
struct RingState {
  alignas(kUnit) std::atomic<std::uint64_t> head{0};
  alignas(kUnit) std::atomic<std::uint32_t> writer_waits{0};  ///< the writer wants to be woken when there is room
};

/// May an offered buffer be read now? The sender takes an offer back only while nobody reads it.
enum class OfferState : std::uint32_t { kOffered = 0, kReading = 1, kRevoked = 2 };

inline constexpr std::uint32_t kOfferSlots = 1024;
inline constexpr std::uint32_t kNoSlot = UINT32_MAX;  ///< more offers than slots: only segments will do

struct SegmentHeader {
  RingState forward;
  RingState backward;
  alignas(kUnit) std::array<std::atomic<std::uint32_t>, kOfferSlots> offers{};
};

inline constexpr std::size_t kHeaderBytes = 8192;
inline constexpr std::size_t kForwardBytes = std::size_t{256} << 10;
inline constexpr std::size_t kBackwardBytes = std::size_t{32} << 10;
inline constexpr std::size_t kSegmentBytes = kHeaderBytes + kForwardBytes + kBackwardBytes;
static_assert(sizeof(SegmentHeader) <= kHeaderBytes);

/// Shared by an endpoint with all its peers: does it sleep?
struct BellPage {
  alignas(kUnit) std::atomic<std::uint32_t> sleeping{0};
};
inline constexpr std::size_t kBellBytes = 4096;

/// Dialer to acceptor, with the descriptors of the segment, the dialer's bell page, its eventfd and its staging
/// heap.
struct Hello {
  std::array<char, 8> magic{'l', 's', '-', 's', 'h', 'm', 0, 0};
  std::uint32_t version = kVersion;
  std::uint32_t unused = 0;
  std::uint64_t job = 0;
  std::uint64_t self = 0;
  std::uint64_t credit = 0;         ///< bytes that the dialer sends ahead, per communicator
  std::uint64_t probe_address = 0;  ///< where `probe_value` stands in the dialer's memory
  std::uint64_t probe_value = 0;
  std::uint64_t segment_address = 0;  ///< of the segment in the dialer: names it for ThreadSanitizer
};

/// Dialer to acceptor, with the descriptor of memory: a region, or, when the dialer leaves before its offers were
/// fetched, what holds them: `count` entries, then their bytes.
struct Handover {
  std::uint64_t bytes = 0;  ///< of the memory
  std::uint32_t region = 0;  ///< its number; 0: what was left behind
  std::uint32_t count = 0;
};
struct BequestEntry {
  std::uint64_t comm = 0;
  std::uint32_t seq = 0;
  std::uint32_t stream = 0;
  std::uint32_t chunk = 0;
  std::uint32_t unused = 0;
  std::uint64_t digest = 0;
  std::uint64_t offset = 0;  ///< from the start of the memory
  std::uint64_t length = 0;
};

enum class Verdict : std::uint32_t { kWelcome = 0, kOtherJob = 1, kOtherVersion = 2, kAlreadyConnected = 3 };

/// How the acceptor reads what is too large for the ring.
enum class Reach : std::uint32_t {
  kSameProcess = 0,  ///< by pointer
  kFetch = 1,        ///< copying from the dialer's own memory
  kStage = 2,        ///< that is slow or not possible: put it into the heap
};

/// Acceptor to dialer, with the descriptors of its bell page and its eventfd when welcome.
struct Welcome {
  std::array<char, 8> magic{'l', 's', '-', 's', 'h', 'm', 0, 1};
  Verdict verdict = Verdict::kWelcome;
  Reach reach = Reach::kStage;
  std::uint64_t self = 0;
};

}  // namespace longspan::shm
