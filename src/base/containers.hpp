#pragma once

#include <bit>
#include <cstddef>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

/// Containers that stop allocating once they have seen the largest load: the standard ones allocate per element.
namespace longspan {

/// First in, first out, in one growing block.
template <class T>
class Queue {
 public:
  bool empty() const noexcept { return size_ == 0; }
  std::size_t size() const noexcept { return size_; }
  T& front() noexcept { return slots_[head_]; }
  void push_back(T value) {
    if (size_ == slots_.size()) grow();
    slots_[(head_ + size_) & (slots_.size() - 1)] = std::move(value);
    ++size_;
  }
  T pop_front() {
    T value = std::move(slots_[head_]);
    head_ = (head_ + 1) & (slots_.size() - 1);
    --size_;
    return value;
  }
  /// Removes what `drop` says; the order of the rest stays.
  template <class Predicate>
  void remove_if(Predicate drop) {
    for (std::size_t left = size_; left > 0; --left) {
      T value = pop_front();
      if (!drop(value)) push_back(std::move(value));
    }
  }

 private:
  void grow() {
    std::vector<T> larger(slots_.empty() ? 16 : slots_.size() * 2);
    for (std::size_t i = 0; i < size_; ++i) larger[i] = std::move(slots_[(head_ + i) & (slots_.size() - 1)]);
    slots_ = std::move(larger);
    head_ = 0;
  }

  std::vector<T> slots_;
  std::size_t head_ = 0;
  std::size_t size_ = 0;
};

/// Objects with a member `id`, found by it. Open addressing; does not own them.
template <class T>
class IdMap {
 public:
  using Id = decltype(T::id);

  T* find(const Id& id) const noexcept {
    if (count_ == 0) return nullptr;
    for (std::size_t i = home(id);; i = next(i)) {
      if (slots_[i] == nullptr || slots_[i]->id == id) return slots_[i];
    }
  }
  void insert(T* object) {
    if (2 * (count_ + 1) > slots_.size()) grow();
    place(object);
    ++count_;
  }
  void erase(const T* object) noexcept {
    std::size_t hole = home(object->id);
    while (slots_[hole] != object) hole = next(hole);
    slots_[hole] = nullptr;
    --count_;
    // Moves back what a search would no longer reach across the hole.
    for (std::size_t i = next(hole); slots_[i] != nullptr; i = next(i)) {
      const std::size_t wanted = home(slots_[i]->id);
      if (((i - wanted) & (slots_.size() - 1)) < ((i - hole) & (slots_.size() - 1))) continue;
      slots_[hole] = std::exchange(slots_[i], nullptr);
      hole = i;
    }
  }
  std::size_t size() const noexcept { return count_; }
  /// All objects, for rare sweeps.
  std::vector<T*> all() const {
    std::vector<T*> found;
    for (T* object : slots_) {
      if (object != nullptr) found.push_back(object);
    }
    return found;
  }

 private:
  std::size_t home(const Id& id) const noexcept { return std::hash<Id>{}(id) & (slots_.size() - 1); }
  std::size_t next(std::size_t i) const noexcept { return (i + 1) & (slots_.size() - 1); }
  void place(T* object) noexcept {
    std::size_t i = home(object->id);
    while (slots_[i] != nullptr) i = next(i);
    slots_[i] = object;
  }
  void grow() {
    std::vector<T*> old(slots_.empty() ? 32 : slots_.size() * 2, nullptr);
    old.swap(slots_);
    for (T* object : old) {
      if (object != nullptr) place(object);
    }
  }

  std::vector<T*> slots_;
  std::size_t count_ = 0;
};

/// Recycles objects; owns them all.
template <class T>
class ObjectPool {
 public:
  T* take() {
    if (free_.empty()) {
      all_.push_back(std::make_unique<T>());
      free_.reserve(all_.capacity());
      return all_.back().get();
    }
    T* object = free_.back();
    free_.pop_back();
    return object;
  }
  void give_back(T* object) noexcept { free_.push_back(object); }

 private:
  std::vector<std::unique_ptr<T>> all_;
  std::vector<T*> free_;  // capacity for all: give_back never allocates
};

/// Blocks of memory for data that waits for its receive, recycled by size (powers of two).
class BufferPool {
 public:
  using Buffer = std::unique_ptr<std::byte[]>;
  Buffer take(std::size_t bytes) {
    const std::size_t index = class_of(bytes);
    if (index < free_.size() && !free_[index].empty()) {
      Buffer buffer = std::move(free_[index].back());
      free_[index].pop_back();
      kept_ -= std::size_t{1} << index;
      return buffer;
    }
    return Buffer(new std::byte[std::size_t{1} << index]);
  }
  void give_back(Buffer buffer, std::size_t bytes) {
    const std::size_t index = class_of(bytes);
    if (kept_ + (std::size_t{1} << index) > kKeepAtMost) return;
    if (free_.size() <= index) free_.resize(index + 1);
    free_[index].push_back(std::move(buffer));
    kept_ += std::size_t{1} << index;
  }

 private:
  static constexpr std::size_t kKeepAtMost = std::size_t{32} << 20;
  static std::size_t class_of(std::size_t bytes) noexcept {
    return static_cast<std::size_t>(std::bit_width((bytes < 64 ? 64 : bytes) - 1));
  }
  std::vector<std::vector<Buffer>> free_;
  std::size_t kept_ = 0;
};

/// Links of an object that is in at most one List at a time.
template <class T>
struct Links {
  T* previous = nullptr;
  T* next = nullptr;
};

/// Doubly linked through the objects themselves: removal from the middle without a search. Does not own them.
template <class T, Links<T> T::* kLinks>
class List {
 public:
  bool empty() const noexcept { return first_ == nullptr; }
  T* front() const noexcept { return first_; }
  static T* after(const T* object) noexcept { return (object->*kLinks).next; }
  void push_back(T* object) noexcept {
    (object->*kLinks) = {last_, nullptr};
    (last_ != nullptr ? (last_->*kLinks).next : first_) = object;
    last_ = object;
  }
  void remove(T* object) noexcept {
    const Links<T> links = object->*kLinks;
    (links.previous != nullptr ? (links.previous->*kLinks).next : first_) = links.next;
    (links.next != nullptr ? (links.next->*kLinks).previous : last_) = links.previous;
    object->*kLinks = {};
  }

 private:
  T* first_ = nullptr;
  T* last_ = nullptr;
};

}  // namespace longspan
