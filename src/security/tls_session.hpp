#pragma once

#include <openssl/ssl.h>

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "security/session.hpp"

namespace longspan::security {

inline constexpr std::size_t kPskBytes = 32;
using Psk = std::array<unsigned char, kPskBytes>;

/// A session over OpenSSL. Its BIO looks at the first bytes that come before OpenSSL does, to tell those of ours who
/// have no key from strangers.
class TlsSession final : public Session {
 public:
  enum class Role : std::uint8_t { kDials, kAccepts };

  TlsSession(SSL_CTX* context, int fd, Role role, const Psk& psk, std::uint64_t rekey_after);
  TlsSession(const TlsSession&) = delete;
  TlsSession& operator=(const TlsSession&) = delete;
  ~TlsSession() override;

  void introduce(const Introduction& introduction);
  /// It only listens: no alert is sent.
  void mute() noexcept { mute_ = true; }

  Progress handshake() override;
  Failure failure() const noexcept override { return failure_; }
  bool done() const noexcept override { return done_; }
  const std::optional<Introduction>& introduction() const noexcept override { return introduction_; }
  Moved write(std::span<const iovec> vectors) override;
  Moved read(std::span<const iovec> vectors) override;
  bool buffered() const noexcept override { return ssl_ != nullptr && SSL_pending(ssl_.get()) > 0; }
  bool kernel_encrypts() const noexcept override { return kernel_encrypts_; }

  // For OpenSSL's callbacks.
  static TlsSession& of(SSL* ssl) { return *static_cast<TlsSession*>(SSL_get_app_data(ssl)); }
  SSL_SESSION* offered(const unsigned char** identity, std::size_t* length);
  SSL_SESSION* found(const unsigned char* identity, std::size_t length);
  int bio_read(BIO* bio, char* to, int bytes);
  int bio_write(BIO* bio, const char* from, int bytes);
  /// Before OpenSSL hands the keys of one direction to the kernel. False: it shall not.
  bool may_use_kernel(bool to_send) const;

 private:
  struct Free {
    void operator()(SSL* ssl) const noexcept { SSL_free(ssl); }
  };
  enum class First : std::uint8_t { kFine, kNothingYet, kBad };

  SSL_SESSION* psk_session();
  First look_at_first_bytes(BIO* bio);
  Progress fail(Failure failure);
  Failure explain(int error) const;
  Moved moved(int returned);
  void renew_keys();
  Moved write_by_kernel(std::span<const iovec> vectors);

  std::unique_ptr<SSL, Free> ssl_;
  int fd_;
  Role role_;
  Psk psk_;
  std::string identity_;
  std::optional<Introduction> introduction_;
  Failure failure_ = Failure::kNone;
  bool done_ = false;
  bool mute_ = false;
  bool looked_ = false;        // at the first bytes that came
  bool write_blocked_ = false; // a record is half written
  bool kernel_encrypts_ = false;
  int errno_ = 0;              // of the last system call that failed
  std::uint64_t rekey_after_;
  std::uint64_t until_rekey_;   // bytes
  std::uint64_t records_left_;  // for the kernel
};

}  // namespace longspan::security
