#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "device/copier.hpp"
#include "longspan/spi/transport.hpp"
#include "longspan/status.hpp"

namespace longspan::runtime {

struct WorkState;

/// A send or receive of which not the whole message is one piece of host memory. The message of a sender's device
/// memory goes in pieces where it is long: its chunk 0 comes empty, chunk 1 is a PieceHeader, and the pieces are chunk
/// 2 and on. So a receiver need not know beforehand, and neither side holds more than a few pieces in page-locked
/// memory, which are moved, sent and received at the same time. An empty message has a header too, which says so.
struct PieceHeader {
  std::uint64_t bytes = 0;  ///< of the whole message
  std::uint64_t piece = 0;  ///< of each piece but the last
};
inline constexpr std::uint32_t kHeaderChunk = 1;
inline constexpr std::uint32_t kFirstPieceChunk = 2;
inline constexpr std::size_t kPieceBytes = std::size_t{1} << 20;

/// Guarded by the Domain's lock. Finishes its work when it is over.
class StagedMessage {
 public:
  /// `channel` leads to the peer, `id` names chunk 0. `copier`: of the device that holds the buffer; nullptr: none.
  StagedMessage(WorkState& work, spi::Channel& channel, const spi::MessageId& id, device::Copier* copier);
  StagedMessage(const StagedMessage&) = delete;
  StagedMessage& operator=(const StagedMessage&) = delete;
  virtual ~StagedMessage() { end(); }

  /// One of its messages is sent, or received, without an error.
  static void completed(const spi::Completion& completion);
  static StagedMessage* of(void* context) noexcept;
  static bool owns(const void* context) noexcept { return (reinterpret_cast<std::uintptr_t>(context) & kTag) == kTag; }
  /// The same of what a Copier tells.
  static StagedMessage* of(const device::Token& token) noexcept;
  void copied(const device::Token& token);
  static bool owns(const device::Token& token) noexcept { return owns(token.owner); }

  WorkState& work() noexcept { return work_; }
  bool copies() const noexcept { return copies_ > 0; }
  /// Gives its memory back; what still moves is waited for. The transports must have forgotten it.
  void end() noexcept;

 protected:
  struct Part {
    StagedMessage* owner = nullptr;
    std::uint32_t number = 0;  // of the piece that is in it
  };
  static constexpr std::uint32_t kParts = 8;       // pieces that are under way at once
  static constexpr std::uint32_t kHeader = kParts;  // the part of the header

  // True: it is over, as outcome_ says.
  virtual Result<bool> part_completed(std::uint32_t part, std::size_t bytes) = 0;
  virtual Result<bool> part_copied(std::uint32_t part) = 0;

  Status take(std::uint32_t parts, std::size_t bytes);
  std::span<std::byte> part_memory(std::uint32_t part, std::size_t bytes) const;
  /// Between the part's memory and the buffer, from `offset` on.
  Status move(bool to_device, std::uint32_t part, std::size_t offset, std::size_t bytes);
  void post(std::uint32_t part, std::uint32_t chunk, std::span<std::byte> data, bool any_length);
  void send(std::uint32_t part, std::uint32_t chunk, std::span<const std::byte> data);
  std::uint32_t pieces() const;
  std::size_t piece_bytes(std::uint32_t piece) const;

  WorkState& work_;
  spi::Channel& channel_;
  spi::MessageId id_;
  device::Copier* copier_;
  PieceHeader header_;
  std::array<Part, kParts + 1> parts_;
  std::uint32_t next_ = 0;  // piece
  std::uint32_t left_ = 0;  // pieces, and a sender's header, that are not done
  Status outcome_;

 private:
  static constexpr std::uintptr_t kTag = 5;  // beside that of other sends and receives, which is 1
  void* tagged(const void* pointer) const noexcept;
  void advance(const Result<bool>& over);

  std::span<std::byte> memory_;
  std::vector<std::byte> own_memory_;  // where no copier gives any
  std::size_t part_bytes_ = 0;
  std::uint32_t copies_ = 0;
};

/// Device memory on its way to a peer.
class StagedSend final : public StagedMessage {
 public:
  using StagedMessage::StagedMessage;
  Status begin();
  /// What tells a receiver that an empty message is all there is.
  static void send_empty(spi::Channel& channel, spi::MessageId id);

 private:
  Result<bool> part_completed(std::uint32_t part, std::size_t bytes) override;
  Result<bool> part_copied(std::uint32_t part) override;
  Status fill(std::uint32_t part);
};

/// A message on its way into device memory, or one that comes in pieces.
class StagedReceive final : public StagedMessage {
 public:
  using StagedMessage::StagedMessage;
  /// Into device memory: the length of chunk 0 must be known, unless this says otherwise.
  static bool must_be_announced(std::size_t room) noexcept { return room > kPieceBytes; }
  Status begin(std::size_t length);
  /// Chunk 0 has come empty.
  void begin_pieces();

 private:
  enum class State : std::uint8_t { kWhole, kHeader, kPieces };
  Result<bool> part_completed(std::uint32_t part, std::size_t bytes) override;
  Result<bool> part_copied(std::uint32_t part) override;
  Result<bool> on_header();
  void post_piece(std::uint32_t part);
  bool piece_done(std::uint32_t part);

  State state_ = State::kWhole;
  bool too_long_ = false;  // pieces are received, since the sender waits, and dropped
};

}  // namespace longspan::runtime
