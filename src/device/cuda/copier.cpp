#include "device/cuda/copier.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "base/log.hpp"

namespace longspan::device::cuda {
namespace {

constexpr std::size_t kPage = std::size_t{64} << 10;  // pinned memory is mapped in pieces of this size at least

DevicePointer address(const void* pointer) { return reinterpret_cast<DevicePointer>(pointer); }

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
  for (Stream* stream : {&down_, &up_}) {
    LONGSPAN_TRY(
        driver_.check(driver_.stream_create(stream, kStreamNonBlocking, greatest), "cuStreamCreateWithPriority"));
  }
  return {};
}

CudaCopier::~CudaCopier() {
  const ContextGuard guard(driver_, context_->get());
  if (guard.code() != kSuccess) return;  // the driver is going down with the process; what it holds goes with it
  for (const Stream stream : {down_, up_}) {
    if (stream == nullptr) continue;
    driver_.stream_synchronize(stream);
    driver_.stream_destroy(stream);
  }
  mailbox_->drop(this);
  kernels_.reset();
  for (const auto& memory : free_) driver_.host_free(memory.data());
}

Result<std::span<std::byte>> CudaCopier::take(std::size_t bytes) {
  auto best = free_.end();
  for (auto each = free_.begin(); each != free_.end(); ++each) {
    if (each->size() >= bytes && (best == free_.end() || each->size() < best->size())) best = each;
  }
  if (best != free_.end()) {
    const std::span<std::byte> memory = *best;
    free_.erase(best);
    return memory;
  }
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

bool CudaCopier::scales() {
  if (looked_for_kernels_) return kernels_ != nullptr;
  looked_for_kernels_ = true;
  const ContextGuard guard(driver_, context_->get());
  if (guard.code() != kSuccess) return false;
  auto loaded = Kernels::load(driver_, kernel_image());
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

void CudaCopier::abandon(const void* owner) noexcept {
  {
    const ContextGuard guard(driver_, context_->get());
    for (const Stream stream : {down_, up_}) {
      const Status status = driver_.check(driver_.stream_synchronize(stream), "cuStreamSynchronize");
      if (!status.ok()) log::debug("CUDA device {}: {}", device_, status.to_string());  // a dead context copies no more
    }
  }
  under_way_ -= mailbox_->forget(owner, this);
}

Status CudaCopier::health() {
  const ContextGuard guard(driver_, context_->get());
  LONGSPAN_TRY(driver_.check(guard.code(), "cuCtxPushCurrent"));
  for (const Stream stream : {down_, up_}) {
    const Code code = driver_.stream_query(stream);
    if (code != kNotReady) LONGSPAN_TRY(driver_.check(code, "cuStreamQuery"));
  }
  return {};
}

}  // namespace longspan::device::cuda
