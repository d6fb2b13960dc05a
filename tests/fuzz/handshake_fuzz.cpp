// Any bytes as the beginning of a connection to a job with a key, or to one without: whatever comes, nothing is proved.
// And the one text that is read before a proof.
#include <sys/socket.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "base/fd.hpp"
#include "bootstrap/rendezvous_messages.hpp"
#include "bootstrap/stream.hpp"
#include "security/session.hpp"

namespace {

using namespace longspan;

void introduce(std::string_view bytes) {
  const auto introduction = security::parse_introduction(bytes);
  if (!introduction) return;
  if (security::parse_introduction(security::encode(*introduction)) != introduction) __builtin_trap();
  const int rank = bootstrap::claimed_rank(*introduction, "run", 8);
  if (rank == 0 || rank >= 8) __builtin_trap();
}

void call(std::string_view bytes, bool keyed) {
  static const auto guard = security::Guard::open("a key that the fuzzer does not know").value();
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends) != 0) return;
  bootstrap::Stream stream = bootstrap::Stream::accepted(Fd(ends[0]), keyed ? guard.get() : nullptr);
  const Fd caller(ends[1]);
  bootstrap::FrameReader reader(4096);
  while (!bytes.empty()) {  // in pieces, as they may come
    const std::size_t piece = bytes.size() < 64 ? bytes.size() : bytes.size() / 2;
    if (::send(caller.get(), bytes.data(), piece, MSG_NOSIGNAL) < 0) return;
    bytes.remove_prefix(piece);
    const auto state = reader.read(stream);
    if (keyed && state == bootstrap::FrameReader::State::kFrame) __builtin_trap();
    if (state != bootstrap::FrameReader::State::kNeedMore) break;
  }
  stream.tell_of_key();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  if (data[0] % 3 == 0) introduce(bytes);
  else call(bytes, data[0] % 3 == 1);
  return 0;
}
