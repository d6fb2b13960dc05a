#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.hpp"
#include "base/fd.hpp"
#include "base/sockets.hpp"
#include "bootstrap/stream.hpp"
#include "longspan/status.hpp"

namespace longspan::bootstrap {

/// All addresses of a host name or IP literal. A name server that does not answer ends at the deadline.
Result<std::vector<SocketAddress>> resolve(const std::string& host, std::uint16_t port, TimePoint deadline);
/// "20000-20100" or "20000".
Result<PortRange> parse_port_range(std::string_view text);

/// listen_everywhere(), with an error that says how to get more ports.
Result<Fd> listen_on_port_of(PortRange ports);
/// A connected non-blocking socket. kTimeout: no answer until the deadline; kPeerLost: refused or unreachable.
Result<Fd> connect_to(const SocketAddress& to, TimePoint deadline);

std::string this_host_name();
/// Unpredictable, for naming things.
std::uint64_t random_number();

/// Waits until `fd` is ready for `events` (poll's); false when the deadline passed first.
bool wait_ready(int fd, short events, TimePoint deadline);
/// Sends everything. kTimeout or kPeerLost.
Status send_all(int fd, std::string_view bytes, TimePoint deadline);
Status send_all(Stream& stream, std::string_view bytes, TimePoint deadline);
/// Receives exactly `bytes`. kTimeout or kPeerLost.
Result<std::string> receive_exactly(int fd, std::size_t bytes, TimePoint deadline);

}  // namespace longspan::bootstrap
