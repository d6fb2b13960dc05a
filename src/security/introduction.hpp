#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace longspan::security {

/// Who dials whom, and what for. It travels in the clear in the first bytes of a handshake (TLS calls it the identity
/// of the key), and is proved together with the key: nobody can change it, replay it to another rank, or reflect it to
/// the rank that it came from. Until the proof is complete it is a claim, good for messages only.
struct Introduction {
  std::string purpose;  ///< "rendezvous", "control", "data", "id"
  std::string from;     ///< who dials: a rank, a peer
  std::string to;       ///< whom it wants to reach
  std::string host;     ///< label of the dialer's host
  bool sealed = true;   ///< what follows the handshake is encrypted

  friend bool operator==(const Introduction&, const Introduction&) = default;
};

inline constexpr std::size_t kMaxIntroduction = 400;

/// As text. What is not printable, a space, or beyond 80 characters of a field is replaced or cut.
std::string encode(const Introduction& introduction);
/// From hostile bytes; nullopt for anything that `encode` does not make.
std::optional<Introduction> parse_introduction(std::string_view bytes);

}  // namespace longspan::security
