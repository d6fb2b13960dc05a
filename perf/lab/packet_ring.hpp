#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/clock.hpp"
#include "lab/packet_train.hpp"
#include "lab/train_memory.hpp"

namespace longspan::lab {

/// One packet, or a few that travel together, while the emulated link holds them.
struct PacketRecord {
  TimePoint departs;             ///< the instant the last byte has left the queue
  TimePoint due;                 ///< the instant it reaches the other end
  Duration serialisation{0};     ///< the time all of them take on the link
  Duration read_lateness{0};     ///< how late the emulator may have been in noticing them
  std::uint32_t length = 0;      ///< bytes of the frame that follows this record
  std::uint32_t stride = 0;      ///< bytes from this record to the next
  std::uint32_t wire_bytes = 0;  ///< bytes of all their IP packets
  std::uint32_t packets = 1;
  TrainLayout layout;
  bool continues = false;  ///< the record before has the packets before these, of the same train
  std::span<const std::byte> elsewhere;  ///< the rest of the frame, where it was read to; empty when it was copied
  TrainMemory::Block* block = nullptr;   ///< what `elsewhere` lies in

  std::span<std::byte> bytes() noexcept { return {reinterpret_cast<std::byte*>(this + 1), length}; }
  std::span<const std::byte> bytes() const noexcept { return {reinterpret_cast<const std::byte*>(this + 1), length}; }
};

/// First-in-first-out records in one preallocated block of memory: nothing is allocated per packet.
///
/// Used by one thread.
class PacketRing {
 public:
  explicit PacketRing(std::size_t capacity_bytes);
  ~PacketRing();
  PacketRing(PacketRing&& other) noexcept;
  PacketRing& operator=(PacketRing&&) = delete;
  PacketRing(const PacketRing&) = delete;
  PacketRing& operator=(const PacketRing&) = delete;

  bool empty() const noexcept { return records_ == 0; }
  std::size_t records() const noexcept { return records_; }

  /// Appends a record with room for `length` bytes, at least one; nullptr when the ring is full. The record gives back
  /// its block, if it gets one, when it is removed.
  PacketRecord* push(std::size_t length);
  /// The oldest record. Requires !empty().
  PacketRecord& front();
  void pop();

  /// Calls `visit(record)` oldest first until it returns false.
  template <class Visit>
  void for_each(Visit&& visit) {
    std::size_t position = head_;
    for (std::size_t i = 0; i < records_; ++i) {
      position = skip_wrap(position);
      PacketRecord& record = at(position);
      if (!visit(record)) return;
      position += record.stride;
    }
  }
  /// Removes every record that left the queue after `instant`; returns how many.
  std::size_t truncate_after(TimePoint instant);

 private:
  PacketRecord& at(std::size_t offset) const { return *reinterpret_cast<PacketRecord*>(memory_ + offset); }
  /// Records never straddle the end: a record of length 0 says "continue at the start".
  std::size_t skip_wrap(std::size_t position) const;

  std::byte* memory_ = nullptr;
  std::size_t capacity_ = 0;
  std::size_t head_ = 0;
  std::size_t tail_ = 0;
  std::size_t records_ = 0;
};

}  // namespace longspan::lab
