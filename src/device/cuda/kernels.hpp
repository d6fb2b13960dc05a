#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <span>

#include "device/cuda/driver.hpp"
#include "longspan/types.hpp"

namespace longspan::device::cuda {

/// The compiled kernels; empty in a build without nvcc.
std::span<const std::byte> kernel_image() noexcept;

/// The library's kernels in one context, which must be current in every call. They run asynchronously in the given
/// stream, on a few multiprocessors: they are bound by memory, and the rest is the program's. Pointers may be to memory
/// of the device, of a peer device that is mapped, or to page-locked host memory.
class Kernels {
 public:
  /// kUnsupported with an empty image; a failure where the driver cannot load it (too old for it, or for the device).
  static Result<std::unique_ptr<Kernels>> load(const Driver& driver, std::span<const std::byte> image);
  Kernels(const Kernels&) = delete;
  Kernels& operator=(const Kernels&) = delete;
  ~Kernels();

  /// As longspan::reduce::reduce, the same bits but for the payload of NaNs in fp32 and fp64. At most 16 operands.
  Status reduce(DataType type, ReduceOp op, void* dst, std::span<const void* const> operands, std::size_t count,
                double divisor, Stream stream);
  /// As longspan::reduce::scale.
  Status scale(DataType type, void* dst, const void* src, std::size_t count, double factor, Stream stream);

 private:
  static constexpr std::size_t kOperations = 5;  // sum, prod, min, max, scale
  Kernels(const Driver& driver, Module module) : driver_(driver), module_(module) {}
  Status launch(Function function, std::size_t bytes, void* arguments, Stream stream);

  const Driver& driver_;
  Module module_;
  std::array<std::array<Function, kDataTypeCount>, kOperations> functions_{};
};

}  // namespace longspan::device::cuda
