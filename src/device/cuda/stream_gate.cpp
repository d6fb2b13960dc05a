#include "device/cuda/stream_gate.hpp"

#include <atomic>

namespace longspan::device::cuda {
namespace {

constexpr std::size_t kLine = 64 / sizeof(std::uint32_t);  // a word in a cache line of its own
constexpr std::size_t kPageBytes = 64 << 10;
void* const kStreamPerThread = reinterpret_cast<void*>(2);  // CU_STREAM_PER_THREAD

}  // namespace

Result<std::unique_ptr<StreamGate>> StreamGate::open(std::shared_ptr<DriverMailbox> mailbox) {
  LONGSPAN_ASSIGN(const Driver* driver, Driver::usable());
  return std::unique_ptr<StreamGate>(new StreamGate(*driver, std::move(mailbox)));
}

// Its words stay: a stream that was told to go on may look at its word after this is gone, and CUDA offers no way to
// know.
StreamGate::~StreamGate() = default;

Result<std::uint32_t*> StreamGate::new_word(Context context) {
  if (left_ == 0) {
    const ContextGuard guard(driver_, context);
    LONGSPAN_TRY(driver_.check(guard.code(), "cuCtxPushCurrent"));
    void* memory = nullptr;
    LONGSPAN_TRY(driver_.check(driver_.host_alloc(&memory, kPageBytes, kHostAllocPortable | kHostAllocDeviceMap),
                               "cuMemHostAlloc"));
    page_ = static_cast<std::uint32_t*>(memory);
    left_ = kPageBytes / sizeof(std::uint32_t) / kLine;
    for (std::size_t i = 0; i < left_ * kLine; ++i) page_[i] = 0;
  }
  --left_;
  return std::exchange(page_, page_ + kLine);
}

Status StreamGate::accepts(void* stream) const {
  int capturing = kCaptureNone;
  LONGSPAN_TRY(
      driver_.check(driver_.stream_capturing(static_cast<Stream>(stream), &capturing), "cuStreamIsCapturing"));
  if (capturing == kCaptureNone) return {};
  return {StatusCode::kUnsupported,
          "the stream captures a CUDA graph, and calls cannot be captured: every replay would need a call on every "
          "rank; call it outside the graph"};
}

Result<StreamGate::Ticket> StreamGate::next(void* stream) {
  const auto handle = static_cast<Stream>(stream);
  Context context = nullptr;
  LONGSPAN_TRY(driver_.check(driver_.stream_context(handle, &context), "cuStreamGetCtx"));
  const std::thread::id thread = stream == kStreamPerThread ? std::this_thread::get_id() : std::thread::id();
  Ticket& last = last_[{stream, context, thread}];
  if (last.word == nullptr) {
    LONGSPAN_ASSIGN(last.word, new_word(context));
  }
  ++last.value;
  return last;
}

Status StreamGate::tell(void* stream, const Token& token) {
  const auto handle = static_cast<Stream>(stream);
  Context context = nullptr;
  LONGSPAN_TRY(driver_.check(driver_.stream_context(handle, &context), "cuStreamGetCtx"));
  const ContextGuard guard(driver_, context);
  LONGSPAN_TRY(driver_.check(guard.code(), "cuCtxPushCurrent"));
  return mailbox_->tell(driver_, handle, token);
}

Status StreamGate::wait(void* stream, const Ticket& ticket) {
  const auto handle = static_cast<Stream>(stream);
  Context context = nullptr;
  LONGSPAN_TRY(driver_.check(driver_.stream_context(handle, &context), "cuStreamGetCtx"));
  const ContextGuard guard(driver_, context);
  LONGSPAN_TRY(driver_.check(guard.code(), "cuCtxPushCurrent"));
  // Memory of cuMemHostAlloc has one address for host and devices (unified addressing: every 64-bit platform). The
  // comparison is of the difference as a signed number, so the values may wrap.
  const auto word = reinterpret_cast<DevicePointer>(ticket.word);
  return driver_.check(driver_.stream_wait_value(handle, word, ticket.value, kWaitValueGeq), "cuStreamWaitValue32");
}

void StreamGate::open_for(const Ticket& ticket) noexcept {
  if (ticket.word == nullptr) return;
  // Never back: when all calls fail at once, they may do so in any order.
  std::atomic_ref<std::uint32_t> word(*ticket.word);
  std::uint32_t seen = word.load(std::memory_order_relaxed);
  while (static_cast<std::int32_t>(ticket.value - seen) > 0 &&
         !word.compare_exchange_weak(seen, ticket.value, std::memory_order_release, std::memory_order_relaxed)) {
  }
}

}  // namespace longspan::device::cuda
