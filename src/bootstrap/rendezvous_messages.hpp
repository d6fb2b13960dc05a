#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bootstrap/rendezvous.hpp"
#include "bootstrap/wire.hpp"
#include "security/introduction.hpp"

namespace longspan::bootstrap {

inline constexpr std::uint32_t kMaxPayload = 1U << 20;
inline constexpr std::uint32_t kMaxHello = kMaxPayload + 4096;
inline constexpr std::uint32_t kMaxContext = 1U << 30;
inline constexpr std::size_t kMaxLabel = 256;

enum class RendezvousMessage : std::uint16_t {
  kHello = 1,    ///< rank -> rank 0
  kWelcome = 2,  ///< rank 0 has counted the sender
  kRetry = 3,    ///< rank 0 belongs to another job; body: why
  kFailed = 4,   ///< the rendezvous ended; body: Failure
  kJoined = 5,   ///< all ranks came; body: Joined
  kKeyNeeded = 6,  ///< one of both sides has the job's key, the other has none
};

/// The first thing that a rank says.
struct Hello {
  std::string run_id;
  int rank = 0;
  int size = 0;
  std::uint64_t nonce = 0;  ///< tells a second attempt of one process from a second process
  std::uint32_t pid = 0;
  std::uint16_t control_port = 0;     ///< where it listens in case it is chosen as standby
  std::uint32_t remaining_ms = 0;     ///< until its deadline
  std::string host;
  std::string payload;
};

/// How a rank introduces itself to rank 0 when it proves the job's key: a rank, and the job by its run id.
/// `keyless`: it has no key, and only wants rank 0 to know who it is.
security::Introduction introduction_to_rank_0(const Hello& hello, bool keyless = false);
/// The rank that an introduction to rank 0 of this run claims to be from; -1: it is something else.
int claimed_rank(const security::Introduction& introduction, const std::string& run_id, int size);
inline constexpr const char* kRendezvousPurpose = "rendezvous";
inline constexpr const char* kKeylessPurpose = "rendezvous-keyless";

std::string encode(const Hello& hello);
Result<Hello> decode_hello(const Frame& frame);

std::string encode_failure(const Status& status);
Status decode_failure(std::string_view body);

/// `rendezvous` without rank and links, and where the standby is.
std::string encode_joined(const Rendezvous& rendezvous);
Status decode_joined(std::string_view body, Rendezvous& into);

}  // namespace longspan::bootstrap
