#include "bootstrap/stream.hpp"

#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <span>

#include "bootstrap/rendezvous_messages.hpp"

namespace longspan::bootstrap {
namespace {

using Progress = security::Session::Progress;

ssize_t as_result(const security::Moved& moved) {
  switch (moved.result) {
    case security::MoveResult::kDone: return static_cast<ssize_t>(moved.bytes);
    case security::MoveResult::kEnd: return 0;
    case security::MoveResult::kBlocked: errno = EAGAIN; return -1;
    case security::MoveResult::kFailed: errno = moved.error; return -1;
  }
  return -1;
}

}  // namespace

Stream Stream::dialed(Fd fd, const security::Guard* guard, const security::Introduction& introduction) {
  Stream stream(std::move(fd));
  if (guard != nullptr) stream.session_ = guard->dial(stream.fd_.get(), introduction);
  return stream;
}

Stream Stream::accepted(Fd fd, const security::Guard* guard) {
  Stream stream(std::move(fd));
  if (guard != nullptr) stream.session_ = guard->accept(stream.fd_.get());
  stream.may_be_keyed_ = guard == nullptr;
  return stream;
}

/// False: not yet, or never, as errno says.
bool Stream::prove() {
  if (may_be_keyed_) {
    std::array<std::byte, 2> begin{};
    const ssize_t got = ::recv(fd_.get(), begin.data(), begin.size(), MSG_PEEK | MSG_DONTWAIT);
    if (got <= 0) return true;  // nothing yet, or what the caller's own call will show
    may_be_keyed_ = false;
    // Heard out for its introduction: whoever misses that rank can then be told why it does not come.
    const auto keyless = security::begins_handshake(begin) ? security::Guard::keyless() : nullptr;
    if (keyless != nullptr) session_ = keyless->accept(fd_.get());
  }
  if (session_ == nullptr || session_->done()) return true;
  const Progress progress = session_->handshake();
  waits_to_write_ = progress == Progress::kWantsWrite;
  errno = progress == Progress::kFailed ? EKEYREJECTED : EAGAIN;
  return progress == Progress::kDone;
}

ssize_t Stream::receive(char* to, std::size_t bytes) {
  if (!prove()) return -1;
  if (session_ == nullptr) return ::recv(fd_.get(), to, bytes, MSG_DONTWAIT);
  const iovec vector{to, bytes};
  return as_result(session_->read(std::span(&vector, 1)));
}

ssize_t Stream::send(const char* from, std::size_t bytes) {
  if (!prove()) return -1;
  if (session_ == nullptr) return ::send(fd_.get(), from, bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
  const iovec vector{const_cast<char*>(from), bytes};
  return as_result(session_->write(std::span(&vector, 1)));
}

short Stream::wait_to_send() const noexcept {
  const bool handshaking = session_ != nullptr && !session_->done();
  return handshaking && !waits_to_write_ ? POLLIN : POLLOUT;
}

void Stream::tell_of_key() {
  if (failure() != security::Failure::kNoKey && failure() != security::Failure::kOtherKey) return;
  // What is unread would turn the end into a reset, which may overtake the answer.
  std::array<char, 4096> unread;
  for (int i = 0; i < 32 && ::recv(fd_.get(), unread.data(), unread.size(), MSG_DONTWAIT) > 0; ++i) {
  }
  const std::string answer = make_frame(static_cast<std::uint16_t>(RendezvousMessage::kKeyNeeded), "");
  (void)!::send(fd_.get(), answer.data(), answer.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
}

}  // namespace longspan::bootstrap
