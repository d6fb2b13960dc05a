// Buffers that users make known ahead of use, and memory that longspan provides.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>

#include "longspan/communicator.hpp"
#include "runtime/communicator_impl.hpp"

namespace longspan {
namespace runtime {

namespace {

/// Anonymous memory that peers can be given. Its size is sealed, so that it never vanishes under who has it mapped.
Result<Fd> create_memfd(std::size_t bytes) {
  Fd memfd(::memfd_create("longspan-alloc", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!memfd) return system_error("alloc: memfd_create", errno);
  if (::ftruncate(memfd.get(), static_cast<off_t>(bytes)) != 0) return system_error("alloc: ftruncate", errno);
  if (::fcntl(memfd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
    return system_error("alloc: sealing a memfd", errno);
  }
  return memfd;
}

}  // namespace

Status CommunicatorImpl::register_buffer(std::span<std::byte> memory) { return make_known(memory, -1); }

/// `memfd` < 0: private memory.
Status CommunicatorImpl::make_known(std::span<std::byte> memory, int memfd) {
  Domain::Lock lock = domain_->lock();
  if (registered_.contains(memory.data())) {
    return Status(StatusCode::kInvalidArgument, "this buffer is registered already; unregister it first");
  }
  std::vector<std::unique_ptr<spi::MemoryRegion>> regions;
  for (const auto& endpoint : domain_->endpoints()) {
    auto region = memfd < 0 ? endpoint->register_memory(memory) : endpoint->share_memory(memory, memfd);
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
  LONGSPAN_ASSIGN(Fd memfd, create_memfd(size));
  void* memory = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, memfd.get(), 0);
  if (memory == MAP_FAILED) {
    return Status(StatusCode::kResource, "alloc: no memory for " + std::to_string(bytes) + " bytes");
  }
  if (Status status = make_known(std::span(static_cast<std::byte*>(memory), size), memfd.get()); !status.ok()) {
    ::munmap(memory, size);
    return status;
  }
  Domain::Lock lock = domain_->lock();
  allocated_[memory] = Allocation{size, std::move(memfd)};
  return memory;
}

Status CommunicatorImpl::free(void* data) {
  Allocation allocation;
  {
    Domain::Lock lock = domain_->lock();
    const auto found = allocated_.find(data);
    if (found == allocated_.end()) {
      return Status(StatusCode::kInvalidArgument, "free: not memory of this communicator's alloc");
    }
    allocation = std::move(found->second);
    allocated_.erase(found);
  }
  LONGSPAN_TRY(unregister_buffer(data));
  ::munmap(data, allocation.bytes);
  return {};
}

void CommunicatorImpl::free_all() {
  registered_.clear();
  for (const auto& [data, allocation] : allocated_) ::munmap(data, allocation.bytes);
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
