#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/ssl.h>

#include <algorithm>

#include "security/tls_session.hpp"

namespace longspan::security {
namespace {

bool has_aes_instructions() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("aes");
#else
  return true;  // every 64-bit ARM server has them
#endif
}

int offer_key(SSL* ssl, const EVP_MD* /*hash*/, const unsigned char** identity, std::size_t* length,
              SSL_SESSION** session) {
  *session = TlsSession::of(ssl).offered(identity, length);
  return *session != nullptr ? 1 : 0;
}

int find_key(SSL* ssl, const unsigned char* identity, std::size_t length, SSL_SESSION** session) {
  *session = TlsSession::of(ssl).found(identity, length);
  return 1;  // without a session the handshake finds nothing to agree on, and fails
}

struct FreeContext {
  void operator()(SSL_CTX* context) const noexcept { SSL_CTX_free(context); }
};
using Context = std::unique_ptr<SSL_CTX, FreeContext>;

/// TLS 1.3 with the job's key as external PSK and a fresh key exchange, and nothing else: no certificates, no tickets
/// (after the handshake nothing is on its way, so that the socket can go on without TLS), no resumption, no early data.
Context make_context() {
  Context context(SSL_CTX_new(TLS_method()));
  SSL_CTX* raw = context.get();
  if (raw == nullptr) return context;
  const bool aes = has_aes_instructions();
  const bool fine = SSL_CTX_set_min_proto_version(raw, TLS1_3_VERSION) == 1 &&
                    SSL_CTX_set_max_proto_version(raw, TLS1_3_VERSION) == 1 &&
                    SSL_CTX_set_ciphersuites(raw, aes ? "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256"
                                                      : "TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256") == 1 &&
                    SSL_CTX_set1_groups_list(raw, "X25519:P-256") == 1 && SSL_CTX_set_num_tickets(raw, 0) == 1;
  if (!fine) return nullptr;
  SSL_CTX_set_session_cache_mode(raw, SSL_SESS_CACHE_OFF);
  // The end of a stream is what our own goodbye says it is.
  SSL_CTX_set_options(raw, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION | SSL_OP_IGNORE_UNEXPECTED_EOF);
  SSL_CTX_clear_options(raw, SSL_OP_ENABLE_MIDDLEBOX_COMPAT);
  SSL_CTX_set_mode(raw, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  SSL_CTX_set_psk_use_session_callback(raw, offer_key);
  SSL_CTX_set_psk_find_session_callback(raw, find_key);
  return context;
}

class TlsGuard final : public Guard {
 public:
  TlsGuard(Context context, const std::string& key, std::uint64_t rekey_after, bool keyless)
      : context_(std::move(context)), rekey_after_(rekey_after), keyless_(keyless) {
    std::copy_n(key.begin(), std::min(key.size(), psk_.size()), psk_.begin());
  }
  TlsGuard(const TlsGuard&) = delete;
  TlsGuard& operator=(const TlsGuard&) = delete;
  ~TlsGuard() override { OPENSSL_cleanse(psk_.data(), psk_.size()); }

  std::unique_ptr<Session> dial(int fd, const Introduction& introduction) const override {
    auto session = std::make_unique<TlsSession>(context_.get(), fd, TlsSession::Role::kDials, psk_, rekey_after_);
    session->introduce(introduction);
    return session;
  }

  std::unique_ptr<Session> accept(int fd) const override {
    auto session = std::make_unique<TlsSession>(context_.get(), fd, TlsSession::Role::kAccepts, psk_, rekey_after_);
    if (keyless_) session->mute();  // an alert would say that the keys differ
    return session;
  }

 private:
  Context context_;
  Psk psk_{};
  std::uint64_t rekey_after_;
  bool keyless_;
};

std::string hmac(std::string_view key, std::string_view message) {
  std::string out(EVP_MAX_MD_SIZE, '\0');
  unsigned length = 0;
  HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()), reinterpret_cast<const unsigned char*>(message.data()),
       message.size(), reinterpret_cast<unsigned char*>(out.data()), &length);
  out.resize(length);
  return out;
}

std::shared_ptr<const Guard> make_guard(std::string_view secret, std::string_view label, std::uint64_t rekey_after) {
  Context context = make_context();
  if (context == nullptr) return nullptr;
  return std::make_shared<TlsGuard>(std::move(context), derive_key(secret, "longspan", label), rekey_after,
                                    secret.empty());
}

}  // namespace

std::string derive_key(std::string_view secret, std::string_view salt, std::string_view label) {
  std::string pseudorandom = hmac(salt, secret);                 // RFC 5869, 2.2
  std::string key = hmac(pseudorandom, std::string(label) + '\x01');  // 2.3: 32 bytes are the first block
  OPENSSL_cleanse(pseudorandom.data(), pseudorandom.size());
  return key;
}

Result<std::shared_ptr<const Guard>> Guard::open(std::string_view secret, std::uint64_t rekey_after) {
  if (secret.empty()) return std::shared_ptr<const Guard>();
  auto guard = make_guard(secret, "longspan job key, TLS 1.3 PSK, version 1", rekey_after);
  if (guard == nullptr) {
    return Status(StatusCode::kSystem, "OpenSSL cannot set up TLS 1.3; is it disabled by a policy of this system?");
  }
  return guard;
}

std::shared_ptr<const Guard> Guard::keyless() { return make_guard("", "longspan without a key", kRekeyAfter); }

}  // namespace longspan::security
