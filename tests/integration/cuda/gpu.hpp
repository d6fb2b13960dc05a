#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

/// CUDA as a program uses it, for tests: the double of the driver, or with LONGSPAN_TEST_GPU=1 the real one.
namespace longspan::test::gpu {

enum class Needs { kAnyDriver, kDouble };
/// Whether a test can run here: loads the driver. Where not, prints "SKIP: " with the reason. Only a real driver may be
/// missing: the double is part of the build, and without it the program ends.
bool ready(Needs needs = Needs::kAnyDriver);
/// The driver is the double, which can be told to fail.
bool is_double();
int devices();

/// Memory of a device; the calls that reach it block until done.
class Memory {
 public:
  Memory(int device, std::size_t bytes);
  /// Of the double: memory that other processes cannot map, as of a pool.
  static Memory without_handle(int device, std::size_t bytes);
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  Memory(Memory&& other) noexcept : device_(other.device_), address_(other.address_) { other.address_ = 0; }
  ~Memory();
  void* get() const { return reinterpret_cast<void*>(address_); }
  void upload(const void* from, std::size_t bytes);
  void download(void* to, std::size_t bytes) const;

 private:
  explicit Memory(int device) : device_(device) {}
  int device_;
  unsigned long long address_ = 0;
};

/// A stream of a device, as a program makes it.
class Stream {
 public:
  explicit Stream(int device);
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  ~Stream();
  void* get() const { return stream_; }
  /// Puts a copy into the stream; host memory stays as it is until then.
  void copy(void* to, const void* from, std::size_t bytes);
  /// Everything put in after this waits until `open`.
  void close_gate();
  void open_gate();
  bool idle();
  /// 0, or the driver's code.
  int synchronize();

 private:
  int device_;
  void* stream_ = nullptr;
  std::uint32_t* gate_ = nullptr;
};

/// The context that is current for this thread; nullptr: none.
void* current_context();

// Of the double:
void inject(const char* function, int code, int skip);
int pending_injections();
void set_capturing(Stream& stream, bool capturing);
std::size_t pinned_bytes();
/// Allocations of other processes that are mapped here.
std::size_t opened();

}  // namespace longspan::test::gpu
