#include "shm/bell.hpp"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>

namespace longspan::shm {

Result<Bell> Bell::create() {
  Bell bell;
  LONGSPAN_ASSIGN(bell.page_, SharedMemory::create(kBellBytes, "longspan-bell"));
  bell.event_ = Fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!bell.event_) return system_error("shm: eventfd", errno);
  return bell;
}

void Bell::drain() noexcept {
  std::uint64_t rings = 0;
  [[maybe_unused]] const ssize_t got = ::read(event_.get(), &rings, sizeof(rings));
}

Result<PeerBell> PeerBell::attach(Fd page, Fd event) {
  PeerBell bell;
  LONGSPAN_ASSIGN(bell.page_, SharedMemory::attach(std::move(page), kBellBytes));
  bell.page_.close_fd();
  bell.event_ = std::move(event);
  return bell;
}

void PeerBell::wake() const noexcept {
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(event_.get(), &one, sizeof(one));  // full means: it wakes anyway
}

}  // namespace longspan::shm
