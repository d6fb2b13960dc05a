#include "shm/shared_memory.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

namespace longspan::shm {

SharedMemory& SharedMemory::operator=(SharedMemory&& other) noexcept {
  if (this != &other) {
    unmap();
    fd_ = std::move(other.fd_);
    data_ = std::exchange(other.data_, nullptr);
    bytes_ = std::exchange(other.bytes_, 0);
    owner_ = other.owner_;
  }
  return *this;
}

Result<SharedMemory> SharedMemory::create(std::size_t bytes, const char* label) {
  SharedMemory memory;
  memory.fd_ = Fd(::memfd_create(label, MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!memory.fd_) return system_error("shm: memfd_create", errno);
  if (::ftruncate(memory.fd_.get(), static_cast<off_t>(bytes)) != 0) return system_error("shm: ftruncate", errno);
  if (::fcntl(memory.fd_.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
    return system_error("shm: sealing a memfd", errno);
  }
  memory.bytes_ = bytes;
  LONGSPAN_TRY(memory.map(PROT_READ | PROT_WRITE));
  return memory;
}

Result<SharedMemory> SharedMemory::attach(Fd fd, std::size_t bytes) {
  return attach(std::move(fd), bytes, PROT_READ | PROT_WRITE);
}
Result<SharedMemory> SharedMemory::attach_to_read(Fd fd, std::size_t bytes) {
  return attach(std::move(fd), bytes, PROT_READ);
}

Result<SharedMemory> SharedMemory::attach(Fd fd, std::size_t bytes, int protection) {
  SharedMemory memory;
  memory.fd_ = std::move(fd);
  memory.bytes_ = bytes;
  const int seals = ::fcntl(memory.fd_.get(), F_GET_SEALS);
  if (seals < 0) return system_error("shm: what a peer sent as its memory is no memfd", errno);
  struct stat info {};
  if (::fstat(memory.fd_.get(), &info) != 0) return system_error("shm: fstat", errno);
  if ((seals & F_SEAL_SHRINK) == 0 || info.st_size != static_cast<off_t>(bytes)) {
    return Status(StatusCode::kInternal,
                  fmt::format("shm: a peer's memory has {} bytes, expected {} and sealed", info.st_size, bytes));
  }
  LONGSPAN_TRY(memory.map(protection));
  return memory;
}

Status SharedMemory::map(int protection) {
  void* data = ::mmap(nullptr, bytes_, protection, MAP_SHARED, fd_.get(), 0);
  if (data == MAP_FAILED) return system_error("shm: mmap", errno);
  data_ = static_cast<std::byte*>(data);
  owner_ = ::getpid();
  ::madvise(data, bytes_, MADV_DONTFORK);
  return {};
}

void SharedMemory::unmap() noexcept {
  if (data_ != nullptr && owner_ == ::getpid()) ::munmap(data_, bytes_);
  data_ = nullptr;
}

}  // namespace longspan::shm
