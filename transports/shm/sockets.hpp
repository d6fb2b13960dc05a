#pragma once

#include <sys/types.h>

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/fd.hpp"
#include "longspan/status.hpp"

/// Unix sockets that carry packets and descriptors. Names are abstract: they vanish with their socket, and are seen in
/// one network namespace only.
namespace longspan::shm {

struct Listener {
  Fd fd;
  std::string name;
};
/// Listens under a random name.
Result<Listener> listen_anywhere();
/// Connects to `name`; nullopt: the peer's backlog is full, try again.
Result<std::optional<Fd>> dial(std::string_view name);
/// The next connection; an invalid Fd when there is none.
Fd accept_next(const Fd& listener);

/// Who made (or listens at) the other end, as this process's namespace numbers it.
struct Process {
  pid_t pid = 0;
  uid_t uid = 0;
};
Process process_behind(const Fd& socket);
/// Readable once the process has died; invalid where the kernel gives none.
Fd watch_process(pid_t pid);

/// Sends one packet with descriptors; kResource when the socket is full.
Status send_packet(const Fd& socket, std::span<const std::byte> bytes, std::span<const int> fds);

enum class Received { kPacket, kNothing, kEnd };
/// Reads one packet of at most bytes.size(); `length` and `fds` say what came.
Received receive_packet(const Fd& socket, std::span<std::byte> bytes, std::size_t& length, std::vector<Fd>& fds);

}  // namespace longspan::shm
