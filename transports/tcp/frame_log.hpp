#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "base/clock.hpp"
#include "base/containers.hpp"
#include "tcp/outbox.hpp"
#include "tcp/wire.hpp"

namespace longspan::tcp {

/// A header, and the payload after it, on its way to the other side.
struct OutFrame {
  wire::Header header{};
  const std::byte* payload = nullptr;
  std::size_t payload_bytes = 0;
  SendMessage* message = nullptr;  ///< the payload is its source, which must stay; nullptr: nobody's
  BufferPool::Buffer owned;        ///< a copy of the payload, once its source was let go
  bool counted = false;            ///< numbered, and kept until acknowledged
  bool written = false;            ///< the kernel had all of it at least once
  bool repeated = false;           ///< another lane carries it too
  TimePoint written_at{};          ///< or taken, while it is not written entirely

  std::size_t bytes() const noexcept { return wire::kHeaderBytes + payload_bytes; }
};

/// What one side of a lane sends, in order: frames on the wire that the other side has not acknowledged, then frames to
/// be written. After a reconnect, writing starts again behind what the other side has. No I/O here.
class FrameLog {
 public:
  std::size_t size() const noexcept { return size_; }
  bool empty() const noexcept { return size_ == 0; }
  OutFrame& operator[](std::size_t i) noexcept { return slots_[(head_ + i) & (slots_.size() - 1)]; }
  /// The first frame that is not entirely written is at this index.
  std::size_t next_to_write() const noexcept { return written_; }
  std::size_t unwritten() const noexcept { return size_ - written_; }
  std::size_t unwritten_bytes() const noexcept { return unwritten_bytes_; }
  std::uint64_t acknowledged() const noexcept { return acknowledged_; }
  /// The number of the next counted frame.
  std::uint64_t next_number() const noexcept { return next_number_; }
  bool all_acknowledged() const noexcept { return acknowledged_ == next_number_; }

  /// A new frame at the end; call `ready` when it is filled in.
  OutFrame& append() {
    if (size_ == slots_.size()) grow();
    return (*this)[size_];
  }
  void ready(OutFrame& frame) noexcept {
    ++size_;
    if (frame.counted) ++next_number_;
    unwritten_bytes_ += frame.bytes();
  }

  /// The next frame is on the wire entirely.
  OutFrame& wrote() noexcept {
    OutFrame& frame = (*this)[written_++];
    unwritten_bytes_ -= frame.bytes();
    return frame;
  }
  /// The other side has `count` counted frames: `let_go` gets those that leave. False: it cannot have that many.
  template <class LetGo>
  bool acknowledge(std::uint64_t count, LetGo let_go) {
    if (count < acknowledged_) return true;  // overtaken by a later one
    while (written_ > 0) {
      OutFrame& frame = slots_[head_];
      if (frame.counted && acknowledged_ == count) break;
      if (frame.counted) ++acknowledged_;
      let_go(frame);
      drop_front();
    }
    return acknowledged_ == count;
  }
  /// Writing starts again with the first frame that is not acknowledged. What belonged to the lost connection goes.
  template <class LetGo>
  void rewind(LetGo let_go) {
    std::size_t kept = 0;
    unwritten_bytes_ = 0;
    for (std::size_t i = 0; i < size_; ++i) {
      OutFrame& frame = (*this)[i];
      if (!frame.counted) {
        let_go(frame);
        continue;
      }
      unwritten_bytes_ += frame.bytes();
      if (kept != i) std::swap((*this)[kept], frame);
      ++kept;
    }
    size_ = kept;
    written_ = 0;
  }
  template <class LetGo>
  void clear(LetGo let_go) {
    for (; size_ > 0; drop_front()) let_go(slots_[head_]);
    written_ = unwritten_bytes_ = 0;
    acknowledged_ = next_number_;
  }

 private:
  void drop_front() noexcept {
    head_ = (head_ + 1) & (slots_.size() - 1);
    --size_;
    if (written_ > 0) --written_;
  }
  void grow() {
    std::vector<OutFrame> larger(slots_.empty() ? 32 : slots_.size() * 2);
    for (std::size_t i = 0; i < size_; ++i) larger[i] = std::move((*this)[i]);
    slots_ = std::move(larger);
    head_ = 0;
  }

  std::vector<OutFrame> slots_;
  std::size_t head_ = 0;
  std::size_t size_ = 0;
  std::size_t written_ = 0;
  std::size_t unwritten_bytes_ = 0;
  std::uint64_t acknowledged_ = 0;
  std::uint64_t next_number_ = 0;
};

}  // namespace longspan::tcp
