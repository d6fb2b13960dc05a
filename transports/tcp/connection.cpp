#include "tcp/connection.hpp"

#include <sys/socket.h>

#include <cerrno>

namespace longspan::tcp {
namespace {

Connection::Moved failure(int error) noexcept {
  if (error == EAGAIN || error == EWOULDBLOCK || error == ENOBUFS) return {Connection::Result::kBlocked, 0, error};
  return {Connection::Result::kFailed, 0, error};
}

}  // namespace

void Connection::finish_writing() noexcept { ::shutdown(fd_.get(), SHUT_WR); }

Connection::Moved Connection::write(std::span<iovec> vectors) noexcept {
  msghdr message{};
  message.msg_iov = vectors.data();
  message.msg_iovlen = vectors.size();
  while (true) {
    const ssize_t written = ::sendmsg(fd_.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (written >= 0) return {Result::kDone, static_cast<std::size_t>(written), 0};
    if (errno != EINTR) return failure(errno);
  }
}

Connection::Moved Connection::read(std::span<iovec> vectors) noexcept {
  while (true) {
    const ssize_t got = ::readv(fd_.get(), vectors.data(), static_cast<int>(vectors.size()));
    if (got > 0) return {Result::kDone, static_cast<std::size_t>(got), 0};
    if (got == 0) return {Result::kEnd, 0, 0};
    if (errno != EINTR) return failure(errno);
  }
}

}  // namespace longspan::tcp
