// The conformance suite with a driver in the process: before main, so that every test finds the transport usable.
#include <cstdlib>

#include "gpu.hpp"

namespace {

const bool g_loaded = [] {
  ::setenv("LONGSPAN_TRANSPORTS", "cuda_ipc", 0);
  return longspan::test::gpu::ready();
}();

}  // namespace
