#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "longspan/status.hpp"
#include "security/introduction.hpp"

namespace longspan::security {

/// What one attempt to move bytes came to.
enum class MoveResult : std::uint8_t {
  kDone,     ///< `bytes` were moved
  kBlocked,  ///< the socket takes or has nothing now
  kEnd,      ///< end of stream
  kFailed,   ///< `error` is the errno; EBADMSG: bytes that were tampered with, or are no part of the connection
};
struct Moved {
  MoveResult result = MoveResult::kDone;
  std::size_t bytes = 0;
  int error = 0;
};

/// Why a handshake came to nothing.
enum class Failure : std::uint8_t {
  kNone,
  kNetwork,   ///< the connection ended
  kOtherKey,  ///< the other side holds another key
  kNoKey,     ///< the other side speaks longspan without a key
  kStranger,  ///< the other side is no longspan, or a replay, or broken
};
std::string_view describe(Failure failure) noexcept;

/// The protection of one connected, non-blocking socket: a handshake in which both sides prove that they hold the job's
/// key, and, where it is sealed, everything after it encrypted. A session that is not sealed is of no use once its
/// handshake is done: not a byte beyond it was read, and the socket goes on by itself.
///
///     auto session = guard.dial(fd, {"data", "1a2b", "3c4d", "eu-1", true});
///     while (session->handshake() == Session::Progress::kWantsRead) wait();
class Session {
 public:
  enum class Progress : std::uint8_t { kDone, kWantsRead, kWantsWrite, kFailed };

  virtual ~Session() = default;
  /// Goes on as far as the socket allows; call again when it is ready for what is wanted.
  virtual Progress handshake() = 0;
  virtual Failure failure() const noexcept = 0;
  virtual bool done() const noexcept = 0;
  /// The dialer's: proved once `done`, a claim before (and where the keys differ); nullopt: it made none.
  virtual const std::optional<Introduction>& introduction() const noexcept = 0;

  // After the handshake of a sealed session. Writing what was blocked must go on with the same bytes, maybe more of
  // them.
  virtual Moved write(std::span<const iovec> vectors) = 0;
  virtual Moved read(std::span<const iovec> vectors) = 0;
  /// Decrypted bytes wait for read(), of which the socket says nothing.
  virtual bool buffered() const noexcept = 0;
  /// The kernel encrypts what is written (kTLS). It may hold what was written and is not in the socket's queue yet, so
  /// that an end of stream (shutdown) would overtake it.
  virtual bool kernel_encrypts() const noexcept = 0;
};

/// Holds the job's key and opens sessions with it. Shared by all that make connections; its sessions keep it alive.
class Guard {
 public:
  /// How much one session encrypts before it takes new keys. AES-GCM bears 2^24.5 records (RFC 8446, 5.5), which is 380
  /// GB of full ones; ours are not always full.
  static constexpr std::uint64_t kRekeyAfter = std::uint64_t{1} << 34;
  /// Kernels before 6.14 take no new keys. A session whose records the kernel encrypts ends with EKEYEXPIRED after as
  /// many records as this fraction of its bytes: 2^24, near what AES-GCM bears. Who needs more dials again.
  static constexpr std::uint64_t kBytesPerRecordAtLeast = 1024;

  /// nullptr for an empty secret: there is no key and connections are open. kUnsupported: built without TLS.
  static Result<std::shared_ptr<const Guard>> open(std::string_view secret, std::uint64_t rekey_after = kRekeyAfter);
  /// Holds no key at all: sessions of it fail everywhere, but their introductions are heard, so that who holds the key
  /// can tell who does not.
  static std::shared_ptr<const Guard> keyless();

  virtual ~Guard() = default;
  virtual std::unique_ptr<Session> dial(int fd, const Introduction& introduction) const = 0;
  virtual std::unique_ptr<Session> accept(int fd) const = 0;
};

/// True when a stream that begins so is the handshake of somebody who holds a key.
constexpr bool begins_handshake(std::span<const std::byte> begin) noexcept {
  return begin.size() >= 2 && begin[0] == std::byte{0x16} && begin[1] == std::byte{0x03};
}

/// HKDF of RFC 5869 with SHA-256: 32 bytes from `secret` for the use that `label` names.
std::string derive_key(std::string_view secret, std::string_view salt, std::string_view label);

}  // namespace longspan::security
