// Feeds an endpoint of the shm transport what another process may put before it: packets on its socket with any
// descriptors, and, once it shares memory, records and states of the ring that make no sense.
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <new>
#include <span>
#include <vector>

#include "shm/bell.hpp"
#include "shm/endpoint.hpp"
#include "shm/heap.hpp"
#include "shm/layout.hpp"
#include "shm/shared_memory.hpp"
#include "shm/sockets.hpp"

namespace {

using namespace longspan;
using namespace longspan::shm;

constexpr std::uint64_t kJob = 42;

class Input {
 public:
  Input(const std::uint8_t* data, std::size_t size) : left_(data, size) {}
  bool empty() const { return left_.empty(); }
  std::uint8_t byte() {
    if (left_.empty()) return 0;
    const std::uint8_t value = left_.front();
    left_ = left_.subspan(1);
    return value;
  }
  /// Fills what it can.
  void fill(std::span<std::byte> to) {
    const std::size_t count = std::min(to.size(), left_.size());
    std::memcpy(to.data(), left_.data(), count);
    left_ = left_.subspan(count);
  }

 private:
  std::span<const std::uint8_t> left_;
};

/// Another process, as far as the endpoint can tell.
class Stranger {
 public:
  explicit Stranger(std::string_view name)
      : socket_(*std::move(dial(name)).value()),
        segment_(SharedMemory::create(kSegmentBytes, "fuzz").value()),
        page_(SharedMemory::create(kBellBytes, "fuzz").value()),
        heap_(SharedMemory::create(StagingHeap::kBytes, "fuzz").value()),
        bell_(Bell::create().value()) {
    new (segment_.data()) SegmentHeader;
  }

  void hello(Input& input) {
    Hello hello;
    hello.job = kJob;
    hello.self = 66;
    hello.credit = 1 << 20;
    hello.probe_address = reinterpret_cast<std::uint64_t>(&probe_);
    hello.probe_value = probe_;
    hello.segment_address = reinterpret_cast<std::uint64_t>(segment_.data());
    // Any one of its bytes may be another.
    const std::size_t at = input.byte();
    if (at < sizeof hello) reinterpret_cast<std::uint8_t*>(&hello)[at] ^= input.byte();
    say(std::as_bytes(std::span(&hello, 1)), 4);
  }
  void packet(Input& input) {
    std::array<std::byte, 128> bytes{};
    const std::size_t length = input.byte() % bytes.size();
    const std::size_t descriptors = input.byte() % 5;
    input.fill(std::span(bytes).first(length));
    say(std::span(bytes).first(length), descriptors);
  }
  /// A record as a sender writes it, with fields that need not fit each other.
  void record(Input& input) {
    alignas(Record) std::array<std::byte, sizeof(Record)> bytes{};
    input.fill(std::span(bytes).subspan(4));
    const std::size_t room = kForwardBytes - cursor_ % kForwardBytes;
    std::byte* const at = segment_.data() + kHeaderBytes + cursor_ % kForwardBytes;
    std::memcpy(at + 4, bytes.data() + 4, sizeof(Record) - 4);
    auto& record = *reinterpret_cast<Record*>(at);
    if (input.byte() % 4 != 0) {
      record.payload =
          std::min<std::uint32_t>(record.payload % 4096, static_cast<std::uint32_t>(room - sizeof(Record)));
    }
    record.kind = static_cast<RecordKind>(static_cast<std::uint8_t>(record.kind) % 12);
    record.ready.store(1, std::memory_order_release);
    cursor_ += record_bytes(record.payload % 8192);
  }
  /// Anything, anywhere in what is shared.
  void scribble(Input& input) {
    const std::size_t at = (std::size_t{input.byte()} << 8 | input.byte()) * 8 % kSegmentBytes;
    const std::size_t length = std::min<std::size_t>(input.byte(), kSegmentBytes - at);
    input.fill(std::span(segment_.data() + at, length));
  }

 private:
  void say(std::span<const std::byte> bytes, std::size_t descriptors) {
    const std::array<int, 4> all{segment_.fd(), page_.fd(), bell_.fd(), heap_.fd()};
    // A socket that was closed takes no more.
    static_cast<void>(send_packet(socket_, bytes, std::span(all).first(descriptors)));
  }

  Fd socket_;
  std::uint64_t probe_ = 0x5eed;
  SharedMemory segment_;
  SharedMemory page_;
  SharedMemory heap_;
  Bell bell_;
  std::size_t cursor_ = 0;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Input input(data, size);
  spi::EndpointOptions options;
  options.self = 1;
  options.job = kJob;
  options.eager_credit_bytes = 1 << 20;
  auto endpoint = ShmEndpoint::open(options, Tuning{}).value();
  std::array<std::byte, 4096> target{};
  // In order of creation: the stranger's memory goes first, as that of a process that ends.
  Stranger stranger(std::string_view(endpoint->address()).substr(std::strlen("shm1:")));
  std::array<spi::Completion, 16> completions;
  const auto poll = [&] {
    for (int round = 0; round < 8; ++round) {
      const std::size_t count = endpoint->poll(completions);
      for (std::size_t i = 0; i < count; ++i) {
        if (completions[i].bytes > target.size() && completions[i].kind == spi::CompletionKind::kRecv &&
            completions[i].status.ok()) {
          __builtin_trap();
        }
      }
    }
  };
  if (input.byte() % 8 != 0) stranger.hello(input);
  poll();
  while (!input.empty()) {
    switch (input.byte() % 6) {
      case 0: stranger.hello(input); break;
      case 1: stranger.packet(input); break;
      case 2: stranger.scribble(input); break;
      case 3: endpoint->forget(input.byte() % 4); break;
      default: stranger.record(input); break;
    }
    poll();
  }
  endpoint->close(Clock::now());
  return 0;
}
