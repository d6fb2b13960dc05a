#include "gpu.hpp"

#include <dlfcn.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>

#include "device/cuda/driver_api.hpp"

namespace longspan::test::gpu {
namespace {

namespace cuda = device::cuda;

struct Api : cuda::Functions {
  cuda::Code (*device_count)(int*) = nullptr;
  cuda::Code (*current)(cuda::Context*) = nullptr;
  cuda::Code (*memory)(cuda::DevicePointer*, std::size_t) = nullptr;
  cuda::Code (*memory_free)(cuda::DevicePointer) = nullptr;
  cuda::Code (*copy_now)(cuda::DevicePointer, cuda::DevicePointer, std::size_t) = nullptr;
  void (*inject)(const char*, int, int) = nullptr;
  int (*pending)() = nullptr;
  void (*capture)(cuda::Stream, int) = nullptr;
  std::size_t (*pinned)() = nullptr;
  std::size_t (*opened)() = nullptr;
  cuda::Code (*memory_private)(cuda::DevicePointer*, std::size_t) = nullptr;
};
Api g_api;

void must(cuda::Code code, const char* what) {
  if (code == cuda::kSuccess) return;
  std::fprintf(stderr, "test: %s failed with %d\n", what, code);
  std::abort();
}

template <class Function>
void find(void* library, const char* name, Function*& function) {
  function = reinterpret_cast<Function*>(::dlsym(library, name));
}

/// The device's primary context, current for a while.
class On {
 public:
  explicit On(int device) {
    cuda::Context context = nullptr;
    must(g_api.primary_retain(&context, device), "cuDevicePrimaryCtxRetain");
    must(g_api.push(context), "cuCtxPushCurrent");
  }
  On(const On&) = delete;
  On& operator=(const On&) = delete;
  ~On() {
    cuda::Context context = nullptr;
    g_api.pop(&context);
  }
};

cuda::DevicePointer address(const void* pointer) { return reinterpret_cast<cuda::DevicePointer>(pointer); }

/// Why there is no driver; "" where there is.
std::string load(bool real) {
  if (g_api.init != nullptr) return "";
  void* library = ::dlopen(real ? "libcuda.so.1" : LONGSPAN_FAKE_CUDA, RTLD_NOW | RTLD_GLOBAL);
  if (library == nullptr) return std::string("no CUDA driver: ") + ::dlerror();
#define LONGSPAN_TEST_LOAD(member, symbol, arguments) find(library, #symbol, g_api.member);
  LONGSPAN_CUDA_FUNCTIONS(LONGSPAN_TEST_LOAD)
#undef LONGSPAN_TEST_LOAD
  find(library, "cuDeviceGetCount", g_api.device_count);
  find(library, "cuCtxGetCurrent", g_api.current);
  find(library, "cuMemAlloc_v2", g_api.memory);
  find(library, "cuMemFree_v2", g_api.memory_free);
  find(library, "cuMemcpy", g_api.copy_now);
  find(library, "fake_cuda_inject", g_api.inject);
  find(library, "fake_cuda_pending", g_api.pending);
  find(library, "fake_cuda_capture", g_api.capture);
  find(library, "fake_cuda_pinned_bytes", g_api.pinned);
  find(library, "fake_cuda_opened", g_api.opened);
  find(library, "fake_cuda_alloc_private", g_api.memory_private);
  const cuda::Code code = g_api.init(0);
  return code == cuda::kSuccess ? "" : "cuInit says " + std::to_string(code);
}

}  // namespace

bool ready(Needs needs) {
  const char* wanted = std::getenv("LONGSPAN_TEST_GPU");
  const bool real = wanted != nullptr && *wanted == '1';
  if (const std::string why = load(real); !why.empty()) {
    std::fprintf(real ? stdout : stderr, "SKIP: cuda: %s\n", why.c_str());
    if (!real) std::abort();
    return false;
  }
  if (needs == Needs::kAnyDriver || is_double()) return true;
  std::printf("SKIP: cuda: a real driver cannot be told to fail, or what it holds\n");
  return false;
}

bool is_double() { return g_api.inject != nullptr; }

int devices() {
  int count = 0;
  must(g_api.device_count(&count), "cuDeviceGetCount");
  return count;
}

Memory::Memory(int device, std::size_t bytes) : device_(device) {
  const On on(device);
  must(g_api.memory(&address_, bytes == 0 ? 1 : bytes), "cuMemAlloc");
}

Memory Memory::without_handle(int device, std::size_t bytes) {
  const On on(device);
  Memory made(device);
  must(g_api.memory_private(&made.address_, bytes), "memory of a pool");
  return made;
}

Memory::~Memory() {
  if (address_ == 0) return;
  const On on(device_);
  g_api.memory_free(address_);
}

void Memory::upload(const void* from, std::size_t bytes) {
  const On on(device_);
  if (bytes > 0) must(g_api.copy_now(address_, address(from), bytes), "cuMemcpy to the device");
}

void Memory::download(void* to, std::size_t bytes) const {
  const On on(device_);
  if (bytes > 0) must(g_api.copy_now(address(to), address_, bytes), "cuMemcpy to the host");
}

Stream::Stream(int device) : device_(device) {
  const On on(device);
  cuda::Stream stream = nullptr;
  must(g_api.stream_create(&stream, cuda::kStreamNonBlocking, 0), "cuStreamCreateWithPriority");
  stream_ = stream;
  void* page = nullptr;
  must(g_api.host_alloc(&page, 4096, cuda::kHostAllocPortable | cuda::kHostAllocDeviceMap), "cuMemHostAlloc");
  gate_ = static_cast<std::uint32_t*>(page);
  *gate_ = 0;
}

Stream::~Stream() {
  const On on(device_);
  g_api.stream_destroy(static_cast<cuda::Stream>(stream_));
  g_api.host_free(gate_);
}

void Stream::copy(void* to, const void* from, std::size_t bytes) {
  const On on(device_);
  if (bytes > 0)
    must(g_api.copy(address(to), address(from), bytes, static_cast<cuda::Stream>(stream_)), "cuMemcpyAsync");
}

void Stream::close_gate() {
  const On on(device_);
  std::atomic_ref<std::uint32_t>(*gate_).store(0);
  must(g_api.stream_wait_value(static_cast<cuda::Stream>(stream_), address(gate_), 1, cuda::kWaitValueGeq),
       "cuStreamWaitValue32");
}

void Stream::open_gate() { std::atomic_ref<std::uint32_t>(*gate_).store(1); }

bool Stream::idle() {
  const On on(device_);
  return g_api.stream_query(static_cast<cuda::Stream>(stream_)) == cuda::kSuccess;
}

int Stream::synchronize() {
  const On on(device_);
  return g_api.stream_synchronize(static_cast<cuda::Stream>(stream_));
}

void* current_context() {
  cuda::Context context = nullptr;
  must(g_api.current(&context), "cuCtxGetCurrent");
  return context;
}

void inject(const char* function, int code, int skip) { g_api.inject(function, code, skip); }
int pending_injections() { return g_api.pending(); }
void set_capturing(Stream& stream, bool capturing) {
  g_api.capture(static_cast<cuda::Stream>(stream.get()), capturing ? 1 : 0);
}
std::size_t pinned_bytes() { return g_api.pinned(); }
std::size_t opened() { return g_api.opened(); }

}  // namespace longspan::test::gpu
