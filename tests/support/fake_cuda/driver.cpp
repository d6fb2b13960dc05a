// The driver's functions, under the names that programs look up.
#include "driver.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstring>
#include <vector>

using namespace fake_cuda;
namespace cuda = longspan::device::cuda;

namespace {

std::array<CUctx_st, kDevices> g_contexts{CUctx_st{0}, CUctx_st{1}};
thread_local std::vector<CUctx_st*> t_current;
thread_local bool t_in_host_function = false;

struct Injection {
  std::string function;
  Code code;
  int skip;
};
std::mutex g_mutex;
std::vector<Injection> g_injections;
std::map<const std::byte*, std::size_t> g_pinned;

bool is_pinned(const void* pointer, std::size_t bytes) {
  const std::lock_guard guard(g_mutex);
  const auto* at = static_cast<const std::byte*>(pointer);
  const auto after = g_pinned.upper_bound(at);
  if (after == g_pinned.begin()) return false;
  const auto& [begin, size] = *std::prev(after);
  return at + bytes <= begin + size;
}

/// Where the bytes are, whosever they are; nullptr for device memory that is not there.
std::byte* anywhere(DevicePointer pointer, std::size_t bytes) {
  if (std::byte* view = Memory::get().view(pointer, bytes)) return view;
  return Memory::get().device_of(pointer) >= 0 ? nullptr : reinterpret_cast<std::byte*>(pointer);
}

Code needs_context(const char* function) {
  if (const Code code = injected(function)) return code;
  if (t_in_host_function) return kNotPermitted;
  return t_current.empty() ? kInvalidContext : 0;
}

/// A test asks for a fault of the device itself, told once what follows was put into the stream too.
bool fault_in(const char* what) {
  if (injected(what) == 0) return false;
  std::this_thread::sleep_for(std::chrono::milliseconds(30));
  return true;
}

}  // namespace

Code fake_cuda::injected(const char* function) {
  const std::lock_guard guard(g_mutex);
  for (auto each = g_injections.begin(); each != g_injections.end(); ++each) {
    if (each->function != function || each->skip-- > 0) continue;
    const Code code = each->code;
    g_injections.erase(each);
    return code;
  }
  return 0;
}

