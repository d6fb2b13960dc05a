#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "verbs/device.hpp"
#include "verbs/memory.hpp"
#include "verbs/wire.hpp"

namespace longspan::verbs {

class Link;

/// Registered memory that a frame is sent from.
struct Bounce {
  std::byte* data = nullptr;
  std::uint32_t key = 0;
};

/// A mapped and registered block.
class Block {
 public:
  static Result<Block> create(const Device& device, std::size_t bytes);
  Block() noexcept = default;
  Block(Block&& other) noexcept;
  Block& operator=(Block&& other) noexcept;
  ~Block();
  std::span<std::byte> bytes() const noexcept { return bytes_; }
  std::uint32_t key() const noexcept { return handle_->lkey; }

 private:
  std::span<std::byte> bytes_;
  MemoryHandle handle_;
};

/// What all links of an endpoint share: the device, one completion queue, and memory to send frames from.
class Adapter {
 public:
  static Result<std::unique_ptr<Adapter>> open(const spi::EndpointOptions& options);
  ~Adapter();

  const Device& device() const noexcept { return device_; }
  Registrar& registrar() noexcept { return *registrar_; }
  ibv_cq* queue() const noexcept { return queue_.get(); }
  int events_fd() const noexcept { return events_->fd; }
  int faults_fd() const noexcept { return device_.context->async_fd; }

  /// Makes room in the completion queue for so many requests more (or less).
  Status reserve(std::size_t entries);
  void release(std::size_t entries) noexcept { reserved_ -= entries; }
  void enlist(std::uint32_t number, Link& link, std::size_t lane) { owners_[number] = {&link, lane}; }
  void dismiss(std::uint32_t number) noexcept { owners_.erase(number); }

  /// Hands completions to their links; true when there were any.
  bool poll();
  /// Before blocking on events_fd: false when a completion may have been missed.
  bool arm();
  void take_events();
  /// What happened to the device; empty: nothing. `fatal`: none of its queue pairs works any more.
  std::string take_fault(bool& fatal);

  Bounce* take_bounce();
  void give_back(Bounce* bounce) noexcept { free_.push_back(bounce); }

 private:
  struct Owner {
    Link* link = nullptr;
    std::size_t lane = 0;
  };

  Device device_;
  std::unique_ptr<Registrar> registrar_;
  CompletionChannel events_;
  CompletionQueueHandle queue_;
  std::size_t reserved_ = 0;
  std::unordered_map<std::uint32_t, Owner> owners_;
  std::vector<Block> blocks_;
  std::vector<std::unique_ptr<Bounce>> bounces_;
  std::vector<Bounce*> free_;
};

}  // namespace longspan::verbs
