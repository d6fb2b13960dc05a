#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <span>
#include <utility>

#include "base/fd.hpp"

namespace longspan::tcp {

/// One socket. Every byte that the transport sends or receives passes through `write` and `read`, never blocking: what
/// encrypts belongs here, and travels along when a connection moves from its handshake to its lane.
class Connection {
 public:
  enum class Result : std::uint8_t {
    kDone,     ///< `bytes` were moved
    kBlocked,  ///< the socket takes or has nothing now
    kEnd,      ///< end of stream
    kFailed,   ///< `error` is the errno
  };
  struct Moved {
    Result result = Result::kDone;
    std::size_t bytes = 0;
    int error = 0;
  };

  Connection() noexcept = default;
  explicit Connection(Fd fd) noexcept : fd_(std::move(fd)) {}

  int fd() const noexcept { return fd_.get(); }
  bool valid() const noexcept { return fd_.valid(); }
  void close() noexcept { fd_.reset(); }
  /// No more will be written; the other side sees the end of the stream after what was.
  void finish_writing() noexcept;

  Moved write(std::span<iovec> vectors) noexcept;
  Moved read(std::span<iovec> vectors) noexcept;

 private:
  Fd fd_;
};

}  // namespace longspan::tcp
