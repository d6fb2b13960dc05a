#pragma once

#include <sys/socket.h>

#include <string>
#include <string_view>

#include "base/fd.hpp"
#include "longspan/spi/transport.hpp"
#include "longspan/status.hpp"

namespace longspan::ucx {

/// A listening socket, and the "ip:port" that peers dial.
struct Listener {
  Fd fd;
  std::string address;
};
Result<Listener> listen(const spi::EndpointOptions& options);
/// The next connection that waits; invalid: none does.
Fd accept_next(const Fd& listener) noexcept;
/// Begins a connection to "ip:port"; it is writable once made, or failed.
Result<Fd> dial(std::string_view address);
/// The errno of a connection that was begun; 0: it is made, or still being made.
int connection_error(const Fd& fd) noexcept;

}  // namespace longspan::ucx
