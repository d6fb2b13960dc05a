// Modules and kernels: none yet are launched by the library.
#include "driver.hpp"

namespace cuda = longspan::device::cuda;
#define FAKE __attribute__((visibility("default")))

extern "C" {
FAKE int cuModuleLoadData(cuda::Module*, const void*) { return fake_cuda::kNotFound; }
FAKE int cuModuleUnload(cuda::Module) { return 0; }
FAKE int cuModuleGetFunction(cuda::Function*, cuda::Module, const char*) { return fake_cuda::kNotFound; }
FAKE int cuLaunchKernel(cuda::Function, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, cuda::Stream, void**, void**) {
  return fake_cuda::kNotFound;
}
}
