#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>

namespace longspan::shm {

/// How bytes come out of a sender's private memory.
enum class FetchMode : std::uint8_t {
  kDirect,  ///< the same process: by pointer, also as a view
  kCopy,    ///< process_vm_readv: the kernel copies once
  kStaged,  ///< not allowed (Yama, seccomp, user or pid namespaces): the sender copies through the ring
};

/// Reads a peer's memory.
class PeerMemory {
 public:
  PeerMemory() = default;
  /// Finds the best mode by reading `probe_address`, where `probe_value` must stand. `best` limits it, for tests.
  PeerMemory(pid_t pid, std::uint64_t probe_address, std::uint64_t probe_value, FetchMode best);

  FetchMode mode() const noexcept { return mode_; }
  /// Finds out how fast copying from there is; the first time, before the range holds anything.
  void measure(std::uint64_t address, std::size_t bytes);
  /// Two copies through shared memory beat fetching.
  bool slow() const noexcept { return slow_; }
  /// False when it cannot be read (any more); the mode is then kStaged.
  bool read(std::byte* destination, std::uint64_t address, std::size_t bytes) noexcept;
  /// kDirect only.
  static const std::byte* view(std::uint64_t address) noexcept { return reinterpret_cast<const std::byte*>(address); }

 private:
  bool copy(std::byte* destination, std::uint64_t address, std::size_t bytes) const noexcept;

  pid_t pid_ = 0;
  bool slow_ = false;
  FetchMode mode_ = FetchMode::kStaged;
};

}  // namespace longspan::shm
