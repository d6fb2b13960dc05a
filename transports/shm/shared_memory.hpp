#pragma once

#include <cstddef>
#include <utility>

#include "base/fd.hpp"
#include "longspan/status.hpp"

namespace longspan::shm {

/// Anonymous memory that other processes can map: it has no name in any file system, so nothing is left behind when all
/// who hold it are gone. A forked child does not get it.
class SharedMemory {
 public:
  SharedMemory() noexcept = default;
  SharedMemory(SharedMemory&& other) noexcept
      : fd_(std::move(other.fd_)), data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)),
        owner_(other.owner_) {}
  SharedMemory& operator=(SharedMemory&& other) noexcept;
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;
  ~SharedMemory() { unmap(); }

  /// New, zeroed; its size is sealed, so that no peer can shrink it under the other's feet (SIGBUS).
  static Result<SharedMemory> create(std::size_t bytes, const char* label);
  /// A peer's; refused unless it is sealed and has `bytes`.
  static Result<SharedMemory> attach(Fd fd, std::size_t bytes);
  /// The same, which nothing here can write to.
  static Result<SharedMemory> attach_to_read(Fd fd, std::size_t bytes);

  std::byte* data() const noexcept { return data_; }
  std::size_t size() const noexcept { return bytes_; }
  int fd() const noexcept { return fd_.get(); }
  bool valid() const noexcept { return data_ != nullptr; }
  /// Only the mapping is needed from here on.
  void close_fd() noexcept { fd_.reset(); }

 private:
  static Result<SharedMemory> attach(Fd fd, std::size_t bytes, int protection);
  Status map(int protection);
  void unmap() noexcept;

  Fd fd_;
  std::byte* data_ = nullptr;
  std::size_t bytes_ = 0;
  int owner_ = 0;  // a forked child has something else, or nothing, at this address
};

}  // namespace longspan::shm
