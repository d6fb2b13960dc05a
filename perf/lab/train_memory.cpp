#include "lab/train_memory.hpp"

#include <new>

namespace longspan::lab {
namespace {

constexpr std::size_t kSlab = std::size_t{4} << 20;
/// A frame and what keeps the next one on a cache line of its own.
constexpr std::size_t kStride = (PacketTrain::kLargestFrame + 63) / 64 * 64;
constexpr std::size_t kBlocksPerSlab = kSlab / kStride;

}  // namespace

TrainMemory::TrainMemory(std::size_t expected_bytes) {
  const std::size_t slabs = expected_bytes / kSlab + 1;
  for (std::size_t i = 0; i < slabs; ++i) grow();
}

TrainMemory::~TrainMemory() {
  for (std::byte* slab : slabs_) ::munmap(slab, kSlab);
}

void TrainMemory::grow() {
  void* memory = ::mmap(nullptr, kSlab, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  (void)::madvise(memory, kSlab, MADV_HUGEPAGE);
  // Touched at once, so that no page fault delays a packet.
  (void)::madvise(memory, kSlab, MADV_POPULATE_WRITE);
  slabs_.push_back(static_cast<std::byte*>(memory));
  for (std::size_t i = 0; i < kBlocksPerSlab; ++i) {
    auto block = std::make_unique<Block>();
    block->owner_ = this;
    block->bytes_ = slabs_.back() + i * kStride;
    free_.push_back(block.get());
    blocks_.push_back(std::move(block));
  }
}

TrainMemory::Block& TrainMemory::next() {
  if (current_ != nullptr && current_->users_ == 0) return *current_;
  if (free_.empty()) grow();
  current_ = free_.back();
  free_.pop_back();
  return *current_;
}

void TrainMemory::release(Block& block) {
  TrainMemory& owner = *block.owner_;
  if (--block.users_ == 0 && owner.current_ != &block) owner.free_.push_back(&block);
}

}  // namespace longspan::lab
