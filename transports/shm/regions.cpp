#include "shm/regions.hpp"

namespace longspan::shm {

std::uint32_t RegionBook::add(std::span<const std::byte> memory, int memfd) {
  const std::uint32_t number = ++last_number_;
  regions_[memory.data()] = Region{number, memory.data(), memory.size(), memfd};
  starts_[number] = memory.data();
  ++version_;
  return number;
}

void RegionBook::remove(std::uint32_t number) {
  const auto start = starts_.find(number);
  if (start == starts_.end()) return;
  // The same memory may have been shared anew before the older handle went.
  if (const auto region = regions_.find(start->second); region != regions_.end() && region->second.number == number) {
    regions_.erase(region);
  }
  starts_.erase(start);
  ++version_;
}

const Region* RegionBook::find(std::span<const std::byte> bytes) const noexcept {
  if (regions_.empty()) return nullptr;
  auto after = regions_.upper_bound(bytes.data());
  if (after == regions_.begin()) return nullptr;
  const Region& region = std::prev(after)->second;
  const auto offset = static_cast<std::size_t>(bytes.data() - region.data);
  return offset <= region.bytes && bytes.size() <= region.bytes - offset ? &region : nullptr;
}

}  // namespace longspan::shm
