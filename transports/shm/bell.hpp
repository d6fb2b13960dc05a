#pragma once

#include <cstdint>

#include "base/fd.hpp"
#include "longspan/status.hpp"
#include "shm/layout.hpp"
#include "shm/shared_memory.hpp"

namespace longspan::shm {

/// An endpoint's own bell: it says that it sleeps, and peers that have work for it then write its eventfd.
class Bell {
 public:
  static Result<Bell> create();

  int fd() const noexcept { return event_.get(); }
  int page_fd() const noexcept { return page_.fd(); }
  /// Before looking at the rings for the last time and sleeping.
  void sleep() noexcept { flag().store(1, std::memory_order_seq_cst); }
  void awake() noexcept { flag().store(0, std::memory_order_relaxed); }
  /// Makes the eventfd unreadable.
  void drain() noexcept;

 private:
  std::atomic<std::uint32_t>& flag() const noexcept { return reinterpret_cast<BellPage*>(page_.data())->sleeping; }

  SharedMemory page_;
  Fd event_;
};

/// A peer's bell.
class PeerBell {
 public:
  PeerBell() = default;
  static Result<PeerBell> attach(Fd page, Fd event);

  bool attached() const noexcept { return page_.valid(); }
  /// After publishing (sequentially consistent): costs a load unless the peer sleeps.
  void ring() const noexcept {
    auto& sleeping = reinterpret_cast<BellPage*>(page_.data())->sleeping;
    if (sleeping.load(std::memory_order_seq_cst) != 0 && sleeping.exchange(0, std::memory_order_seq_cst) != 0) wake();
  }

 private:
  void wake() const noexcept;

  SharedMemory page_;
  Fd event_;
};

}  // namespace longspan::shm
