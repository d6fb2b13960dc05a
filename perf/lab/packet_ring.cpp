#include "lab/packet_ring.hpp"

#include <sys/mman.h>

#include <cstring>
#include <new>
#include <utility>

namespace longspan::lab {
namespace {

constexpr std::size_t kAlignment = alignof(PacketRecord);
/// Rings up to this size are touched at once, so that no page fault delays a packet.
constexpr std::size_t kPopulateLimit = std::size_t{64} << 20;

void give_back(PacketRecord& record) {
  if (record.block != nullptr) TrainMemory::release(*record.block);
}

constexpr std::size_t round_up(std::size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

}  // namespace

PacketRing::PacketRing(std::size_t capacity_bytes) : capacity_(round_up(capacity_bytes)) {
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  void* memory = ::mmap(nullptr, capacity_, PROT_READ | PROT_WRITE, flags, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  (void)::madvise(memory, capacity_, MADV_HUGEPAGE);
  if (capacity_ <= kPopulateLimit) (void)::madvise(memory, capacity_, MADV_POPULATE_WRITE);
  memory_ = static_cast<std::byte*>(memory);
}

PacketRing::PacketRing(PacketRing&& other) noexcept
    : memory_(std::exchange(other.memory_, nullptr)),
      capacity_(std::exchange(other.capacity_, 0)),
      head_(std::exchange(other.head_, 0)),
      tail_(std::exchange(other.tail_, 0)),
      records_(std::exchange(other.records_, 0)) {}

PacketRing::~PacketRing() {
  while (!empty()) pop();
  if (memory_ != nullptr) ::munmap(memory_, capacity_);
}

std::size_t PacketRing::skip_wrap(std::size_t position) const {
  if (position + sizeof(PacketRecord) > capacity_ || at(position).length == 0) return 0;
  return position;
}

PacketRecord* PacketRing::push(std::size_t length) {
  const std::size_t stride = sizeof(PacketRecord) + round_up(length);
  // Starting over when idle keeps a lightly used ring in the cache.
  if (records_ == 0) head_ = tail_ = 0;
  // head_ == tail_ with records inside means full, so strict comparisons keep one byte free.
  if (tail_ >= head_ && (records_ == 0 || tail_ > head_)) {
    if (tail_ + stride > capacity_) {
      if (stride >= head_) return nullptr;
      if (tail_ + sizeof(PacketRecord) <= capacity_) at(tail_).length = 0;
      tail_ = 0;
    }
  } else if (tail_ + stride >= head_) {
    return nullptr;
  }
  PacketRecord& record = *new (memory_ + tail_) PacketRecord;
  record.length = static_cast<std::uint32_t>(length);
  record.stride = static_cast<std::uint32_t>(stride);
  tail_ += stride;
  ++records_;
  return &record;
}

PacketRecord& PacketRing::front() {
  head_ = skip_wrap(head_);
  return at(head_);
}

void PacketRing::pop() {
  give_back(front());
  head_ += front().stride;
  --records_;
}

std::size_t PacketRing::truncate_after(TimePoint instant) {
  std::size_t position = head_;
  std::size_t kept = 0;
  while (kept < records_) {
    position = skip_wrap(position);
    if (at(position).departs > instant) break;
    position += at(position).stride;
    ++kept;
  }
  const std::size_t removed = records_ - kept;
  if (removed == 0) return 0;
  const std::size_t tail = position;
  for (std::size_t i = 0; i < removed; ++i) {
    position = skip_wrap(position);
    give_back(at(position));
    position += at(position).stride;
  }
  tail_ = tail;
  records_ = kept;
  return removed;
}

}  // namespace longspan::lab
