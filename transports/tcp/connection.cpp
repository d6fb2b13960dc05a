#include "tcp/connection.hpp"

#include <fmt/format.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

namespace longspan::tcp {
namespace {

/// More is not waited for at once: reading goes on while the rest arrives, and the socket's buffer is not run full.
constexpr std::size_t kMostExpected = std::size_t{128} << 10;

Connection::Moved failure(int error) noexcept {
  if (error == EAGAIN || error == EWOULDBLOCK || error == ENOBUFS) return {Connection::Result::kBlocked, 0, error};
  return {Connection::Result::kFailed, 0, error};
}

}  // namespace

security::Introduction introduction(spi::PeerId from, spi::PeerId to, bool sealed) {
  return {"data", fmt::format("{:x}", from), fmt::format("{:x}", to), "", sealed};
}

void Connection::finish_writing() noexcept { ::shutdown(fd_.get(), SHUT_WR); }

void Connection::proved() noexcept {
  if (!session_->done() || !session_->introduction()->sealed) session_.reset();
}

void Connection::expect(std::size_t bytes) noexcept {
  if (session_ != nullptr) return;
  const int wanted = static_cast<int>(std::clamp<std::size_t>(bytes, 1, kMostExpected));
  if (wanted == expected_) return;
  // Linux looks at what is there already when this changes, and signals it.
  if (::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVLOWAT, &wanted, sizeof wanted) == 0) expected_ = wanted;
}

Connection::Moved Connection::write(std::span<iovec> vectors) noexcept {
  if (session_ != nullptr) return session_->write(vectors);
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
  if (session_ != nullptr) return session_->read(vectors);
  while (true) {
    const ssize_t got = ::readv(fd_.get(), vectors.data(), static_cast<int>(vectors.size()));
    if (got > 0) return {Result::kDone, static_cast<std::size_t>(got), 0};
    if (got == 0) return {Result::kEnd, 0, 0};
    if (errno != EINTR) return failure(errno);
  }
}

}  // namespace longspan::tcp
