// Buffers that users make known ahead of use, and memory that longspan provides.
#include <sys/mman.h>

#include <algorithm>

#include "longspan/communicator.hpp"
#include "runtime/communicator_impl.hpp"

namespace longspan {
namespace runtime {

Status CommunicatorImpl::register_buffer(std::span<std::byte> memory) {
  Domain::Lock lock = domain_->lock();
  if (registered_.contains(memory.data())) {
    return Status(StatusCode::kInvalidArgument, "this buffer is registered already; unregister it first");
  }
  std::vector<std::unique_ptr<spi::MemoryRegion>> regions;
  for (const auto& endpoint : domain_->endpoints()) {
    auto region = endpoint->register_memory(memory);
    // Registration is an optimisation: a transport that has none still moves the bytes.
    if (region.ok()) regions.push_back(std::move(*region));
    else if (region.status().code() != StatusCode::kUnsupported) return region.status();
  }
  registered_[memory.data()] = std::move(regions);
  return {};
}

Status CommunicatorImpl::unregister_buffer(void* data) {
  Domain::Lock lock = domain_->lock();
  if (registered_.erase(data) == 0) return Status(StatusCode::kInvalidArgument, "this buffer was not registered here");
  return {};
}

Result<void*> CommunicatorImpl::alloc(std::size_t bytes) {
  if (bytes == 0) return Status(StatusCode::kInvalidArgument, "alloc: expected a size above 0");
  const std::size_t page = 4096;
  const std::size_t size = (bytes + page - 1) / page * page;
  void* memory = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return Status(StatusCode::kResource, "alloc: no memory for " + std::to_string(bytes) + " bytes");
  if (Status status = register_buffer(std::span(static_cast<std::byte*>(memory), size)); !status.ok()) {
    ::munmap(memory, size);
    return status;
  }
  Domain::Lock lock = domain_->lock();
  allocated_[memory] = size;
  return memory;
}

Status CommunicatorImpl::free(void* data) {
  std::size_t size = 0;
  {
    Domain::Lock lock = domain_->lock();
    const auto found = allocated_.find(data);
    if (found == allocated_.end()) return Status(StatusCode::kInvalidArgument, "free: not memory of this communicator's alloc");
    size = found->second;
    allocated_.erase(found);
  }
  LONGSPAN_TRY(unregister_buffer(data));
  ::munmap(data, size);
  return {};
}

void CommunicatorImpl::free_all() {
  registered_.clear();
  for (const auto& [data, size] : allocated_) ::munmap(data, size);
  allocated_.clear();
}

}  // namespace runtime

Status Communicator::register_buffer(void* data, std::size_t bytes) {
  return impl_->register_buffer(std::span(static_cast<std::byte*>(data), bytes));
}
Status Communicator::unregister_buffer(void* data) { return impl_->unregister_buffer(data); }
Result<void*> Communicator::alloc(std::size_t bytes) { return impl_->alloc(bytes); }
Status Communicator::free(void* data) { return impl_->free(data); }

}  // namespace longspan
