#pragma once

#include <unistd.h>

#include <utility>

#include "base/fork_guard.hpp"

namespace longspan {

/// Owns one file descriptor; closes it when it goes.
class Fd {
 public:
  Fd() noexcept = default;
  explicit Fd(int fd) noexcept : fd_(fd) { fork_guard::opened(fd_); }
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    if (this != &other) reset(other.release());
    return *this;
  }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  ~Fd() { reset(); }

  int get() const noexcept { return fd_; }
  bool valid() const noexcept { return fd_ >= 0; }
  explicit operator bool() const noexcept { return valid(); }
  int release() noexcept {
    if (fd_ >= 0) fork_guard::closing(fd_);
    return std::exchange(fd_, -1);
  }
  void reset(int fd = -1) noexcept {
    if (fd_ >= 0 && fork_guard::closing(fd_)) ::close(fd_);
    fd_ = fd;
    fork_guard::opened(fd_);
  }

 private:
  int fd_ = -1;
};

}  // namespace longspan
