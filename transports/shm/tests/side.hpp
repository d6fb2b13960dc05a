#pragma once

#include <poll.h>

#include <algorithm>
#include <array>
#include <deque>
#include <functional>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.hpp"
#include "shm/endpoint.hpp"
#include "shm/shared_memory.hpp"
#include "support/catch.hpp"

namespace longspan::shm {

using Bytes = std::vector<std::byte>;

inline constexpr std::uint64_t kJob = 42;

/// Bytes that differ between positions and seeds.
inline Bytes pattern(std::size_t size, std::uint64_t seed) {
  Bytes bytes(size);
  std::uint64_t x = seed * 0x9e3779b97f4a7c15ULL + 1;
  for (auto& byte : bytes) {
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    byte = static_cast<std::byte>(x >> 56);
  }
  return bytes;
}

inline spi::MessageId id(std::uint32_t seq, std::uint64_t comm = 1) { return {comm, seq, 0, 0}; }

/// An operation and how often and how it ended.
struct Op {
  int completions = 0;
  spi::Completion last;
  bool done() const { return completions > 0; }
  bool ok() const { return completions == 1 && last.status.ok(); }
};

/// An endpoint with a choice of how it fetches, and the book of what it was told.
class Side {
 public:
  explicit Side(spi::PeerId self, FetchMode fetch = FetchMode::kDirect, std::size_t credit = std::size_t{1} << 20) {
    spi::EndpointOptions options;
    options.self = self;
    options.job = kJob;
    options.eager_credit_bytes = credit;
    Tuning tuning;
    tuning.best_fetch = fetch;
    endpoint_ = ShmEndpoint::open(options, tuning).value();
  }
  ShmEndpoint& endpoint() { return *endpoint_; }
  spi::Channel& connect(spi::PeerId peer, const std::string& address) {
    channel_ = endpoint_->connect(peer, address, {}, Clock::now() + std::chrono::seconds(30)).value();
    return *channel_;
  }
  spi::Channel& channel() { return *channel_; }
  /// The peer has said how it reads what is large; messages before that go by way of the heap.
  bool welcomed() const { return !static_cast<const ShmChannel*>(channel_)->settling(); }
  Op& send(spi::MessageId message, std::span<const std::byte> data, std::uint64_t digest = 1) {
    ops_.emplace_back();
    channel_->send({message, digest, data, nullptr, &ops_.back()});
    return ops_.back();
  }
  Op& recv(spi::MessageId message, std::span<std::byte> data, bool view_ok = false) {
    ops_.emplace_back();
    channel_->post_recv({message, 1, data, nullptr, view_ok, false, &ops_.back()});
    return ops_.back();
  }
  std::size_t step() {
    std::array<spi::Completion, 16> batch;
    const std::size_t count = endpoint_->poll(batch);
    for (std::size_t i = 0; i < count; ++i) take(std::move(batch[i]));
    return count;
  }

  std::vector<spi::Completion> arrivals;
  std::vector<spi::Completion> broken;
  std::vector<spi::Completion> closed;

 private:
  void take(spi::Completion completion) {
    switch (completion.kind) {
      case spi::CompletionKind::kArrival: arrivals.push_back(std::move(completion)); return;
      case spi::CompletionKind::kBroken: broken.push_back(std::move(completion)); return;
      case spi::CompletionKind::kClosed: closed.push_back(std::move(completion)); return;
      case spi::CompletionKind::kSend:
      case spi::CompletionKind::kRecv: break;
    }
    Op& op = *static_cast<Op*>(completion.context);
    ++op.completions;
    op.last = std::move(completion);
  }

  std::deque<Op> ops_;
  std::unique_ptr<ShmEndpoint> endpoint_;
  spi::Channel* channel_ = nullptr;
};

/// Bytes to send: a private buffer, or one that peers may map.
class Source {
 public:
  Source(Side& owner, const Bytes& bytes, bool shared = true) : bytes_(shared ? Bytes() : bytes) {
    if (!shared || bytes.empty()) return;
    memory_ = SharedMemory::create(bytes.size(), "test-region").value();
    std::copy(bytes.begin(), bytes.end(), memory_.data());
    region_ = owner.endpoint().share_memory(std::span(memory_.data(), memory_.size()), memory_.fd()).value();
  }
  std::byte* data() const { return memory_.valid() ? memory_.data() : const_cast<std::byte*>(bytes_.data()); }
  std::size_t size() const { return memory_.valid() ? memory_.size() : bytes_.size(); }
  std::byte* begin() const { return data(); }
  std::byte* end() const { return data() + size(); }
  /// As free() does: what is under way must have ended.
  void free() {
    region_.reset();
    memory_ = SharedMemory();
    bytes_ = Bytes();
  }

 private:
  Bytes bytes_;
  SharedMemory memory_;
  std::unique_ptr<spi::MemoryRegion> region_;
};

/// Polls all until `done`, and blocks on the first one's descriptor only when every one is armed. False: it took too
/// long.
inline bool drive(std::initializer_list<Side*> sides, const std::function<bool()>& done) {
  const TimePoint deadline = Clock::now() + std::chrono::seconds(30);
  while (!done()) {
    if (Clock::now() > deadline) return false;
    bool any = false;
    for (Side* side : sides) any |= side->step() > 0;
    if (any || done()) continue;
    bool quiet = true;
    for (Side* side : sides) quiet = side->endpoint().arm() && quiet;
    if (!quiet) continue;
    std::vector<pollfd> waits;
    for (Side* side : sides) waits.push_back({side->endpoint().wait_fd(), POLLIN, 0});
    ::poll(waits.data(), waits.size(), poll_timeout_ms(Clock::now(), deadline, 50));
  }
  return true;
}

}  // namespace longspan::shm
