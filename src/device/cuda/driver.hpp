#pragma once

#include <span>

#include "device/cuda/driver_api.hpp"
#include "longspan/status.hpp"

namespace longspan::device::cuda {

/// The CUDA driver that this process has loaded. It is never loaded from here: who has device memory or a stream has
/// it.
class Driver : public Functions {
 public:
  /// nullptr where the process has loaded none. A driver stays for the life of the process.
  static const Driver* in_process() noexcept;
  /// The same for who needs all of it: the failure says what is missing and what to do.
  static Result<const Driver*> usable();

  /// The failure of `call` as a Status that names both and says what to do; ok for kSuccess.
  Status check(Code code, const char* call) const;
  /// The kernels that it can load: those of this build, but for a double of the driver, which brings its own.
  std::span<const std::byte> kernels() const noexcept;

 private:
  explicit Driver(void* library) noexcept;
  const char* missing_ = nullptr;  // a function that this driver does not have
  const std::byte* own_kernels_ = nullptr;
};

/// Makes a context current for this thread as long as it lives, and puts back what was. Meanwhile calls that CUDA
/// forbids while another thread captures a graph ("unsafe" ones: allocations, queries) are allowed: ours touch no
/// captured stream.
class ContextGuard {
 public:
  ContextGuard(const Driver& driver, Context context) noexcept;
  ContextGuard(const ContextGuard&) = delete;
  ContextGuard& operator=(const ContextGuard&) = delete;
  ~ContextGuard();
  Code code() const noexcept { return code_; }

 private:
  const Driver& driver_;
  int mode_ = kCaptureModeRelaxed;
  Code code_;
};

}  // namespace longspan::device::cuda
