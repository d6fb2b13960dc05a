#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <unordered_map>
#include <unordered_set>

#include "base/containers.hpp"
#include "base/fd.hpp"
#include "longspan/spi/transport.hpp"
#include "shm/bell.hpp"
#include "shm/heap.hpp"
#include "shm/layout.hpp"
#include "shm/peer_memory.hpp"
#include "shm/regions.hpp"
#include "shm/ring.hpp"
#include "shm/shared_memory.hpp"

namespace longspan::shm {

/// Sizes and limits; tests narrow them.
struct Tuning {
  std::size_t eager_limit = 16 << 10;      ///< larger messages are offered, not put into the ring
  FetchMode best_fetch = FetchMode::kDirect;
};

/// What all channels of an endpoint share.
struct Shared {
  Tuning tuning;
  std::size_t credit_bytes = 0;  ///< per communicator and peer
  Queue<spi::Completion> completions;
  BufferPool buffers;
  StagingHeap heap;
  std::shared_ptr<RegionBook> regions = std::make_shared<RegionBook>();  // the handles of its regions hold it too
  std::unordered_set<std::uint64_t> forgotten;  ///< communicators whose data is dropped

  void complete(spi::CompletionKind kind, void* context, spi::PeerId peer, const spi::MessageId& id, std::size_t bytes,
                std::uint64_t digest, Status status = {});
};

/// The connection that carries this side's messages: made here, its segment too.
struct OutLink {
  Fd socket;
  SharedMemory segment;
  RingWriter forward;
  RingReader backward;
  PeerBell bell;             ///< attached by the peer's welcome
  bool said_hello = false;
  Reach reach = Reach::kStage;  ///< until the peer's welcome says something better

  static Result<OutLink> create();
  SegmentHeader& header() const noexcept { return *reinterpret_cast<SegmentHeader*>(segment.data()); }
  void publish(Record* record) noexcept {
    forward.publish(record);
    wake();
  }
  /// Gives the peer a region; false when that is not possible now.
  bool hand_over(const Region& region) noexcept;
  void wake() noexcept;
};

/// The connection that carries the peer's messages.
struct InLink {
  Fd socket;
  SharedMemory segment;
  RingReader forward;
  RingWriter backward;
  PeerBell bell;
  PeerMemory memory;
  SharedMemory heap;  ///< the peer's
  /// The peer's; messages and views that read them hold them too.
  std::unordered_map<std::uint32_t, MappedRegion> regions;
  void* tsan_name = nullptr;

  Reach reach() const noexcept;
  /// Maps a region of the peer. One that cannot be mapped is left out: its messages come as segments.
  void take_region(Fd memfd, const Handover& handover);
  /// From a peer's hello and its descriptors (segment, bell page, eventfd, heap).
  static Result<InLink> attach(Fd socket, const Hello& hello, std::vector<Fd> fds, FetchMode best);
  SegmentHeader& header() const noexcept { return *reinterpret_cast<SegmentHeader*>(segment.data()); }
  void publish(Record* record) noexcept {
    backward.publish(record);
    bell.ring();
  }
};

}  // namespace longspan::shm
