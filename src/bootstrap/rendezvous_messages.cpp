#include "bootstrap/rendezvous_messages.hpp"

#include <fmt/format.h>

#include <charconv>

namespace longspan::bootstrap {
namespace {

constexpr std::size_t kMaxText = 64 * 1024;

std::string frame_of(RendezvousMessage type, Writer&& body) {
  return make_frame(static_cast<std::uint16_t>(type), std::move(body).take());
}

/// FNV-1a: any text as a word of an introduction, the same everywhere.
std::string name_of_run(std::string_view run_id) {
  std::uint64_t hash = 0xcbf29ce484222325;
  for (const char c : run_id) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return fmt::format("{:016x}", hash);
}

}  // namespace

security::Introduction introduction_to_rank_0(const Hello& hello, bool keyless) {
  return {keyless ? kKeylessPurpose : kRendezvousPurpose, std::to_string(hello.rank), name_of_run(hello.run_id),
          hello.host, true};
}

int claimed_rank(const security::Introduction& introduction, const std::string& run_id, int size) {
  if (introduction.purpose != kRendezvousPurpose && introduction.purpose != kKeylessPurpose) return -1;
  if (introduction.to != name_of_run(run_id)) return -1;
  int rank = -1;
  const char* const end = introduction.from.data() + introduction.from.size();
  const auto [stop, error] = std::from_chars(introduction.from.data(), end, rank);
  return error == std::errc() && stop == end && rank > 0 && rank < size ? rank : -1;
}

std::string encode(const Hello& hello) {
  Writer w;
  // The first three fields stay first in every version, so that a rank of another version can be named.
  w.text(hello.run_id);
  w.i32(hello.rank);
  w.i32(hello.size);
  w.u64(hello.nonce);
  w.u32(hello.pid);
  w.u16(hello.control_port);
  w.u32(hello.remaining_ms);
  w.text(hello.host);
  w.text(hello.payload);
  return frame_of(RendezvousMessage::kHello, std::move(w));
}

Result<Hello> decode_hello(const Frame& frame) {
  const Status malformed(StatusCode::kInvalidArgument, "not a greeting of longspan");
  if (frame.type != static_cast<std::uint16_t>(RendezvousMessage::kHello)) return malformed;
  Reader r(frame.body);
  Hello h;
  h.run_id = r.text(kMaxText);
  h.rank = r.i32();
  h.size = r.i32();
  if (!r.ok()) return malformed;
  if (frame.version != kProtocolVersion) return h;
  h.nonce = r.u64();
  h.pid = r.u32();
  h.control_port = r.u16();
  h.remaining_ms = r.u32();
  h.host = r.text(kMaxLabel);
  h.payload = r.text(kMaxPayload);
  if (!r.ok()) return malformed;
  return h;
}

std::string encode_failure(const Status& status) {
  Writer w;
  w.u8(static_cast<std::uint8_t>(status.code()));
  w.text(status.message());
  return frame_of(RendezvousMessage::kFailed, std::move(w));
}

Status decode_failure(std::string_view body) {
  Reader r(body);
  const std::uint8_t code = r.u8();
  std::string text = r.text(kMaxText);
  const bool known = code > 0 && code <= static_cast<std::uint8_t>(StatusCode::kInternal);
  if (!r.ok()) return Status(StatusCode::kInternal, "rank 0 ended the rendezvous with a message that cannot be read");
  return Status(known ? static_cast<StatusCode>(code) : StatusCode::kInternal, std::move(text));
}

std::string encode_joined(const Rendezvous& rendezvous) {
  Writer w;
  w.u64(rendezvous.job);
  w.i32(rendezvous.links.standby);
  w.u32(static_cast<std::uint32_t>(rendezvous.links.standby_at.size()));
  for (const SocketAddress& a : rendezvous.links.standby_at) {
    w.text(a.ip());
    w.u16(a.port());
  }
  w.u32(static_cast<std::uint32_t>(rendezvous.payloads.size()));
  for (std::size_t i = 0; i < rendezvous.payloads.size(); ++i) {
    w.text(rendezvous.hosts[i]);
    w.text(rendezvous.payloads[i]);
  }
  w.text(rendezvous.context);
  return frame_of(RendezvousMessage::kJoined, std::move(w));
}

Status decode_joined(std::string_view body, Rendezvous& into) {
  Status malformed(StatusCode::kInternal, "rank 0's answer cannot be read");
  Reader r(body);
  into.job = r.u64();
  into.links.standby = r.i32();
  for (std::uint32_t n = r.count(6); n > 0; --n) {
    const std::string ip = r.text(kMaxLabel);
    const std::uint16_t port = r.u16();
    auto address = make_address(ip, port);
    if (!r.ok() || !address.ok()) return malformed;
    into.links.standby_at.push_back(*address);
  }
  const std::uint32_t n = r.count(8);
  for (std::uint32_t i = 0; i < n; ++i) {
    into.hosts.push_back(r.text(kMaxLabel));
    into.payloads.push_back(r.text(kMaxPayload));
  }
  into.context = r.text(kMaxContext);
  const bool standby_fits = into.links.standby >= -1 && into.links.standby < into.size;
  if (!r.ok() || n != static_cast<std::uint32_t>(into.size) || !standby_fits) return malformed;
  return {};
}

}  // namespace longspan::bootstrap
