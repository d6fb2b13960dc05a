// Feeds bytes as the tcp transport reads them from a connection: a HELLO, then frames with their payloads, into the
// matching of messages. Whatever comes must be refused or kept within bounds.
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "tcp/inbox.hpp"
#include "tcp/outbox.hpp"
#include "tcp/wire.hpp"

namespace {

using namespace longspan;

struct Reader {
  std::span<const std::byte> left;

  std::span<const std::byte> take(std::size_t bytes) {
    const auto part = left.first(std::min(bytes, left.size()));
    left = left.subspan(part.size());
    return part;
  }
};

void round_trip(const tcp::wire::Frame& frame) {
  tcp::wire::Header header;
  tcp::wire::encode(frame, header);
  tcp::wire::Frame again;
  if (tcp::wire::decode(header, again) != tcp::wire::WireError::kNone || again.id != frame.id ||
      again.offset != frame.offset || again.message_bytes != frame.message_bytes) {
    __builtin_trap();
  }
}

/// False when the connection would be broken.
bool feed(tcp::Inbox& inbox, tcp::Outbox& outbox, const tcp::wire::Frame& frame, Reader& reader) {
  switch (frame.type) {
    case tcp::wire::FrameType::kData: {
      tcp::Landing landing;
      if (!inbox.begin(frame, landing).ok()) return false;
      const auto payload = reader.take(frame.payload_bytes);
      if (landing.target != nullptr && !payload.empty()) std::memcpy(landing.target, payload.data(), payload.size());
      if (payload.size() < frame.payload_bytes) {
        inbox.abandon(landing);
        return false;
      }
      inbox.end(landing);
      return true;
    }
    case tcp::wire::FrameType::kRts: return inbox.on_announcement(frame).ok();
    case tcp::wire::FrameType::kCts: outbox.on_clear_to_send(frame.id); return true;
    case tcp::wire::FrameType::kCredit: outbox.on_credit(frame.id.comm, frame.message_bytes); return true;
    default: reader.take(frame.payload_bytes); return true;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Reader reader{std::as_bytes(std::span(data, size))};
  std::array<std::byte, tcp::wire::kHeaderBytes> header{};
  const auto next_header = [&] {
    const auto bytes = reader.take(header.size());
    std::copy(bytes.begin(), bytes.end(), header.begin());
    return bytes.size() == header.size();
  };
  if (size > 1 && data[0] == 'L' && data[1] == 'O') {  // a frame starts with "LS"
    tcp::wire::Hello hello;
    tcp::wire::HelloHeader greeting{};
    const auto bytes = reader.take(greeting.size());
    std::copy(bytes.begin(), bytes.end(), greeting.begin());
    if (bytes.size() < greeting.size() || tcp::wire::decode(greeting, hello) != tcp::wire::WireError::kNone) return 0;
  }
  tcp::Shared shared;
  tcp::Inbox inbox(1, shared);
  tcp::Outbox outbox(1, 4096, shared.completions);
  inbox.set_credit_bytes(std::uint64_t{1} << 16);
  std::array<std::array<std::byte, 300>, 4> received{};
  static const std::array<std::byte, 5000> source{};
  int context = 0;
  for (std::uint32_t i = 0; i < received.size(); ++i) {
    inbox.post({{0, i, 0, 0}, 0, std::span(received[i]).first(100 * i), nullptr, false, i % 2 == 0, &context});
    outbox.push({{0, i, 0, 0}, 0, source, nullptr, &context});
  }
  tcp::Fragment fragment;
  tcp::wire::Frame frame;
  while (next_header()) {
    if (tcp::wire::decode(header, frame) != tcp::wire::WireError::kNone) break;
    round_trip(frame);
    if (!feed(inbox, outbox, frame, reader)) break;
    if (outbox.next(1000, fragment)) {
      outbox.written(*fragment.message);
      outbox.let_go(*fragment.message);
    }
    if (frame.id.chunk == 7) inbox.post({frame.id, frame.digest, received[0], nullptr, false, true, &context});
    if (frame.id.chunk == 8) inbox.forget(frame.id.comm);
    while (!shared.completions.empty()) shared.completions.pop_front();
  }
  outbox.fail_all(Status(StatusCode::kPeerLost, "end"));
  inbox.fail_all(Status(StatusCode::kPeerLost, "end"));
  return 0;
}
