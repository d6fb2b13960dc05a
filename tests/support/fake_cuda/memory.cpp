#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <new>

#include "driver.hpp"

namespace fake_cuda {
namespace {

constexpr std::size_t kArena = std::size_t{8} << 30;  // of addresses; pages come as they are written

}  // namespace

Memory& Memory::get() {
  static Memory* const memory = new Memory;  // outlives the streams' threads
  return *memory;
}

Memory::Memory() {
  file_ = ::memfd_create("fake-cuda", MFD_CLOEXEC);
  if (file_ < 0 || ::ftruncate(file_, static_cast<off_t>(kArena)) != 0) std::abort();
  void* const forbidden = ::mmap(nullptr, kArena, PROT_NONE, MAP_SHARED | MAP_NORESERVE, file_, 0);
  void* const view = ::mmap(nullptr, kArena, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, file_, 0);
  if (forbidden == MAP_FAILED || view == MAP_FAILED) std::abort();
  forbidden_ = reinterpret_cast<DevicePointer>(forbidden);
  view_ = static_cast<std::byte*>(view);
  next_ = forbidden_;
}

// Addresses are not used again, so that a stale one is found out; what lay there is given back to the system.
DevicePointer Memory::allocate(std::size_t bytes, int device, bool shareable) {
  constexpr std::size_t kAlign = 512;
  const std::lock_guard guard(mutex_);
  const std::size_t size = (bytes + kAlign - 1) / kAlign * kAlign;
  if (bytes == 0 || next_ + size + kAlign > forbidden_ + kArena) return 0;
  const DevicePointer made = next_;
  next_ += size + kAlign;  // with a gap, so that neighbours are not taken for one
  allocations_[made] = {bytes, device, view_ + (made - forbidden_), ++numbers_, shareable, 0, 0};
  return made;
}

bool Memory::release(DevicePointer pointer) {
  const std::lock_guard guard(mutex_);
  const auto found = allocations_.find(pointer);
  if (found == allocations_.end() || found->second.mapped != 0) return false;
  constexpr std::size_t kPage = 4096;
  const std::size_t begin = (pointer - forbidden_ + kPage - 1) / kPage * kPage;
  const std::size_t end = (pointer - forbidden_ + found->second.bytes) / kPage * kPage;
  if (end > begin) ::madvise(view_ + begin, end - begin, MADV_REMOVE);
  allocations_.erase(found);
  return true;
}

std::map<DevicePointer, Memory::Allocation>::iterator Memory::find(DevicePointer pointer) {
  auto after = allocations_.upper_bound(pointer);
  if (after == allocations_.begin()) return allocations_.end();
  --after;
  return pointer < after->first + after->second.bytes ? after : allocations_.end();
}

std::byte* Memory::view(DevicePointer pointer, std::size_t bytes) {
  const std::lock_guard guard(mutex_);
  const auto found = find(pointer);
  if (found == allocations_.end() || pointer + bytes > found->first + found->second.bytes) return nullptr;
  return found->second.view + (pointer - found->first);
}

int Memory::device_of(DevicePointer pointer) {
  const std::lock_guard guard(mutex_);
  const auto found = find(pointer);
  return found == allocations_.end() ? -1 : found->second.device;
}

Memory::Range Memory::range_of(DevicePointer pointer) {
  const std::lock_guard guard(mutex_);
  const auto found = find(pointer);
  if (found == allocations_.end()) return {};
  return {found->first, found->second.bytes, found->second.number, found->second.shareable};
}

}  // namespace fake_cuda
