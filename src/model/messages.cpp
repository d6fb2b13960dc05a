// What all transports say of messages in the same words.
#include <fmt/format.h>

#include "longspan/spi/transport.hpp"

namespace longspan::spi {

std::string describe(const MessageId& id) {
  return fmt::format("message (comm {:x}, seq {}, stream {}, chunk {})", id.comm, id.seq, id.stream, id.chunk);
}

Status mismatch(const MessageId& id, std::string_view sender, const Match& match) {
  if (match.digest == match.wanted_digest) {
    return Status(StatusCode::kMismatch, fmt::format("{} from {} has {} bytes, expected {}{}", describe(id), sender,
                                                     match.bytes, match.any_length ? "at most " : "", match.room));
  }
  return Status(
      StatusCode::kMismatch,
      fmt::format("{} from {} belongs to another call: its digest is {:016x}, expected {:016x} (sent {} bytes, "
                  "expected {})",
                  describe(id), sender, match.digest, match.wanted_digest, match.bytes, match.room));
}

}  // namespace longspan::spi
