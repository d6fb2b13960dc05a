#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "lab/packet_train.hpp"

namespace longspan::lab {

/// Where a train's bytes stay between the read and the last write while links hold parts of it, so that nothing is
/// copied. Blocks are used again latest first, which keeps them in the cache. Used by one thread.
class TrainMemory {
 public:
  /// Room for the frame of one train; counts the parts of it that are still needed.
  class Block {
   public:
    std::span<std::byte> bytes() noexcept { return {bytes_, PacketTrain::kLargestFrame}; }

   private:
    friend class TrainMemory;
    TrainMemory* owner_ = nullptr;
    std::byte* bytes_ = nullptr;
    std::uint32_t users_ = 0;
  };

  /// `expected_bytes` of trains are prepared for; more are found room for when they come.
  explicit TrainMemory(std::size_t expected_bytes);
  ~TrainMemory();
  TrainMemory(const TrainMemory&) = delete;
  TrainMemory& operator=(const TrainMemory&) = delete;

  /// The block that the next frame goes into: the same one until somebody holds it.
  Block& next();
  static void hold(Block& block) noexcept { ++block.users_; }
  static void release(Block& block);

 private:
  void grow();

  std::vector<std::byte*> slabs_;
  std::vector<std::unique_ptr<Block>> blocks_;
  std::vector<Block*> free_;
  Block* current_ = nullptr;
};

}  // namespace longspan::lab
