#include "verbs/memory.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>

#include "verbs/free_watch.hpp"

namespace longspan::verbs {
namespace {

constexpr std::uintptr_t kPage = 4096;
/// Less is registered for the message alone, or copied: watching costs more than it saves.
constexpr std::size_t kLeastCached = std::size_t{64} << 10;
constexpr std::size_t kMostCached = std::size_t{8} << 30;
constexpr std::size_t kMostRanges = 1024;

std::uintptr_t address_of(const void* memory) { return reinterpret_cast<std::uintptr_t>(memory); }

}  // namespace

Registrar::Registrar(const Device& device) : device_(device), watch_(FreeWatch::open()) {}

Registrar::~Registrar() = default;

Result<Registered> Registrar::make(std::uintptr_t begin, std::uintptr_t end, bool writable) {
  const int access = writable ? IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE : 0;
  auto made = std::make_shared<Registration>();
  made->begin = begin;
  made->end = end;
  made->handle.reset(ibv_reg_mr(device_.domain.get(), reinterpret_cast<void*>(begin), end - begin, access));
  if (made->handle != nullptr) return made;
  const int error = errno;
  return Status(StatusCode::kResource,
                fmt::format("verbs: cannot register {} bytes with {} (errno {}){}", end - begin, device_.where(), error,
                            error == ENOMEM ? "; raise the limit of lockable memory (ulimit -l)" : ""));
}

Registered Registrar::find_in(std::map<std::uintptr_t, Registered>& ranges, std::uintptr_t begin, std::uintptr_t end) {
  auto found = ranges.upper_bound(begin);
  if (found == ranges.begin()) return nullptr;
  --found;
  if (found->second->end < end) return nullptr;
  found->second->used = ++uses_;
  return found->second;
}

Result<Registered> Registrar::find_or_register(std::span<const std::byte> memory, bool writable) {
  const std::uintptr_t begin = address_of(memory.data());
  const std::uintptr_t end = begin + memory.size();
  if (Registered region = find_in(regions_, begin, end)) return region;
  if (watch_ != nullptr) {
    drop_stale();
    if (Registered cached = find_in(cache_, begin, end)) return cached;
  }
  if (watch_ == nullptr || memory.size() < kLeastCached) return make(begin, end, writable);
  const FreeWatch::Range pages{begin / kPage * kPage, (end + kPage - 1) / kPage * kPage};
  drop_overlapping(pages.begin, pages.end);
  make_room(pages.end - pages.begin);
  // Watched first: what is freed in between is noticed.
  if (!watch_->add(pages)) return make(begin, end, writable);
  Result<Registered> made = make(pages.begin, pages.end, true);
  if (!made.ok()) {
    watch_->remove(pages);
    return make(begin, end, writable);
  }
  (*made)->kept = true;
  (*made)->used = ++uses_;
  cached_bytes_ += pages.end - pages.begin;
  cache_[pages.begin] = *made;
  return *made;
}

Result<Registered> Registrar::add_region(std::span<std::byte> memory) {
  LONGSPAN_ASSIGN(Registered made, make(address_of(memory.data()), address_of(memory.data()) + memory.size(), true));
  regions_[made->begin] = made;
  return made;
}

void Registrar::forget_region(const Registration& region) {
  const auto found = regions_.find(region.begin);
  if (found != regions_.end() && found->second.get() == &region) regions_.erase(found);
}

void Registrar::drop_stale() {
  const FreeWatch::Freed freed = watch_->take();
  if (freed.too_many) return drop_overlapping(0, UINTPTR_MAX);
  for (std::size_t i = 0; i < freed.count; ++i) drop_overlapping(freed.ranges[i].begin, freed.ranges[i].end);
}

void Registrar::drop_overlapping(std::uintptr_t begin, std::uintptr_t end) {
  for (auto entry = cache_.begin(); entry != cache_.end();) {
    const Registration& range = *entry->second;
    if (range.begin >= end) break;
    if (range.end <= begin) {
      ++entry;
      continue;
    }
    watch_->remove({range.begin, range.end});
    cached_bytes_ -= range.end - range.begin;
    entry = cache_.erase(entry);
  }
}

void Registrar::make_room(std::size_t bytes) {
  while (!cache_.empty() && (cached_bytes_ + bytes > kMostCached || cache_.size() >= kMostRanges)) {
    const auto oldest = std::min_element(cache_.begin(), cache_.end(),
                                         [](const auto& a, const auto& b) { return a.second->used < b.second->used; });
    drop_overlapping(oldest->second->begin, oldest->second->end);
  }
}

}  // namespace longspan::verbs
