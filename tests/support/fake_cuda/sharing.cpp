// Memory of other processes: the handle says which part of which file it is.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>

#include "driver.hpp"

namespace fake_cuda {
namespace {

constexpr std::size_t kPage = 4096;

struct Name {
  std::int64_t process;
  std::int64_t file;
  std::uint64_t offset;
  std::uint64_t bytes;
  std::uint64_t number;
  std::int64_t device;
};
static_assert(sizeof(Name) <= sizeof(longspan::device::cuda::IpcHandle));

void* map(int file, std::size_t offset, std::size_t bytes, int protection) {
  return ::mmap(nullptr, bytes, protection, MAP_SHARED | MAP_NORESERVE, file, static_cast<off_t>(offset));
}

}  // namespace

Code Memory::name(DevicePointer pointer, longspan::device::cuda::IpcHandle& handle) {
  const std::lock_guard guard(mutex_);
  const auto found = find(pointer);
  if (found == allocations_.end() || !found->second.shareable) return kInvalidValue;
  const Name name{::getpid(),        file_, found->first - forbidden_, found->second.bytes, found->second.number,
                  found->second.device};
  std::memcpy(handle.bytes, &name, sizeof name);
  return 0;
}

Code Memory::open(const longspan::device::cuda::IpcHandle& handle, DevicePointer& pointer) {
  Name name;
  std::memcpy(&name, handle.bytes, sizeof name);
  if (name.process == ::getpid()) return kInvalidContext;  // as the real one refuses what it has given out itself
  const std::string path = "/proc/" + std::to_string(name.process) + "/fd/" + std::to_string(name.file);
  const int file = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (file < 0) return kInvalidValue;
  const std::size_t before = name.offset % kPage;
  const std::size_t bytes = (before + name.bytes + kPage - 1) / kPage * kPage;
  void* const forbidden = map(file, name.offset - before, bytes, PROT_NONE);
  void* const view = map(file, name.offset - before, bytes, PROT_READ | PROT_WRITE);
  ::close(file);
  if (forbidden == MAP_FAILED || view == MAP_FAILED) return kOutOfMemory;
  const std::lock_guard guard(mutex_);
  pointer = reinterpret_cast<DevicePointer>(forbidden) + before;
  allocations_[pointer] = {name.bytes, static_cast<int>(name.device), static_cast<std::byte*>(view) + before,
                           ++numbers_, false,                         bytes,
                           before};
  return 0;
}

Code Memory::close(DevicePointer pointer) {
  const std::lock_guard guard(mutex_);
  const auto found = allocations_.find(pointer);
  if (found == allocations_.end() || found->second.mapped == 0) return kInvalidValue;
  ::munmap(reinterpret_cast<void*>(pointer - found->second.before), found->second.mapped);
  ::munmap(found->second.view - found->second.before, found->second.mapped);
  allocations_.erase(found);
  return 0;
}

std::size_t Memory::opened() {
  const std::lock_guard guard(mutex_);
  std::size_t count = 0;
  for (const auto& each : allocations_) count += each.second.mapped != 0 ? 1 : 0;
  return count;
}

}  // namespace fake_cuda
