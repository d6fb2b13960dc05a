#include "device/cuda/copier.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <thread>

#include "base/log.hpp"

namespace longspan::device::cuda {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t kPage = std::size_t{64} << 10;  // pinned memory is mapped in pieces of this size at least
constexpr std::size_t kLeastThere = std::size_t{2} << 20;  // device memory, too
constexpr auto kPatience = 2s;  // for copies that nobody waits for any more, on a device that may hang
constexpr auto kPause = 50us;

DevicePointer address(const void* pointer) { return reinterpret_cast<DevicePointer>(pointer); }

/// The smallest of `free` that has `bytes`; an empty one where none has.
std::span<std::byte> best_of(std::vector<std::span<std::byte>>& free, std::size_t bytes) {
  auto best = free.end();
  for (auto each = free.begin(); each != free.end(); ++each) {
    if (each->size() >= bytes && (best == free.end() || each->size() < best->size())) best = each;
  }
  if (best == free.end()) return {};
  const std::span<std::byte> memory = *best;
  free.erase(best);
  return memory;
}

}  // namespace

Result<std::unique_ptr<PrimaryContext>> PrimaryContext::retain(const Driver& driver, int device) {
  int handle = 0;
  LONGSPAN_TRY(driver.check(driver.device_get(&handle, device), "cuDeviceGet"));
  Context context = nullptr;
  LONGSPAN_TRY(driver.check(driver.primary_retain(&context, handle), "cuDevicePrimaryCtxRetain"));
  return std::unique_ptr<PrimaryContext>(new PrimaryContext(driver, handle, context));
}

PrimaryContext::~PrimaryContext() { driver_.primary_release(handle_); }

CudaCopier::CudaCopier(const Driver& driver, std::shared_ptr<DriverMailbox> mailbox, int device,
                       std::unique_ptr<PrimaryContext> context)
    : driver_(driver), mailbox_(std::move(mailbox)), device_(device), context_(std::move(context)) {}

Result<std::unique_ptr<Copier>> CudaCopier::open(std::shared_ptr<DriverMailbox> mailbox, int device) {
  LONGSPAN_ASSIGN(const Driver* driver, Driver::usable());
  LONGSPAN_TRY(driver->check(driver->init(0), "cuInit"));
  auto context = PrimaryContext::retain(*driver, device);
  if (!context.ok()) return context.status().with_context(fmt::format("CUDA device {}", device));
  std::unique_ptr<CudaCopier> made(new CudaCopier(*driver, std::move(mailbox), device, std::move(*context)));
  if (Status status = made->make_streams(); !status.ok())
    return status.with_context(fmt::format("CUDA device {}", device));
  return std::unique_ptr<Copier>(std::move(made));
}

Status CudaCopier::make_streams() {
  const ContextGuard guard(driver_, context_->get());
  LONGSPAN_TRY(driver_.check(guard.code(), "cuCtxPushCurrent"));
  int least = 0;
  int greatest = 0;
  LONGSPAN_TRY(driver_.check(driver_.priority_range(&least, &greatest), "cuCtxGetStreamPriorityRange"));
  for (Stream* stream : {&down_, &up_, &there_}) {
    LONGSPAN_TRY(
        driver_.check(driver_.stream_create(stream, kStreamNonBlocking, greatest), "cuStreamCreateWithPriority"));
  }
  return {};
}

CudaCopier::~CudaCopier() {
  const ContextGuard guard(driver_, context_->get());
  if (guard.code() != kSuccess) return;  // the driver is going down with the process; what it holds goes with it
  const bool idle = idle_within(kPatience);
  for (const Stream stream : streams()) {
    if (stream != nullptr) driver_.stream_destroy(stream);
  }
  if (!idle) {  // to free memory would wait for the device, perhaps for ever; and it may still tell
    static_cast<void>(kernels_.release());
    return;
  }
  mailbox_->drop(this);
  kernels_.reset();
  for (const auto& memory : free_) driver_.host_free(memory.data());
  for (const auto& memory : free_there_) driver_.device_free(address(memory.data()));
}

/// A device that failed does nothing any more either.
bool CudaCopier::idle_within(std::chrono::nanoseconds patience) const noexcept {
  const auto until = std::chrono::steady_clock::now() + patience;
  for (const Stream stream : streams()) {
    while (stream != nullptr && driver_.stream_query(stream) == kNotReady) {
      if (std::chrono::steady_clock::now() >= until) return false;
      std::this_thread::sleep_for(kPause);
    }
  }
  return true;
}

Result<std::span<std::byte>> CudaCopier::take(std::size_t bytes) {
  if (const auto memory = best_of(free_, bytes); !memory.empty()) return memory;
  const ContextGuard guard(driver_, context_->get());
  LONGSPAN_TRY(driver_.check(guard.code(), "cuCtxPushCurrent"));
  // What is too small now will hardly be asked for again, and locked memory is scarce.
  for (const auto& memory : free_) driver_.host_free(memory.data());
  free_.clear();
  const std::size_t size = std::max<std::size_t>((bytes + kPage - 1) / kPage, 1) * kPage;
  void* memory = nullptr;
  Status status =
      driver_.check(driver_.host_alloc(&memory, size, kHostAllocPortable | kHostAllocDeviceMap), "cuMemHostAlloc");
  if (!status.ok())
    return status.with_context(fmt::format("{} bytes of page-locked memory to stage device memory through", size));
  return std::span(static_cast<std::byte*>(memory), size);
}

