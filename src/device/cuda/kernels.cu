// Compiled by nvcc into a fatbinary that the library carries as bytes and gives to the driver (kernels.cpp).
#include "device/cuda/elements.hpp"

namespace longspan::device::cuda {
namespace {

__device__ std::uint64_t thread_index() { return blockIdx.x * static_cast<std::uint64_t>(blockDim.x) + threadIdx.x; }
__device__ std::uint64_t thread_count() { return gridDim.x * static_cast<std::uint64_t>(blockDim.x); }

}  // namespace

#define LONGSPAN_REDUCE_KERNEL(name, codec, op, operation)                  \
  extern "C" __global__ void __launch_bounds__(512)                         \
      longspan_##op##_##name(const __grid_constant__ ReduceArguments job) { \
    reduce_part<codec, operation>(job, thread_index(), thread_count());     \
  }
#define LONGSPAN_TYPE_KERNELS(name, codec)                                \
  LONGSPAN_REDUCE_KERNEL(name, codec, sum, Sum)                           \
  LONGSPAN_REDUCE_KERNEL(name, codec, prod, Product)                      \
  LONGSPAN_REDUCE_KERNEL(name, codec, min, Min)                           \
  LONGSPAN_REDUCE_KERNEL(name, codec, max, Max)                           \
  extern "C" __global__ void __launch_bounds__(512)                       \
      longspan_scale_##name(const __grid_constant__ ScaleArguments job) { \
    scale_part<codec>(job, thread_index(), thread_count());               \
  }
LONGSPAN_KERNEL_TYPES(LONGSPAN_TYPE_KERNELS)

}  // namespace longspan::device::cuda
