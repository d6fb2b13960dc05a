#pragma once

#include <cstddef>
#include <vector>

#include "base/clock.hpp"
#include "lab/train_memory.hpp"

namespace longspan::lab {

/// The frames that one port had waiting when it was read.
///
/// Nobody knows when each of them came. After a time in which nobody looked, taking them all for coming now would make
/// them a burst that no sender made: a queue, and before it an idle link. They are taken to have come evenly, byte by
/// byte, over that time, the last at its end; so a lone frame keeps the instant at which it was read.
/// Used by one thread.
class WaitingFrames {
 public:
  ~WaitingFrames() { clear(); }

  /// Keeps the frame, of `length` bytes, in its block.
  void add(TrainMemory::Block& block, std::size_t length);
  bool empty() const noexcept { return frames_.empty(); }
  std::size_t size() const noexcept { return frames_.size(); }

  /// Calls `offer(block, length, instant)` for each frame, in their order, with instants in (from, to]; forgets them.
  template <class Offer>
  void spread(TimePoint from, TimePoint to, Offer&& offer) {
    std::size_t before = 0;
    for (const Frame& frame : frames_) {
      before += frame.length;
      offer(*frame.block, frame.length, from + share(to - from, before));
    }
    clear();
  }

 private:
  struct Frame {
    TrainMemory::Block* block;
    std::size_t length;
  };

  Duration share(Duration of, std::size_t bytes) const;
  void clear();

  std::vector<Frame> frames_;
  std::size_t total_bytes_ = 0;
};

}  // namespace longspan::lab
