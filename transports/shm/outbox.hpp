#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "base/clock.hpp"
#include "shm/links.hpp"

namespace longspan::shm {

/// The messages to one peer. Small ones go into the ring, within the eager credit; others are offered and stay where
/// they are until the peer has fetched them, or is sent them as segments because it cannot.
class Outbox {
 public:
  Outbox(spi::PeerId peer, Shared& shared) : peer_(peer), shared_(shared) {}

  void attach(OutLink* link) noexcept { link_ = link; }
  void send(const spi::SendRequest& request);
  /// Writes what waits, as far as there is room. True when something was written.
  bool flush();
  /// Nothing waits that room in the ring would let go.
  bool blocked_on_room() const noexcept { return !pending_.empty() || !staging_.empty(); }
  /// Before sleeping: false when `flush` has something to do after all.
  bool arm();

  void on_done(std::uint32_t offer);
  void on_stage(std::uint32_t offer, std::uint64_t token);
  void on_credit(std::uint64_t comm, std::uint64_t bytes);

  /// Drops all of a communicator; the peer reads none of its buffers afterwards.
  void forget(std::uint64_t comm);
  /// Completes all with `status`. `peer_may_read`: it is alive, and must first be kept from reading on.
  void fail_all(const Status& status, bool peer_may_read);
  /// Takes back offers that nobody has begun to fetch, up to `limit` bytes in all. Their data stays until `bequeathed`.
  std::vector<spi::SendRequest> take_back(std::size_t limit);
  void bequeathed();
  bool unsent() const noexcept { return !pending_.empty(); }
  bool unfetched() const noexcept { return live_offers_ > 0; }

  std::uint64_t messages_sent() const noexcept { return messages_; }
  std::uint64_t bytes_sent() const noexcept { return bytes_; }

 private:
  struct Offer {
    spi::SendRequest request;
    std::uint32_t slot = kNoSlot;
    bool live = false;   // the request waits for its kSend
    bool in_use = false;
    bool staging = false;
    bool taken_back = false;
    StagingHeap::Block block;  // of the heap, where a copy waits for the peer
    std::uint64_t token = 0;
    std::size_t staged = 0;
  };

  bool try_send(const spi::SendRequest& request);
  bool try_eager(const spi::SendRequest& request);
  bool try_heap(const spi::SendRequest& request);
  bool try_offer(const spi::SendRequest& request);
  const Region* region_of(std::span<const std::byte> data);
  bool report_gone_regions();
  std::size_t& outstanding(std::uint64_t comm);
  std::uint32_t new_offer(bool with_slot);
  void release(std::uint32_t offer);
  void finish(Offer& offer, Status status);
  bool try_revoke(Offer& offer);
  bool write_segments();
  bool revoke(Offer& offer, TimePoint deadline);
  void warn_of_readers(std::size_t count) const;

  spi::PeerId peer_;
  Shared& shared_;
  OutLink* link_ = nullptr;
  Queue<spi::SendRequest> pending_;
  std::vector<Offer> offers_;
  std::vector<std::uint32_t> free_offers_;
  std::vector<std::uint32_t> free_slots_;
  Queue<std::uint32_t> staging_;
  std::size_t live_offers_ = 0;
  std::unordered_map<std::uint64_t, std::size_t> outstanding_;  // eager bytes not yet consumed, by communicator
  std::uint64_t last_comm_ = 0;
  std::size_t* last_outstanding_ = nullptr;  // of last_comm_; elements of the map do not move
  std::unordered_set<std::uint32_t> known_regions_;  // to the peer
  std::uint32_t last_region_ = 0;                    // one of them
  std::uint64_t regions_version_ = 0;
  Status failure_;
  std::uint64_t messages_ = 0;
  std::uint64_t bytes_ = 0;
};

/// What an eager message costs of the credit.
constexpr std::size_t eager_cost(std::size_t bytes) noexcept { return bytes + kUnit; }

}  // namespace longspan::shm
