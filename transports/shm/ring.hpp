#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "shm/layout.hpp"
#include "shm/tsan.hpp"

namespace longspan::shm {

/// The writing end of a ring of records; one thread. A record is announced by its own first word, so that a small
/// message costs the reader one cache line. For that the writer clears the word of the place after each record before
/// it announces the record: there is always one free unit ahead.
class RingWriter {
 public:
  RingWriter() = default;
  RingWriter(std::byte* data, std::size_t bytes, RingState* state, void* tsan_name)
      : data_(data), bytes_(bytes), state_(state), tsan_name_(tsan_name) {}

  /// Room for a record with `payload` bytes, to be filled and then published before the next reserve; nullptr: full.
  Record* reserve(std::size_t payload) noexcept {
    const std::size_t need = record_bytes(payload);
    const std::size_t offset = static_cast<std::size_t>(tail_ % bytes_);
    const std::size_t to_end = bytes_ - offset;
    const std::size_t skip = need > to_end ? to_end : 0;
    if (!has_room(need + skip + kUnit)) return nullptr;
    if (skip != 0) {
      Record* record = at(tail_);
      record->kind = RecordKind::kSkip;
      record->payload = static_cast<std::uint32_t>(to_end - sizeof(Record));
      publish(record);
    }
    Record* record = at(tail_);
    record->payload = static_cast<std::uint32_t>(payload);
    return record;
  }

  /// Shows the reserved record to the reader. Sequentially consistent with the reader's sleeping flag, which the caller
  /// looks at next.
  void publish(Record* record) noexcept {
    tail_ += record_bytes(record->payload);
    at(tail_)->ready.store(0, std::memory_order_relaxed);
    tsan_release(tsan_name_);
    record->ready.store(1, std::memory_order_seq_cst);
    // The reader still holds these lines from the lap before: fetching them back now, while nobody waits, takes a third
    // off the next small message.
    for (std::size_t ahead = 0; ahead <= kAhead; ahead += kUnit) __builtin_prefetch(at(tail_ + ahead), 1);
  }

  /// Before sleeping with something to write: asks the reader for a wake-up. True when there is room after all.
  bool wait_for_room(std::size_t payload) noexcept {
    state_->writer_waits.store(1, std::memory_order_seq_cst);
    return room_after_refresh(2 * record_bytes(payload) + kUnit);
  }

 private:
  static constexpr std::size_t kAhead = 1088;  // a record of 1 KiB

  Record* at(std::uint64_t position) const noexcept {
    return reinterpret_cast<Record*>(data_ + static_cast<std::size_t>(position % bytes_));
  }
  bool has_room(std::size_t need) noexcept {
    return bytes_ - static_cast<std::size_t>(tail_ - seen_head_) >= need || room_after_refresh(need);
  }
  bool room_after_refresh(std::size_t need) noexcept {
    seen_head_ = state_->head.load(std::memory_order_seq_cst);
    tsan_acquire(tsan_name_);
    return bytes_ - static_cast<std::size_t>(tail_ - seen_head_) >= need;
  }

  std::byte* data_ = nullptr;
  std::size_t bytes_ = 0;
  RingState* state_ = nullptr;
  void* tsan_name_ = nullptr;
  std::uint64_t tail_ = 0;
  std::uint64_t seen_head_ = 0;
};

/// The reading end; one thread.
class RingReader {
 public:
  RingReader() = default;
  RingReader(std::byte* data, std::size_t bytes, RingState* state, void* tsan_name)
      : data_(data), bytes_(bytes), state_(state), tsan_name_(tsan_name) {}

  bool attached() const noexcept { return data_ != nullptr; }
  /// A record is there (sequentially consistent with the caller's sleeping flag).
  bool ready() const noexcept { return at(head_)->ready.load(std::memory_order_seq_cst) != 0; }

  /// The oldest record, or nullptr. Stays until pop.
  Record* front() noexcept {
    for (;;) {
      Record* record = at(head_);
      if (record->ready.load(std::memory_order_acquire) == 0) return nullptr;
      tsan_acquire(tsan_name_);
      const std::size_t left = bytes_ - static_cast<std::size_t>(head_ % bytes_);
      if (record_bytes(record->payload) > left) {  // only a writer that went mad, or hostile, does this
        corrupt_ = true;
        return nullptr;
      }
      if (record->kind != RecordKind::kSkip) return record;
      pop(record);
    }
  }
  void pop(const Record* record) noexcept { head_ += record_bytes(record->payload); }
  /// Gives the room of popped records back; true when the writer waits for it and must be woken.
  bool commit() noexcept {
    if (head_ == committed_) return false;
    committed_ = head_;
    tsan_release(tsan_name_);
    state_->head.store(head_, std::memory_order_seq_cst);
    return state_->writer_waits.load(std::memory_order_seq_cst) != 0 &&
           state_->writer_waits.exchange(0, std::memory_order_seq_cst) != 0;
  }
  std::size_t uncommitted() const noexcept { return static_cast<std::size_t>(head_ - committed_); }
  bool corrupt() const noexcept { return corrupt_; }

 private:
  Record* at(std::uint64_t position) const noexcept {
    return reinterpret_cast<Record*>(data_ + static_cast<std::size_t>(position % bytes_));
  }

  std::byte* data_ = nullptr;
  std::size_t bytes_ = 0;
  RingState* state_ = nullptr;
  void* tsan_name_ = nullptr;
  std::uint64_t head_ = 0;
  std::uint64_t committed_ = 0;
  bool corrupt_ = false;
};

}  // namespace longspan::shm
