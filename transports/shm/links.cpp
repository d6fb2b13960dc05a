#include "shm/links.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <array>

#include "base/log.hpp"
#include "shm/sockets.hpp"

namespace longspan::shm {

void Shared::complete(spi::CompletionKind kind, void* context, spi::PeerId peer, const spi::MessageId& id,
                      std::size_t bytes, std::uint64_t digest, Status status) {
  spi::Completion completion;
  completion.kind = kind;
  completion.context = context;
  completion.peer = peer;
  completion.id = id;
  completion.bytes = bytes;
  completion.digest = digest;
  completion.status = std::move(status);
  completions.push_back(std::move(completion));
}

Result<OutLink> OutLink::create() {
  OutLink link;
  LONGSPAN_ASSIGN(link.segment, SharedMemory::create(kSegmentBytes, "longspan-ring"));
  std::byte* base = link.segment.data();
  SegmentHeader& header = *new (base) SegmentHeader;
  link.forward = RingWriter(base + kHeaderBytes, kForwardBytes, &header.forward, base);
  link.backward = RingReader(base + kHeaderBytes + kForwardBytes, kBackwardBytes, &header.backward, base);
  return link;
}

void OutLink::wake() noexcept {
  if (bell.attached()) return bell.ring();
  // Until the welcome brings the peer's bell, the socket is it. A full socket is readable already.
  constexpr std::array<std::byte, 1> kWake{};
  if (said_hello) static_cast<void>(send_packet(socket, kWake, {}));
}

bool OutLink::hand_over(const Region& region) noexcept {
  const Handover handover{region.bytes, region.number, 0};
  return send_packet(socket, std::as_bytes(std::span(&handover, 1)), std::array<int, 1>{region.memfd}).ok();
}

Reach InLink::reach() const noexcept {
  if (memory.mode() == FetchMode::kDirect) return Reach::kSameProcess;
  return memory.mode() == FetchMode::kStaged || memory.slow() ? Reach::kStage : Reach::kFetch;
}

void InLink::take_region(Fd memfd, const Handover& handover) {
  if (regions.size() >= kMostRegions) return;
  Result<SharedMemory> mapped =
      SharedMemory::attach_to_read(std::move(memfd), static_cast<std::size_t>(handover.bytes));
  if (!mapped) return log::warn("{}", mapped.status().to_string());
  mapped->close_fd();
  regions[handover.region] = std::make_shared<const SharedMemory>(*std::move(mapped));
}

Result<InLink> InLink::attach(Fd socket, const Hello& hello, std::vector<Fd> fds, FetchMode best) {
  if (fds.size() != 4) {
    return Status(StatusCode::kInternal, fmt::format("shm: a hello with {} descriptors, expected 4", fds.size()));
  }
  const Process process = process_behind(socket);
  InLink link;
  link.socket = std::move(socket);
  LONGSPAN_ASSIGN(link.segment, SharedMemory::attach(std::move(fds[0]), kSegmentBytes));
  link.segment.close_fd();
  LONGSPAN_ASSIGN(link.bell, PeerBell::attach(std::move(fds[1]), std::move(fds[2])));
  LONGSPAN_ASSIGN(link.heap, SharedMemory::attach(std::move(fds[3]), StagingHeap::kBytes));
  link.heap.close_fd();
  std::byte* base = link.segment.data();
  SegmentHeader& header = link.header();
  void* const name = link.tsan_name =
      process.pid == ::getpid() ? reinterpret_cast<void*>(hello.segment_address) : nullptr;
  link.forward = RingReader(base + kHeaderBytes, kForwardBytes, &header.forward, name);
  link.backward = RingWriter(base + kHeaderBytes + kForwardBytes, kBackwardBytes, &header.backward, name);
  link.memory = PeerMemory(process.pid, hello.probe_address, hello.probe_value, best);
  if (link.memory.mode() == FetchMode::kCopy) link.memory.measure(hello.segment_address + kHeaderBytes, kForwardBytes);
  return link;
}

}  // namespace longspan::shm
