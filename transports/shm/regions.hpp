#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <unordered_map>

#include "longspan/spi/transport.hpp"
#include "shm/shared_memory.hpp"

namespace longspan::shm {

/// A user's buffer in a memfd: its peers map it at its first message, and read it in place from then on.
struct Region {
  std::uint32_t number = 0;  ///< never used again, so it is the memory's generation too
  const std::byte* data = nullptr;
  std::size_t bytes = 0;
  int memfd = -1;  ///< its owner's
};

/// The regions of an endpoint. Channels compare `version` to notice that one has gone.
class RegionBook {
 public:
  std::uint32_t add(std::span<const std::byte> memory, int memfd);
  void remove(std::uint32_t number);
  /// The region that holds all of `bytes`, or nullptr.
  const Region* find(std::span<const std::byte> bytes) const noexcept;
  bool has(std::uint32_t number) const noexcept { return starts_.contains(number); }
  bool empty() const noexcept { return regions_.empty(); }
  std::uint64_t version() const noexcept { return version_; }

 private:
  std::map<const std::byte*, Region> regions_;  // by where they begin
  std::unordered_map<std::uint32_t, const std::byte*> starts_;
  std::uint32_t last_number_ = 0;
  std::uint64_t version_ = 0;
};

/// What a user holds of a region; taking it out of the book when it goes. The endpoint is the book's other owner, since
/// either may be destroyed first.
class RegionHandle final : public spi::MemoryRegion {
 public:
  RegionHandle(std::shared_ptr<RegionBook> book, std::uint32_t number) : book_(std::move(book)), number_(number) {}
  ~RegionHandle() override { book_->remove(number_); }

 private:
  std::shared_ptr<RegionBook> book_;
  std::uint32_t number_;
};

/// A peer's region, mapped here for reading. Whoever still reads it keeps it, although the peer has given it up.
using MappedRegion = std::shared_ptr<const SharedMemory>;

}  // namespace longspan::shm
