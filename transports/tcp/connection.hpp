#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <memory>
#include <span>
#include <utility>

#include "base/fd.hpp"
#include "longspan/spi/transport.hpp"
#include "security/session.hpp"

namespace longspan::tcp {

/// How the peer `from` introduces itself to the peer `to` when it proves the job's key.
security::Introduction introduction(spi::PeerId from, spi::PeerId to, bool sealed);

/// One socket, and what protects it. Every byte that the transport sends or receives passes through `write` and `read`,
/// never blocking; the protection travels along when a connection moves from its handshake to its lane.
class Connection {
 public:
  using Result = security::MoveResult;
  using Moved = security::Moved;

  Connection() noexcept = default;
  explicit Connection(Fd fd) noexcept : fd_(std::move(fd)) {}
  Connection(Connection&&) noexcept = default;
  Connection& operator=(Connection&& other) noexcept {
    session_ = std::move(other.session_);  // before the socket that it uses
    fd_ = std::move(other.fd_);
    expected_ = other.expected_;
    return *this;
  }
  ~Connection() { session_.reset(); }

  int fd() const noexcept { return fd_.get(); }
  bool valid() const noexcept { return fd_.valid(); }
  void close() noexcept {
    session_.reset();
    fd_.reset();
    expected_ = 1;
  }
  /// No more will be written; the other side sees the end of the stream after what was.
  void finish_writing() noexcept;

  /// The job's key is proved with `session` before anything else passes.
  void protect(std::unique_ptr<security::Session> session) noexcept { session_ = std::move(session); }
  /// Goes on with the proof; done at once where there is none to give.
  security::Session::Progress prove() {
    return session_ == nullptr ? security::Session::Progress::kDone : session_->handshake();
  }
  /// While the proof goes on; nullptr: it needs none.
  security::Session* session() const noexcept { return session_.get(); }
  /// The proof is done. What was not asked to be sealed is an ordinary connection from here on, and so is one whose
  /// proof failed.
  void proved() noexcept;
  /// Bytes to read are here already, of which the socket says nothing.
  bool buffered() const noexcept { return session_ != nullptr && session_->buffered(); }

  /// What is written may not be in the socket's queue yet, and finish_writing() would overtake it.
  bool kernel_encrypts() const noexcept { return session_ != nullptr && session_->kernel_encrypts(); }

  /// The socket is to be readable when `bytes` are there, or the end is: less is not worth waking for. Not where what
  /// the socket holds is not what is read from it.
  void expect(std::size_t bytes) noexcept;

  Moved write(std::span<iovec> vectors) noexcept;
  Moved read(std::span<iovec> vectors) noexcept;

 private:
  Fd fd_;
  std::unique_ptr<security::Session> session_;
  int expected_ = 1;  // SO_RCVLOWAT
};

}  // namespace longspan::tcp
