#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "base/fd.hpp"
#include "longspan/spi/transport.hpp"

/// The TCP sockets by which queue pairs get to know each other, and by which the death of a process is seen.
namespace longspan::verbs {

struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t length = 0;
  sockaddr* get() noexcept { return reinterpret_cast<sockaddr*>(&storage); }
  const sockaddr* get() const noexcept { return reinterpret_cast<const sockaddr*>(&storage); }
};

/// "10.0.0.1:4711" or "[fe80::1]:4711".
Result<SocketAddress> parse_address(std::string_view text);

struct Listener {
  Fd fd;
  std::string address;  ///< where peers reach it
};
Result<Listener> listen_for_peers(const spi::EndpointOptions& options);

/// Begins to connect; -1: it cannot, and errno says why.
Fd begin_connect(const SocketAddress& address) noexcept;
/// errno of the attempt; 0: it stands; EINPROGRESS: not yet.
int connect_result(int fd) noexcept;
/// A host that vanishes is noticed within seconds, although nothing is ever sent.
void watch_peer(int fd) noexcept;

}  // namespace longspan::verbs
