#include "shm/peer_memory.hpp"

#include <sys/uio.h>
#include <unistd.h>

#include <cstring>

namespace longspan::shm {

PeerMemory::PeerMemory(pid_t pid, std::uint64_t probe_address, std::uint64_t probe_value, FetchMode best) : pid_(pid) {
  if (pid == ::getpid() && best == FetchMode::kDirect) {
    mode_ = FetchMode::kDirect;
    return;
  }
  std::uint64_t found = ~probe_value;
  if (best == FetchMode::kStaged || pid <= 0) return;
  if (!copy(reinterpret_cast<std::byte*>(&found), probe_address, sizeof(found)) || found != probe_value) return;
  mode_ = FetchMode::kCopy;
}

bool PeerMemory::copy(std::byte* destination, std::uint64_t address, std::size_t bytes) const noexcept {
  while (bytes > 0) {
    const iovec local{destination, bytes};
    const iovec remote{reinterpret_cast<void*>(address), bytes};
    const ssize_t got = ::process_vm_readv(pid_, &local, 1, &remote, 1, 0);
    if (got <= 0) return false;
    destination += got;
    address += static_cast<std::uint64_t>(got);
    bytes -= static_cast<std::size_t>(got);
  }
  return true;
}

bool PeerMemory::read(std::byte* destination, std::uint64_t address, std::size_t bytes) noexcept {
  if (mode_ == FetchMode::kDirect) {
    std::memcpy(destination, view(address), bytes);
    return true;
  }
  if (mode_ == FetchMode::kCopy && copy(destination, address, bytes)) return true;
  mode_ = FetchMode::kStaged;
  return false;
}

}  // namespace longspan::shm
