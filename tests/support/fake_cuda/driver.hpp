#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>

#include "device/cuda/driver_api.hpp"

/// A CUDA driver without a device, for tests. Device memory is memory of this process that the processor may not touch:
/// whoever does is ended by the kernel. Streams are threads, so that what was not waited for has mostly not happened
/// yet.
namespace fake_cuda {

using longspan::device::cuda::Code;
using longspan::device::cuda::DevicePointer;

inline constexpr int kDevices = 2;
inline constexpr std::size_t kMostQueued = 64;  // then putting more into a stream blocks (a real one: about a thousand)

// CUresult
inline constexpr Code kInvalidValue = 1, kOutOfMemory = 2, kInvalidContext = 201, kNotFound = 500,
                      kIllegalAddress = 700, kNotPermitted = 800, kCaptureUnsupported = 900;

/// Device memory: a range of addresses that nobody may touch, and a second view of it for the driver itself. Other
/// processes open the file behind it, through /proc.
class Memory {
 public:
  static Memory& get();
  DevicePointer allocate(std::size_t bytes, int device, bool shareable);
  bool release(DevicePointer pointer);
  /// Where the driver reads and writes it; nullptr unless all of it is one allocation.
  std::byte* view(DevicePointer pointer, std::size_t bytes);
  /// The device of an allocation, or -1.
  int device_of(DevicePointer pointer);

  struct Range {
    DevicePointer begin = 0;
    std::size_t bytes = 0;
    std::uint64_t number = 0;
    bool shareable = false;
  };
  /// The allocation that `pointer` is in.
  Range range_of(DevicePointer pointer);
  Code name(DevicePointer pointer, longspan::device::cuda::IpcHandle& handle);
  Code open(const longspan::device::cuda::IpcHandle& handle, DevicePointer& pointer);
  Code close(DevicePointer pointer);
  /// Memory of other processes that is mapped.
  std::size_t opened();

 private:
  Memory();
  struct Allocation {
    std::size_t bytes = 0;
    int device = 0;
    std::byte* view = nullptr;
    std::uint64_t number = 0;
    bool shareable = false;
    std::size_t mapped = 0;  // another process's: bytes before it and with it that are mapped here
    std::size_t before = 0;
  };
  std::map<DevicePointer, Allocation>::iterator find(DevicePointer pointer);

  std::mutex mutex_;
  int file_ = -1;
  DevicePointer forbidden_ = 0;
  std::byte* view_ = nullptr;
  DevicePointer next_ = 0;
  std::uint64_t numbers_ = 0;
  std::map<DevicePointer, Allocation> allocations_;
};

/// True once, or always, for calls of `function` that a test has asked to fail.
Code injected(const char* function);

}  // namespace fake_cuda

struct CUctx_st {
  int device = 0;
};

/// A queue and the thread that works it off. After a failure it does nothing any more, as a device after a fault.
struct CUstream_st {
  explicit CUstream_st(CUctx_st* its_context);
  ~CUstream_st();
  fake_cuda::Code put(std::function<fake_cuda::Code()> operation);
  fake_cuda::Code query();
  fake_cuda::Code synchronize();

  CUctx_st* const context;
  bool capturing = false;

 private:
  void work();
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<fake_cuda::Code()>> queue_;
  bool busy_ = false;
  bool ends_ = false;
  fake_cuda::Code failure_ = 0;
  std::thread thread_;
};
