#pragma once

#include <atomic>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "base/fd.hpp"
#include "device/copier.hpp"
#include "device/cuda/driver.hpp"

namespace longspan::device::cuda {

/// What ended, told by CUDA's host functions, on threads of the driver, to whoever drives progress. An event that is
/// queried would serve as well, but somebody would have to look at it all the time; this wakes whoever blocks in epoll.
class DriverMailbox final : public std::enable_shared_from_this<DriverMailbox> {
 public:
  static Result<std::shared_ptr<DriverMailbox>> create();

  /// Readable when there may be something to take.
  int wait_fd() const noexcept { return bell_.get(); }
  bool any() const noexcept { return any_.load(std::memory_order_acquire); }
  /// The oldest; nothing when all were taken.
  std::optional<Token> take();
  /// Drops what `by` has told `owner`; how many that were. What it still will is told to nobody.
  std::size_t forget(const void* owner, const Copier* by);
  /// Nothing of `by` will come any more: its streams are gone, and a device that failed has not told everything.
  void drop(const Copier* by);

  /// Puts into `stream`: tell `token`. Its context must be current.
  Status tell(const Driver& driver, Stream stream, const Token& token);

 private:
  struct Letter {
    std::shared_ptr<DriverMailbox> to;  // a user's stream may come to it after everything else is gone; nullptr: spare
    Token token;
  };
  static void deliver(void* letter);
  void put_away(Letter& letter);

  Fd bell_;
  std::mutex mutex_;
  std::deque<Token> arrived_;
  std::deque<Letter> letters_;    // those on the way, and
  std::vector<Letter*> spare_;    // those to use again
  std::atomic<bool> any_{false};
};

}  // namespace longspan::device::cuda
