#pragma once

#include <sys/types.h>

#include <cstddef>
#include <memory>
#include <string_view>

#include "base/fd.hpp"
#include "security/session.hpp"

namespace longspan::bootstrap {

/// A connected socket of the bootstrap. In a job with a key both sides prove it before anything else, and all is
/// sealed; the handshake goes on inside of `send` and `receive`, so that who uses a stream need not know of it.
class Stream {
 public:
  Stream() noexcept = default;
  explicit Stream(Fd fd) noexcept : fd_(std::move(fd)) {}
  /// `guard` nullptr: the job has no key.
  static Stream dialed(Fd fd, const security::Guard* guard, const security::Introduction& introduction);
  static Stream accepted(Fd fd, const security::Guard* guard);
  Stream(Stream&&) noexcept = default;
  Stream& operator=(Stream&& other) noexcept {
    session_ = std::move(other.session_);  // before the socket that it uses
    fd_ = std::move(other.fd_);
    may_be_keyed_ = other.may_be_keyed_;
    waits_to_write_ = other.waits_to_write_;
    return *this;
  }
  ~Stream() { session_.reset(); }

  int fd() const noexcept { return fd_.get(); }
  bool valid() const noexcept { return fd_.valid(); }
  void reset() noexcept {
    session_.reset();
    fd_.reset();
  }

  /// As recv() and send() of a non-blocking socket; never a signal. Once a proof has failed: -1 with EKEYREJECTED.
  ssize_t receive(char* to, std::size_t bytes);
  ssize_t send(const char* from, std::size_t bytes);
  /// poll()'s event to wait for after a send that would block: in a handshake it may be the other side's turn.
  short wait_to_send() const noexcept;

  /// Why the proof failed; kNone: it did not.
  security::Failure failure() const noexcept {
    return session_ == nullptr ? security::Failure::kNone : session_->failure();
  }
  /// What the dialer said of itself: proved, if nothing failed. nullptr: nothing, or there is no key.
  const security::Introduction* introduction() const noexcept {
    return session_ == nullptr || !session_->introduction() ? nullptr : &*session_->introduction();
  }
  /// After a failed proof: lets the other side know, in the clear, that one of both has no key. Nothing for strangers.
  void tell_of_key();

 private:
  bool prove();

  Fd fd_;
  std::unique_ptr<security::Session> session_;
  bool may_be_keyed_ = false;  // accepted without a key here: the other side may have one, or think so
  bool waits_to_write_ = false;
};

}  // namespace longspan::bootstrap
