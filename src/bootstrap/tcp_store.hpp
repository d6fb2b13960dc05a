#pragma once

#include <optional>
#include <string>

#include "base/clock.hpp"
#include "base/fd.hpp"
#include "bootstrap/socket.hpp"
#include "longspan/status.hpp"

namespace longspan::bootstrap {

/// A client of PyTorch's TCPStore (torch/csrc/distributed/c10d/TCPStoreBackend.hpp): only what a rendezvous needs.
/// Keys share the space of torch's own clients, which put "/" before each.
class TcpStore {
 public:
  /// Connects and makes sure that a TCPStore answers. kInvalidArgument: something else listens there.
  static Result<TcpStore> connect(const SocketAddress& at, TimePoint deadline);

  Status set(const std::string& key, const std::string& value, TimePoint deadline);
  /// The value; nullopt when the key does not exist.
  Result<std::optional<std::string>> get(const std::string& key, TimePoint deadline);
  Status remove(const std::string& key, TimePoint deadline);
  int fd() const noexcept { return fd_.get(); }

 private:
  explicit TcpStore(Fd fd) : fd_(std::move(fd)) {}
  Fd fd_;
};

}  // namespace longspan::bootstrap
