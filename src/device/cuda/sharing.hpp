#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <utility>

#include "device/cuda/copier.hpp"

namespace longspan::device::cuda {

/// What another process of this host must know to read a piece of device memory; bytes, for a message.
struct PieceName {
  std::uint64_t process = 0;  ///< whose memory it is
  std::uint64_t base = 0;     ///< of its allocation, there
  std::uint64_t size = 0;
  std::uint64_t buffer = 0;   ///< the allocation's number: another one at the same place has another
  std::uint64_t offset = 0;
  std::int32_t device = 0;    ///< as that process numbers them
  std::int32_t reserved = 0;
  IpcHandle handle{};
};

/// One device's memory between processes: names pieces of it for others, and maps theirs. A mapping is kept for the
/// next message from the same allocation, and closed when another allocation has taken its place, when too many are
/// kept, and at the end. The driver does not tell of memory that its owner frees: what of it is mapped here goes back
/// to the device only then.
class DeviceSharing {
 public:
  static Result<std::unique_ptr<DeviceSharing>> open(int device);
  DeviceSharing(const DeviceSharing&) = delete;
  DeviceSharing& operator=(const DeviceSharing&) = delete;

  /// kUnsupported for memory that has no such name: of a pool, or mapped piece by piece (VMM).
  Result<PieceName> name(const void* pointer);

  /// A peer's allocation as this device sees it; mapped as long as somebody holds it.
  class Mapping {
   public:
    Mapping(const Driver& driver, Context context, DevicePointer at, std::uint64_t buffer, std::uint64_t size) noexcept
        : driver_(driver), context_(context), at_(at), buffer_(buffer), size_(size) {}
    Mapping(const Mapping&) = delete;
    Mapping& operator=(const Mapping&) = delete;
    ~Mapping();
    const std::byte* data() const noexcept { return reinterpret_cast<const std::byte*>(at_); }
    std::uint64_t buffer() const noexcept { return buffer_; }
    std::uint64_t size() const noexcept { return size_; }
    std::uint64_t last_used = 0;

   private:
    const Driver& driver_;
    Context context_;
    DevicePointer at_;
    std::uint64_t buffer_;
    std::uint64_t size_;
  };
  /// Where this device reads a piece. Memory of this process is read where it is: `mapping` is empty then.
  struct View {
    const std::byte* data = nullptr;
    std::shared_ptr<Mapping> mapping;  // shared with the mappings that are kept
  };
  Result<View> map(const PieceName& piece);

 private:
  DeviceSharing(const Driver& driver, int device, std::unique_ptr<PrimaryContext> context)
      : driver_(driver), device_(device), context_(std::move(context)) {}
  Result<View> map_own(const PieceName& piece);
  void drop_stale(const PieceName& piece);

  const Driver& driver_;
  int device_;
  std::unique_ptr<PrimaryContext> context_;
  std::map<std::uint64_t, std::pair<std::uint64_t, IpcHandle>> named_;  // by base: the allocation's number, its handle
  std::map<std::pair<std::uint64_t, std::uint64_t>, std::shared_ptr<Mapping>> kept_;  // by process and base
  std::map<int, std::unique_ptr<PrimaryContext>> neighbours_;  // devices of this process whose memory is read here
  std::uint64_t uses_ = 0;
};

/// This process among those of its host, as long as it lives.
std::uint64_t this_process() noexcept;

}  // namespace longspan::device::cuda
