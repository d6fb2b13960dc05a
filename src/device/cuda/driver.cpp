#include "device/cuda/driver.hpp"

#include <dlfcn.h>
#include <fmt/format.h>
#include <link.h>

#include <atomic>
#include <mutex>

#include "device/cuda/kernels.hpp"

namespace longspan::device::cuda {
namespace {

/// How many objects this process has ever loaded: asking the loader whether the driver is among them costs far more
/// than this, and a small collective is over in a few microseconds.
unsigned long long objects_loaded() noexcept {
  unsigned long long count = 0;
  ::dl_iterate_phdr(
      [](dl_phdr_info* info, std::size_t, void* out) {
        *static_cast<unsigned long long*>(out) = info->dlpi_adds;
        return 1;
      },
      &count);
  return count;
}

const char* advice(Code code) {
  switch (code) {
    case 2: return "the device or the host is out of memory: use smaller buffers, or raise the limit of locked memory";
    case 3:
    case 4:
    case 100:
      return "check nvidia-smi, and that driver and devices are visible here (containers, CUDA_VISIBLE_DEVICES)";
    case 201:
    case 709: return "the device's context is gone: was it reset, or the process forked after CUDA was used?";
    case 214:
    case 700:
    case 719: return "the device reports a fault, mostly of an earlier kernel of the program: try compute-sanitizer";
    case 999:
    case 802:
    case 803: return "see the kernel's log (dmesg, NVRM) and nvidia-smi";
    case 1:
    case 400: return "check that the buffer and the stream still exist, and belong to one device";
    case 801: return "this device or driver does not offer it";
    default: return "see the CUDA driver's reference for this code";
  }
}

}  // namespace

Driver::Driver(void* library) noexcept {
#define LONGSPAN_CUDA_LOAD(member, symbol, arguments)                     \
  member = reinterpret_cast<decltype(member)>(::dlsym(library, #symbol)); \
  if (member == nullptr && missing_ == nullptr) missing_ = #symbol;
  LONGSPAN_CUDA_FUNCTIONS(LONGSPAN_CUDA_LOAD)
#undef LONGSPAN_CUDA_LOAD
  own_kernels_ = static_cast<const std::byte*>(::dlsym(library, "longspan_kernels_of_a_double"));
}

std::span<const std::byte> Driver::kernels() const noexcept {
  return own_kernels_ != nullptr ? std::span(own_kernels_, 1) : kernel_image();
}

const Driver* Driver::in_process() noexcept {
  static std::atomic<const Driver*> found{nullptr};
  static std::atomic<unsigned long long> looked_at{0};
  if (const Driver* driver = found.load(std::memory_order_acquire)) return driver;
  const unsigned long long objects = objects_loaded();
  if (objects == looked_at.load(std::memory_order_relaxed)) return nullptr;
  static std::mutex once;
  const std::lock_guard guard(once);
  if (const Driver* driver = found.load(std::memory_order_relaxed)) return driver;
  if (void* library = ::dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD)) {
    found.store(new Driver(library), std::memory_order_release);  // as long as the process, like the driver itself
  }
  looked_at.store(objects, std::memory_order_relaxed);
  return found.load(std::memory_order_relaxed);
}

Result<const Driver*> Driver::usable() {
#if defined(LONGSPAN_WITHOUT_CUDA)
  return Status(StatusCode::kUnsupported,
                "device memory: this library was configured with LONGSPAN_CUDA=OFF; use host memory or another build");
#endif
  const Driver* driver = in_process();
  if (driver == nullptr) {
    return Status(StatusCode::kUnsupported,
                  "streams and device memory need the CUDA driver (libcuda.so.1), which this process has not loaded; "
                  "pass nullptr as the stream of host memory");
  }
  if (driver->missing_ != nullptr) {
    return Status(StatusCode::kUnsupported, fmt::format("the CUDA driver has no {}: at least the driver of CUDA 11.8 "
                                                        "is needed (nvidia-smi says which is installed)",
                                                        driver->missing_));
  }
  return driver;
}

Status Driver::check(Code code, const char* call) const {
  if (code == kSuccess) return {};
  const char* name = nullptr;
  const char* text = nullptr;
  if (error_name(code, &name) != kSuccess || name == nullptr) name = "an unknown code";
  if (error_text(code, &text) != kSuccess || text == nullptr) text = "no description";
  const bool memory = code == 2;
  return Status(memory ? StatusCode::kResource : StatusCode::kSystem,
                fmt::format("{}: {} ({}): {}; {}", call, name, code, text, advice(code)));
}

ContextGuard::ContextGuard(const Driver& driver, Context context) noexcept
    : driver_(driver), code_(driver.push(context)) {
  if (code_ == kSuccess) driver_.capture_mode(&mode_);
}

ContextGuard::~ContextGuard() {
  if (code_ != kSuccess) return;
  driver_.capture_mode(&mode_);
  Context ours = nullptr;
  driver_.pop(&ours);
}

}  // namespace longspan::device::cuda