Result<std::span<std::byte>> CudaCopier::take_device(std::size_t bytes) {
  if (const auto memory = best_of(free_there_, bytes); !memory.empty()) return memory;
  const ContextGuard guard(driver_, context_->get());
  LONGSPAN_TRY(driver_.check(guard.code(), "cuCtxPushCurrent"));
  // What is too small stays all the same: peers may have it mapped. By powers of two, so that it is not much.
  const std::size_t size = std::bit_ceil(std::max(bytes, kLeastThere));
  DevicePointer memory = 0;
  Status status = driver_.check(driver_.device_alloc(&memory, size), "cuMemAlloc");
  if (!status.ok())
    return status.with_context(fmt::format("{} bytes of device {} for what is being reduced", size, device_));
  return std::span(reinterpret_cast<std::byte*>(memory), size);
}

Status CudaCopier::reduce(const Reduction& reduction, void* owner, void* what) {
  const ContextGuard guard(driver_, context_->get());
  LONGSPAN_TRY(driver_.check(guard.code(), "cuCtxPushCurrent"));
  LONGSPAN_TRY(kernels_->reduce(reduction.type, reduction.op, reduction.to, reduction.operands, reduction.count,
                                reduction.divisor, there_));
  return tell(there_, owner, what);
}

Status CudaCopier::copy_there(void* to, const void* from, std::size_t bytes, void* owner, void* what) {
  const ContextGuard guard(driver_, context_->get());
  LONGSPAN_TRY(driver_.check(guard.code(), "cuCtxPushCurrent"));
  LONGSPAN_TRY(driver_.check(driver_.copy(address(to), address(from), bytes, there_), "cuMemcpyAsync"));
  return tell(there_, owner, what);
}

bool CudaCopier::computes() {
  if (looked_for_kernels_) return kernels_ != nullptr;
  looked_for_kernels_ = true;
  const ContextGuard guard(driver_, context_->get());
  if (guard.code() != kSuccess) return false;
  auto loaded = Kernels::load(driver_, driver_.kernels());
  if (loaded.ok())
    kernels_ = std::move(*loaded);
  else
    log::debug("CUDA device {}: no kernels, the processor does their work: {}", device_, loaded.status().to_string());
  return kernels_ != nullptr;
}

Status CudaCopier::to_host(std::span<const Move> moves, const Scaling* scaling, void* owner, void* what) {
  const ContextGuard guard(driver_, context_->get());
  LONGSPAN_TRY(driver_.check(guard.code(), "cuCtxPushCurrent"));
  for (const Move& each : moves) {
    if (scaling != nullptr) {  // the kernel writes to the host's memory itself
      LONGSPAN_TRY(kernels_->scale(scaling->type, each.host, each.device, each.bytes / size_of(scaling->type),
                                   scaling->factor, down_));
      continue;
    }
    LONGSPAN_TRY(
        driver_.check(driver_.to_host(each.host, address(each.device), each.bytes, down_), "cuMemcpyDtoHAsync"));
  }
  return tell(down_, owner, what);
}

Status CudaCopier::to_device(std::span<const Move> moves, void* owner, void* what) {
  const ContextGuard guard(driver_, context_->get());
  LONGSPAN_TRY(driver_.check(guard.code(), "cuCtxPushCurrent"));
  for (const Move& each : moves) {
    LONGSPAN_TRY(
        driver_.check(driver_.to_device(address(each.device), each.host, each.bytes, up_), "cuMemcpyHtoDAsync"));
  }
  return tell(up_, owner, what);
}

Status CudaCopier::tell(Stream stream, void* owner, void* what) {
  LONGSPAN_TRY(mailbox_->tell(driver_, stream, Token{owner, what, this, 0}));
  ++under_way_;
  return {};
}

Status CudaCopier::copy(void* to, const void* from, std::size_t bytes) {
  const ContextGuard guard(driver_, context_->get());
  LONGSPAN_TRY(driver_.check(guard.code(), "cuCtxPushCurrent"));
  LONGSPAN_TRY(driver_.check(driver_.copy(address(to), address(from), bytes, up_), "cuMemcpyAsync"));
  return driver_.check(driver_.stream_synchronize(up_), "cuStreamSynchronize");
}

bool CudaCopier::abandon(const void* owner) noexcept {
  bool idle = false;
  {
    const ContextGuard guard(driver_, context_->get());
    idle = idle_within(kPatience);
  }
  if (!idle) log::error("CUDA device {} hangs: what it was to copy is given up, and the memory with it", device_);
  under_way_ -= mailbox_->forget(owner, this);
  return idle;
}

Status CudaCopier::health() {
  const ContextGuard guard(driver_, context_->get());
  LONGSPAN_TRY(driver_.check(guard.code(), "cuCtxPushCurrent"));
  for (const Stream stream : streams()) {
    const Code code = driver_.stream_query(stream);
    if (code != kNotReady) LONGSPAN_TRY(driver_.check(code, "cuStreamQuery"));
  }
  return {};
}

}  // namespace longspan::device::cuda