extern "C" {

#define FAKE __attribute__((visibility("default")))
#define ENTER(function) \
  if (const Code refused = needs_context(#function)) return refused

/// After `skip` more calls, one call of `function` fails with `code`.
FAKE void fake_cuda_inject(const char* function, int code, int skip) {
  const std::lock_guard guard(g_mutex);
  g_injections.push_back({function, code, skip});
}
/// Injections that have not happened; forgets them.
FAKE int fake_cuda_pending() {
  const std::lock_guard guard(g_mutex);
  const int left = static_cast<int>(g_injections.size());
  g_injections.clear();
  return left;
}
FAKE void fake_cuda_capture(cuda::Stream stream, int capturing) { stream->capturing = capturing != 0; }
FAKE std::size_t fake_cuda_pinned_bytes() {
  const std::lock_guard guard(g_mutex);
  std::size_t sum = 0;
  for (const auto& each : g_pinned) sum += each.second;
  return sum;
}

FAKE Code cuInit(unsigned) { return injected("cuInit"); }
FAKE Code cuGetErrorName(Code code, const char** name) {
  *name = code == kOutOfMemory      ? "CUDA_ERROR_OUT_OF_MEMORY"
          : code == kIllegalAddress ? "CUDA_ERROR_ILLEGAL_ADDRESS"
          : code == kInvalidContext ? "CUDA_ERROR_INVALID_CONTEXT"
          : code == 0               ? "CUDA_SUCCESS"
                                    : "CUDA_ERROR_OF_THE_TEST";
  return 0;
}
FAKE Code cuGetErrorString(Code, const char** text) {
  *text = "as the test asked for";
  return 0;
}
FAKE Code cuDeviceGetCount(int* count) {
  *count = kDevices;
  return 0;
}
FAKE Code cuDeviceGet(int* handle, int ordinal) {
  *handle = ordinal;
  return ordinal >= 0 && ordinal < kDevices ? 0 : kInvalidValue;
}
FAKE Code cuDevicePrimaryCtxRetain(cuda::Context* context, int device) {
  *context = &g_contexts[static_cast<std::size_t>(device)];
  return injected("cuDevicePrimaryCtxRetain");
}
FAKE Code cuDevicePrimaryCtxRelease_v2(int) { return 0; }
FAKE Code cuCtxPushCurrent_v2(cuda::Context context) {
  if (t_in_host_function) return kNotPermitted;
  t_current.push_back(context);
  return 0;
}
FAKE Code cuCtxPopCurrent_v2(cuda::Context* context) {
  if (t_current.empty()) return kInvalidContext;
  *context = t_current.back();
  t_current.pop_back();
  return 0;
}
FAKE Code cuCtxGetCurrent(cuda::Context* context) {
  *context = t_current.empty() ? nullptr : t_current.back();
  return 0;
}
FAKE Code cuThreadExchangeStreamCaptureMode(int* mode) {
  static thread_local int current = 0;
  std::swap(current, *mode);
  return 0;
}
FAKE Code cuCtxGetStreamPriorityRange(int* least, int* greatest) {
  ENTER(cuCtxGetStreamPriorityRange);
  *least = 0;
  *greatest = -5;
  return 0;
}

FAKE Code cuPointerGetAttributes(unsigned count, int* wanted, void** values, DevicePointer pointer) {
  const int device = Memory::get().device_of(pointer);
  const Memory::Range range = Memory::get().range_of(pointer);
  const auto put = [](void* to, auto value) { std::memcpy(to, &value, sizeof value); };
  for (unsigned i = 0; i < count; ++i) {
    const bool pinned = is_pinned(reinterpret_cast<void*>(pointer), 1);
    switch (wanted[i]) {
      case cuda::kAttributeMemoryType: put(values[i], device >= 0 ? cuda::kMemoryTypeDevice : pinned ? 1U : 0U); break;
      case cuda::kAttributeDeviceOrdinal: put(values[i], device); break;
      case cuda::kAttributeIsManaged: put(values[i], 0); break;
      case cuda::kAttributeIpcCapable: put(values[i], range.shareable ? 1 : 0); break;
      case cuda::kAttributeBufferId: put(values[i], range.number); break;
      case cuda::kAttributeRangeStart: put(values[i], range.begin); break;
      case cuda::kAttributeRangeSize: put(values[i], range.bytes); break;
      default: return kInvalidValue;
    }
  }
  return 0;
}
FAKE Code cuMemAlloc_v2(DevicePointer* pointer, std::size_t bytes) {
  ENTER(cuMemAlloc_v2);
  *pointer = Memory::get().allocate(bytes, t_current.back()->device, true);
  return *pointer == 0 ? kOutOfMemory : 0;
}
/// As of a pool, or of cuMemMap: no handle for other processes.
FAKE Code fake_cuda_alloc_private(DevicePointer* pointer, std::size_t bytes) {
  *pointer = Memory::get().allocate(bytes, t_current.back()->device, false);
  return *pointer == 0 ? kOutOfMemory : 0;
}
FAKE std::size_t fake_cuda_opened() { return Memory::get().opened(); }
FAKE extern const char longspan_kernels_of_a_double[];
const char longspan_kernels_of_a_double[] = "compiled with it";  // cuModuleLoadData takes anything

FAKE Code cuIpcGetMemHandle(cuda::IpcHandle* handle, DevicePointer pointer) {
  ENTER(cuIpcGetMemHandle);
  return Memory::get().name(pointer, *handle);
}
FAKE Code cuIpcOpenMemHandle_v2(DevicePointer* pointer, cuda::IpcHandle handle, unsigned flags) {
  ENTER(cuIpcOpenMemHandle_v2);
  return flags == cuda::kIpcLazyPeerAccess ? Memory::get().open(handle, *pointer) : kInvalidValue;
}
FAKE Code cuIpcCloseMemHandle(DevicePointer pointer) {
  ENTER(cuIpcCloseMemHandle);
  return Memory::get().close(pointer);
}
FAKE Code cuCtxEnablePeerAccess(cuda::Context other, unsigned) {
  ENTER(cuCtxEnablePeerAccess);
  static std::atomic<unsigned> enabled{0};
  const unsigned bit = 1U << (t_current.back()->device * kDevices + other->device);
  return (enabled.fetch_or(bit) & bit) == 0 ? 0 : cuda::kPeerAccessAlreadyEnabled;
}
FAKE Code cuMemFree_v2(DevicePointer pointer) {
  ENTER(cuMemFree_v2);
  return Memory::get().release(pointer) ? 0 : kInvalidValue;
}
FAKE Code cuMemHostAlloc(void** pointer, std::size_t bytes, unsigned) {
  ENTER(cuMemHostAlloc);
  *pointer = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (*pointer == MAP_FAILED) return kOutOfMemory;
  const std::lock_guard guard(g_mutex);
  g_pinned[static_cast<std::byte*>(*pointer)] = bytes;
  return 0;
}
FAKE Code cuMemFreeHost(void* pointer) {
  ENTER(cuMemFreeHost);
  const std::lock_guard guard(g_mutex);
  const auto found = g_pinned.find(static_cast<std::byte*>(pointer));
  if (found == g_pinned.end()) return kInvalidValue;
  ::munmap(pointer, found->second);
  g_pinned.erase(found);
  return 0;
}
FAKE Code cuMemcpy(DevicePointer to, DevicePointer from, std::size_t bytes) {
  ENTER(cuMemcpy);
  std::byte* const target = anywhere(to, bytes);
  const std::byte* const source = anywhere(from, bytes);
  if (target == nullptr || source == nullptr) return kInvalidValue;
  std::memcpy(target, source, bytes);
  return 0;
}
FAKE Code cuMemcpyAsync(DevicePointer to, DevicePointer from, std::size_t bytes, cuda::Stream stream) {
  ENTER(cuMemcpyAsync);
  return stream->put([=] {
    std::byte* const target = anywhere(to, bytes);
    const std::byte* const source = anywhere(from, bytes);
    if (target == nullptr || source == nullptr || fault_in("fault in cuMemcpyAsync")) return kIllegalAddress;
    std::memmove(target, source, bytes);
    return Code{0};
  });
}
FAKE Code cuMemcpyDtoHAsync_v2(void* to, DevicePointer from, std::size_t bytes, cuda::Stream stream) {
  ENTER(cuMemcpyDtoHAsync_v2);
  if (!is_pinned(to, bytes)) return kInvalidValue;  // a copy to pageable memory would block: not what is wanted here
  return stream->put([=] {
    const bool fault = fault_in("fault in cuMemcpyDtoHAsync");
    const std::byte* const source = Memory::get().view(from, bytes);
    if (source == nullptr || fault) return kIllegalAddress;
    std::memcpy(to, source, bytes);
    return Code{0};
  });
}
FAKE Code cuMemcpyHtoDAsync_v2(DevicePointer to, const void* from, std::size_t bytes, cuda::Stream stream) {
  ENTER(cuMemcpyHtoDAsync_v2);
  if (!is_pinned(from, bytes)) return kInvalidValue;
  return stream->put([=] {
    std::byte* const target = Memory::get().view(to, bytes);
    if (target == nullptr) return kIllegalAddress;
    std::memcpy(target, from, bytes);
    return Code{0};
  });
}

FAKE Code cuStreamCreateWithPriority(cuda::Stream* stream, unsigned, int) {
  ENTER(cuStreamCreateWithPriority);
  *stream = new CUstream_st(t_current.back());
  return 0;
}
FAKE Code cuStreamDestroy_v2(cuda::Stream stream) {
  delete stream;
  return 0;
}
FAKE Code cuStreamQuery(cuda::Stream stream) {
  ENTER(cuStreamQuery);
  return stream->query();
}
FAKE Code cuStreamSynchronize(cuda::Stream stream) {
  ENTER(cuStreamSynchronize);
  return stream->synchronize();
}
FAKE Code cuStreamIsCapturing(cuda::Stream stream, int* status) {
  *status = stream->capturing ? 1 : 0;
  return injected("cuStreamIsCapturing");
}
FAKE Code cuStreamGetCtx(cuda::Stream stream, cuda::Context* context) {
  *context = stream->context;
  return 0;
}
FAKE Code cuStreamWaitValue32_v2(cuda::Stream stream, DevicePointer address, std::uint32_t value, unsigned flags) {
  ENTER(cuStreamWaitValue32_v2);
  if (flags != cuda::kWaitValueGeq || !is_pinned(reinterpret_cast<void*>(address), 4)) return kInvalidValue;
  auto* const word = reinterpret_cast<std::uint32_t*>(address);
  return stream->put([=] {
    // What a device does in hardware: it looks now and then.
    while (static_cast<std::int32_t>(std::atomic_ref<std::uint32_t>(*word).load(std::memory_order_acquire) - value) <
           0) {
      std::this_thread::sleep_for(std::chrono::microseconds(20));
    }
    return Code{0};
  });
}
FAKE Code cuLaunchHostFunc(cuda::Stream stream, cuda::HostFunction function, void* argument) {
  ENTER(cuLaunchHostFunc);
  return stream->put([=] {
    t_in_host_function = true;
    function(argument);
    t_in_host_function = false;
    return Code{0};
  });
}

}  // extern "C"
