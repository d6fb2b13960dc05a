#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "longspan/status.hpp"

namespace longspan::executor {

/// Page-aligned temporary memory, kept for the next collective instead of given back: a fresh page costs a fault for
/// every 4 KiB, more than reducing it. Used by the thread that holds the Domain's progress.
class ScratchPool {
 public:
  class Block {
   public:
    Block() noexcept = default;
    Block(ScratchPool* pool, std::byte* data, std::size_t size) noexcept : pool_(pool), data_(data), size_(size) {}
    Block(Block&& other) noexcept { swap(other); }
    Block& operator=(Block&& other) noexcept {
      Block taken(std::move(other));
      swap(taken);
      return *this;
    }
    Block(const Block&) = delete;
    Block& operator=(const Block&) = delete;
    ~Block() {
      if (data_ != nullptr) pool_->give_back(data_, size_);
    }
    std::byte* data() const noexcept { return data_; }
    std::size_t size() const noexcept { return size_; }

   private:
    void swap(Block& other) noexcept {
      std::swap(pool_, other.pool_);
      std::swap(data_, other.data_);
      std::swap(size_, other.size_);
    }
    ScratchPool* pool_ = nullptr;
    std::byte* data_ = nullptr;
    std::size_t size_ = 0;
  };

  ScratchPool() = default;
  ScratchPool(const ScratchPool&) = delete;
  ScratchPool& operator=(const ScratchPool&) = delete;
  ~ScratchPool();

  /// At least `bytes` bytes; 0 bytes is an empty block. The pool must outlive it.
  Result<Block> take(std::size_t bytes);
  /// Has the kernel find the pages of `memory` now, so that no collective waits for them.
  static void touch(std::span<std::byte> memory) noexcept;

 private:
  struct Free {
    std::byte* data;
    std::size_t size;
  };
  void give_back(std::byte* data, std::size_t size) noexcept;

  std::vector<Free> free_;
};

}  // namespace longspan::executor
