#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>

#include "verbs/device.hpp"

namespace longspan::verbs {

class FreeWatch;

/// A registered range; who holds one keeps it registered.
struct Registration {
  MemoryHandle handle;
  std::uintptr_t begin = 0;
  std::uintptr_t end = 0;
  bool kept = false;  ///< of the cache, as long as `watched` says that the memory is still the same
  std::uint64_t used = 0;

  std::uint32_t local_key() const noexcept { return handle->lkey; }
  std::uint32_t remote_key() const noexcept { return handle->rkey; }
};
/// Owners: the region or the cache, and each message that uses it.
using Registered = std::shared_ptr<Registration>;

/// Registers memory, and remembers what it registered where it can know that the memory was not freed since.
class Registrar {
 public:
  explicit Registrar(const Device& device);
  ~Registrar();
  Registrar(const Registrar&) = delete;
  Registrar& operator=(const Registrar&) = delete;

  /// Of the memory that a message is read from, or written to.
  Result<Registered> find_or_register(std::span<const std::byte> memory, bool writable);
  /// What a user registered, until `forget_region`.
  Result<Registered> add_region(std::span<std::byte> memory);
  void forget_region(const Registration& region);
  /// Whether freed memory is noticed, so that registrations are kept.
  bool caches() const noexcept { return watch_ != nullptr; }

 private:
  Result<Registered> make(std::uintptr_t begin, std::uintptr_t end, bool writable);
  Registered find_in(std::map<std::uintptr_t, Registered>& ranges, std::uintptr_t begin, std::uintptr_t end);
  void drop_stale();
  void drop_overlapping(std::uintptr_t begin, std::uintptr_t end);
  void make_room(std::size_t bytes);

  const Device& device_;
  std::unique_ptr<FreeWatch> watch_;
  std::map<std::uintptr_t, Registered> regions_;  // by their begin; of users, and may overlap
  std::map<std::uintptr_t, Registered> cache_;    // disjoint
  std::size_t cached_bytes_ = 0;
  std::uint64_t uses_ = 0;
};

}  // namespace longspan::verbs
