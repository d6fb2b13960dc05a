// Built without OpenSSL: jobs without a key run as ever, a key is an error.
#include "security/session.hpp"

namespace longspan::security {

Result<std::shared_ptr<const Guard>> Guard::open(std::string_view secret, std::uint64_t /*rekey_after*/) {
  if (secret.empty()) return std::shared_ptr<const Guard>();
  return Status(
      StatusCode::kUnsupported,
      "LONGSPAN_KEY is set, but this build of longspan has no TLS: install OpenSSL's headers (libssl-dev) and build "
      "it again");
}

std::shared_ptr<const Guard> Guard::keyless() { return nullptr; }

std::string derive_key(std::string_view, std::string_view, std::string_view) { return {}; }

}  // namespace longspan::security
