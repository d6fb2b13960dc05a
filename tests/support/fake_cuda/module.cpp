// Modules and kernels: whatever image is loaded, it has the kernels of this source tree, which run as host code.
#include <array>
#include <cstring>
#include <vector>

#include "device/cuda/elements.hpp"
#include "driver.hpp"

namespace cuda = longspan::device::cuda;
using cuda::ReduceArguments;
using cuda::ScaleArguments;
using fake_cuda::Code;

struct CUfunc_st {
  std::string name;
  std::function<Code()> (*bind)(void* argument, std::uint64_t threads);  // copies the argument, as a launch does
};

namespace {

/// Device memory where it can be touched; host memory as it is, as long as it is host memory.
template <class Pointer>
bool to_view(Pointer& pointer, std::uint64_t bytes) {
  const auto address = reinterpret_cast<cuda::DevicePointer>(pointer);
  auto& memory = fake_cuda::Memory::get();
  if (memory.device_of(address) < 0) return true;
  pointer = memory.view(address, bytes);
  return pointer != nullptr;
}

template <class Codec, class Op>
std::function<Code()> bind_reduce(void* argument, std::uint64_t threads) {
  return [job = *static_cast<const ReduceArguments*>(argument), threads]() mutable {
    const std::uint64_t bytes = job.count * sizeof(typename Codec::Storage);
    bool mapped = to_view(job.dst, bytes);
    for (unsigned k = 0; k < job.operand_count; ++k) mapped = mapped && to_view(job.operands[k], bytes);
    if (!mapped) return fake_cuda::kIllegalAddress;
    for (std::uint64_t i = 0; i < threads; ++i) cuda::reduce_part<Codec, Op>(job, i, threads);
    return Code{0};
  };
}

template <class Codec>
std::function<Code()> bind_scale(void* argument, std::uint64_t threads) {
  return [job = *static_cast<const ScaleArguments*>(argument), threads]() mutable {
    const std::uint64_t bytes = job.count * sizeof(typename Codec::Storage);
    if (!to_view(job.dst, bytes) || !to_view(job.src, bytes)) return fake_cuda::kIllegalAddress;
    for (std::uint64_t i = 0; i < threads; ++i) cuda::scale_part<Codec>(job, i, threads);
    return Code{0};
  };
}

using namespace longspan::device::cuda;  // the codecs, as the list of kernels names them
#define FAKE_KERNELS(name, ...)                                                   \
  CUfunc_st{"longspan_sum_" #name, bind_reduce<__VA_ARGS__, cuda::Sum>},          \
      CUfunc_st{"longspan_prod_" #name, bind_reduce<__VA_ARGS__, cuda::Product>}, \
      CUfunc_st{"longspan_min_" #name, bind_reduce<__VA_ARGS__, cuda::Min>},      \
      CUfunc_st{"longspan_max_" #name, bind_reduce<__VA_ARGS__, cuda::Max>},      \
      CUfunc_st{"longspan_scale_" #name, bind_scale<__VA_ARGS__>},
std::vector<CUfunc_st> g_functions{LONGSPAN_KERNEL_TYPES(FAKE_KERNELS)};

}  // namespace

#define FAKE __attribute__((visibility("default")))

extern "C" {

FAKE Code cuModuleLoadData(cuda::Module* module, const void*) {
  *module = nullptr;
  return fake_cuda::injected("cuModuleLoadData");
}
FAKE Code cuModuleUnload(cuda::Module) { return 0; }
FAKE Code cuModuleGetFunction(cuda::Function* function, cuda::Module, const char* name) {
  for (CUfunc_st& each : g_functions) {
    if (each.name != name) continue;
    *function = &each;
    return 0;
  }
  return fake_cuda::kNotFound;
}
FAKE Code cuLaunchKernel(cuda::Function function, unsigned x, unsigned y, unsigned z, unsigned block_x,
                         unsigned block_y, unsigned block_z, unsigned, cuda::Stream stream, void** parameters, void**) {
  if (const Code code = fake_cuda::injected("cuLaunchKernel")) return code;
  if (x == 0 || y != 1 || z != 1 || block_x == 0 || block_x > 1024 || block_y != 1 || block_z != 1)
    return fake_cuda::kInvalidValue;
  return stream->put(function->bind(parameters[0], std::uint64_t{x} * block_x));
}
}
