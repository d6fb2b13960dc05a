#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "device/copier.hpp"
#include "executor/block_buffer.hpp"
#include "longspan/status.hpp"

namespace longspan::executor {

/// One side (input or output) of a call whose buffer is device memory: its image in page-locked host memory, a chunk of
/// every block for each chunk in flight. Steps work on the image; chunks of the input are brought down before their
/// steps run, those of the output up after, while the steps of other chunks run and their messages travel.
class Staging {
 public:
  /// `blocks` of `buffer`, whose base is memory of `copier`'s device.
  Status begin(device::Copier& copier, const BlockBuffer& buffer, std::uint32_t blocks, std::uint32_t chunks,
               std::uint32_t slots, std::size_t element_size);
  /// Gives the host memory back, unless something may still move.
  void end(bool idle) noexcept;
  bool active() const noexcept { return copier_ != nullptr; }
  device::Copier& copier() const noexcept { return *copier_; }

  /// Where element `element` of block `block` is, when its chunk is the one in `slot`.
  std::byte* at(std::uint32_t slot, std::uint32_t chunk, std::uint32_t block, std::size_t element) const;
  /// The pieces of `chunk`, as few as can be. Valid until the next call.
  std::span<const device::Move> moves(std::uint32_t slot, std::uint32_t chunk);

 private:
  std::size_t chunk_begin(std::uint32_t block, std::uint32_t chunk) const;

  device::Copier* copier_ = nullptr;
  BlockBuffer buffer_;
  std::uint32_t blocks_ = 0;
  std::uint32_t chunks_ = 1;
  std::size_t element_size_ = 1;
  std::span<std::byte> memory_;
  std::size_t slot_bytes_ = 0;
  std::vector<std::size_t> block_at_;  // bytes into a slot
  std::vector<device::Move> moves_;
};

}  // namespace longspan::executor
