#include "verbs/free_watch.hpp"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif

namespace longspan::verbs {

std::unique_ptr<FreeWatch> FreeWatch::open() {
  Fd events(static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY)));
  if (!events.valid()) return nullptr;
  uffdio_api api{};
  api.api = UFFD_API;
  api.features =
      UFFD_FEATURE_EVENT_UNMAP | UFFD_FEATURE_EVENT_REMOVE | UFFD_FEATURE_EVENT_REMAP | UFFD_FEATURE_PAGEFAULT_FLAG_WP;
  if (::ioctl(events.get(), UFFDIO_API, &api) != 0) return nullptr;
  Fd stop(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!stop.valid()) return nullptr;
  return std::unique_ptr<FreeWatch>(new FreeWatch(std::move(events), std::move(stop)));
}

FreeWatch::FreeWatch(Fd events, Fd stop)
    : events_(std::move(events)), stop_(std::move(stop)), thread_([this] { run(); }) {}

FreeWatch::~FreeWatch() {
  const std::uint64_t one = 1;
  static_cast<void>(!::write(stop_.get(), &one, sizeof one));
  thread_.join();
}

bool FreeWatch::add(Range range) noexcept {
  uffdio_register request{};
  request.range = {range.begin, range.end - range.begin};
  request.mode = UFFDIO_REGISTER_MODE_WP;
  return ::ioctl(events_.get(), UFFDIO_REGISTER, &request) == 0;
}

void FreeWatch::remove(Range range) noexcept {
  uffdio_range request{range.begin, range.end - range.begin};
  ::ioctl(events_.get(), UFFDIO_UNREGISTER, &request);  // fails where the memory is gone already
}

FreeWatch::Freed FreeWatch::take() noexcept {
  const std::scoped_lock lock(mutex_);
  read_events();
  Freed taken = freed_;
  freed_.count = 0;
  freed_.too_many = false;
  return taken;
}

void FreeWatch::read_events() noexcept {
  uffd_msg message{};
  while (::read(events_.get(), &message, sizeof message) == static_cast<ssize_t>(sizeof message)) {
    Range range;
    if (message.event == UFFD_EVENT_REMAP) {
      range = {message.arg.remap.from, message.arg.remap.from + message.arg.remap.len};
    } else if (message.event == UFFD_EVENT_REMOVE || message.event == UFFD_EVENT_UNMAP) {
      range = {message.arg.remove.start, message.arg.remove.end};
    } else {
      continue;
    }
    if (freed_.count < freed_.ranges.size()) freed_.ranges[freed_.count++] = range;
    else freed_.too_many = true;
  }
}

void FreeWatch::run() noexcept {
  std::array<pollfd, 2> waits{pollfd{events_.get(), POLLIN, 0}, pollfd{stop_.get(), POLLIN, 0}};
  while (true) {
    if (::poll(waits.data(), waits.size(), -1) < 0 && errno != EINTR) return;
    if (waits[1].revents != 0) return;
    // Read under the lock: whoever unmapped goes on when the event is read, and must then find it noted.
    const std::scoped_lock lock(mutex_);
    read_events();
  }
}

}  // namespace longspan::verbs
