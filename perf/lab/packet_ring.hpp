#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/clock.hpp"

namespace longspan::lab {

/// What a packet carries while the emulated link holds it.
struct PacketRecord {
  TimePoint departs;          ///< the instant its last byte has left the queue
  TimePoint due;              ///< the instant it reaches the other end
  Duration read_lateness{0};  ///< how late the emulator may have been in noticing it
  std::uint32_t length = 0;   ///< bytes of the IP packet
  std::uint32_t stride = 0;   ///< bytes from this record to the next
};

/// First-in-first-out packets in one preallocated block of memory: nothing is allocated per packet.
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

  bool empty() const noexcept { return packets_ == 0; }
  std::size_t packets() const noexcept { return packets_; }

  /// Appends a copy of `packet`; nullptr when there is no room.
  PacketRecord* push(std::span<const std::byte> packet);
  /// The oldest packet. Requires !empty().
  PacketRecord& front();
  std::span<const std::byte> front_bytes();
  void pop();

  /// Calls `visit(record)` oldest first until it returns false.
  template <class Visit>
  void for_each(Visit&& visit) {
    std::size_t position = head_;
    for (std::size_t i = 0; i < packets_; ++i) {
      position = skip_wrap(position);
      PacketRecord& record = at(position);
      if (!visit(record)) return;
      position += record.stride;
    }
  }
  /// Removes every packet that left the queue after `instant`; returns how many.
  std::size_t truncate_after(TimePoint instant);

 private:
  PacketRecord& at(std::size_t offset) const { return *reinterpret_cast<PacketRecord*>(memory_ + offset); }
  /// Records never straddle the end: a record of length 0 says "continue at the start".
  std::size_t skip_wrap(std::size_t position) const;

  std::byte* memory_ = nullptr;
  std::size_t capacity_ = 0;
  std::size_t head_ = 0;
  std::size_t tail_ = 0;
  std::size_t packets_ = 0;
};

}  // namespace longspan::lab
