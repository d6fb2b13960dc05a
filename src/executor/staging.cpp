#include "executor/staging.hpp"

#include <algorithm>

#include "longspan/collective.hpp"

namespace longspan::executor {

Status Staging::begin(device::Copier& copier, const BlockBuffer& buffer, std::uint32_t blocks, std::uint32_t chunks,
                      std::uint32_t slots, std::size_t element_size) {
  buffer_ = buffer;
  blocks_ = blocks;
  chunks_ = chunks;
  element_size_ = element_size;
  block_at_.resize(blocks);
  // A slice of several blocks (in schedules that are not cut) is one piece of the user's buffer, and so must its image
  // be.
  std::size_t first = SIZE_MAX;
  for (std::uint32_t b = 0; b < blocks; ++b) first = std::min(first, buffer.offset(b));
  slot_bytes_ = 0;
  std::size_t longest = 0;
  for (std::uint32_t b = 0; b < blocks; ++b) {
    if (chunks == 1) {
      block_at_[b] = (buffer.offset(b) - first) * element_size;
      slot_bytes_ = std::max(slot_bytes_, block_at_[b] + buffer.count(b) * element_size);
      continue;
    }
    if (b == 0 || !buffer.counts.empty()) {  // uniform blocks are cut alike
      longest = 0;
      for (std::uint32_t c = 0; c < chunks; ++c) longest = std::max(longest, chunk_begin(b, c + 1) - chunk_begin(b, c));
    }
    block_at_[b] = slot_bytes_;
    slot_bytes_ += (longest * element_size + 63) / 64 * 64;
  }
  slot_bytes_ = (slot_bytes_ + 63) / 64 * 64;
  LONGSPAN_ASSIGN(memory_, copier.take(slot_bytes_ * slots));
  copier_ = &copier;
  return {};
}

void Staging::end(bool idle) noexcept {
  if (copier_ == nullptr) return;
  if (idle) copier_->give_back(memory_);
  copier_ = nullptr;
  memory_ = {};
}

std::size_t Staging::chunk_begin(std::uint32_t block, std::uint32_t chunk) const {
  return chunk_edge(buffer_.count(block), chunk, chunks_, element_size_);
}

std::byte* Staging::at(std::uint32_t slot, std::uint32_t chunk, std::uint32_t block, std::size_t element) const {
  return memory_.data() + slot * slot_bytes_ + block_at_[block] + (element - chunk_begin(block, chunk)) * element_size_;
}

std::span<const device::Move> Staging::moves(std::uint32_t slot, std::uint32_t chunk) {
  moves_.clear();
  for (std::uint32_t b = 0; b < blocks_; ++b) {
    const std::size_t begin = chunk_begin(b, chunk);
    const std::size_t bytes = (chunk_begin(b, chunk + 1) - begin) * element_size_;
    if (bytes == 0) continue;
    std::byte* const host = at(slot, chunk, b, begin);
    std::byte* const there = buffer_.base + (buffer_.offset(b) + begin) * element_size_;
    device::Move* const last = moves_.empty() ? nullptr : &moves_.back();
    if (last != nullptr && last->host + last->bytes == host && last->device + last->bytes == there) {
      last->bytes += bytes;
    } else {
      moves_.push_back({host, there, bytes});
    }
  }
  return moves_;
}

}  // namespace longspan::executor
