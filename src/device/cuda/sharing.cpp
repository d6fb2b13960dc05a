#include "device/cuda/sharing.hpp"

#include <fmt/format.h>
#include <sys/random.h>
#include <unistd.h>

#include <algorithm>

namespace longspan::device::cuda {
namespace {

constexpr std::size_t kMostKept = 256;

std::uint64_t random_number() noexcept {
  std::uint64_t number = 0;
  if (::getrandom(&number, sizeof number, 0) != sizeof number) number = reinterpret_cast<std::uintptr_t>(&number);
  return number;
}

}  // namespace

std::uint64_t this_process() noexcept {
  static const std::uint64_t start = random_number();
  return start ^ static_cast<std::uint64_t>(::getpid()) * 0x9e3779b97f4a7c15ULL;  // a forked child is another
}

DeviceSharing::Mapping::~Mapping() {
  const ContextGuard guard(driver_, context_);
  if (guard.code() == kSuccess) driver_.ipc_close(at_);
}

Result<std::unique_ptr<DeviceSharing>> DeviceSharing::open(int device) {
  LONGSPAN_ASSIGN(const Driver* driver, Driver::usable());
  LONGSPAN_ASSIGN(auto context, PrimaryContext::retain(*driver, device));
  return std::unique_ptr<DeviceSharing>(new DeviceSharing(*driver, device, std::move(context)));
}

Result<PieceName> DeviceSharing::name(const void* pointer) {
  PieceName piece;
  int capable = 0;
  int wanted[] = {kAttributeRangeStart, kAttributeRangeSize, kAttributeBufferId, kAttributeIpcCapable,
                  kAttributeDeviceOrdinal};
  void* values[] = {&piece.base, &piece.size, &piece.buffer, &capable, &piece.device};
  const auto at = reinterpret_cast<DevicePointer>(pointer);
  LONGSPAN_TRY(driver_.check(driver_.pointer_attributes(5, wanted, values, at), "cuPointerGetAttributes"));
  piece.process = this_process();
  piece.offset = at - piece.base;
  const auto before = named_.find(piece.base);
  if (before != named_.end() && before->second.first == piece.buffer) {
    piece.handle = before->second.second;
    return piece;
  }
  if (capable == 0) {
    return Status(StatusCode::kUnsupported,
                  "this device memory has no handle for other processes (cudaMalloc's has; memory of pools and of "
                  "cuMemMap, as PyTorch's expandable segments, has not)");
  }
  const ContextGuard guard(driver_, context_->get());
  LONGSPAN_TRY(driver_.check(guard.code(), "cuCtxPushCurrent"));
  LONGSPAN_TRY(driver_.check(driver_.ipc_get(&piece.handle, piece.base), "cuIpcGetMemHandle"));
  if (named_.size() >= kMostKept) named_.clear();  // handles cost a call each; what matters is not to hoard them
  named_[piece.base] = {piece.buffer, piece.handle};
  return piece;
}

Result<DeviceSharing::View> DeviceSharing::map_own(const PieceName& piece) {
  const auto* const data = reinterpret_cast<const std::byte*>(piece.base + piece.offset);
  if (piece.device != device_ && !neighbours_.contains(piece.device)) {
    LONGSPAN_ASSIGN(auto other, PrimaryContext::retain(driver_, piece.device));
    const ContextGuard guard(driver_, context_->get());
    LONGSPAN_TRY(driver_.check(guard.code(), "cuCtxPushCurrent"));
    const Code code = driver_.peer_access(other->get(), 0);
    if (code != kPeerAccessAlreadyEnabled) LONGSPAN_TRY(driver_.check(code, "cuCtxEnablePeerAccess"));
    neighbours_[piece.device] = std::move(other);
  }
  return View{data, nullptr};
}

/// What its owner has freed since: memory has another allocation's number now.
void DeviceSharing::drop_stale(const PieceName& piece) {
  const auto begin = kept_.lower_bound({piece.process, 0});
  const auto end = kept_.lower_bound({piece.process, piece.base + piece.size});
  for (auto each = begin; each != end;) {
    const bool overlaps = each->first.second + each->second->size() > piece.base;
    each = overlaps && each->second->buffer() != piece.buffer ? kept_.erase(each) : std::next(each);
  }
  if (kept_.size() < kMostKept) return;
  kept_.erase(std::min_element(kept_.begin(), kept_.end(), [](const auto& a, const auto& b) {
    return a.second->last_used < b.second->last_used;
  }));
}

Result<DeviceSharing::View> DeviceSharing::map(const PieceName& piece) {
  if (piece.process == this_process()) return map_own(piece);
  if (piece.offset >= piece.size) return Status(StatusCode::kInternal, "a piece of device memory outside its memory");
  auto found = kept_.find({piece.process, piece.base});
  if (found == kept_.end() || found->second->buffer() != piece.buffer) {
    drop_stale(piece);
    const ContextGuard guard(driver_, context_->get());
    LONGSPAN_TRY(driver_.check(guard.code(), "cuCtxPushCurrent"));
    DevicePointer at = 0;
    LONGSPAN_TRY(driver_.check(driver_.ipc_open(&at, piece.handle, kIpcLazyPeerAccess), "cuIpcOpenMemHandle"));
    auto made = std::make_shared<Mapping>(driver_, context_->get(), at, piece.buffer, piece.size);
    found = kept_.insert_or_assign({piece.process, piece.base}, std::move(made)).first;
  }
  found->second->last_used = ++uses_;
  return View{found->second->data() + piece.offset, found->second};
}

}  // namespace longspan::device::cuda
