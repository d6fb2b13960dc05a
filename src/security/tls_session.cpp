#include "security/tls_session.hpp"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>

#include "base/log.hpp"

namespace longspan::security {
namespace {

/// The plaintext of one TLS record. Less in each would cost 22 bytes and a system call more often.
constexpr std::size_t kRecord = 16384;
/// BIO_FLAGS_KTLS_TX_CTRL_MSG, which OpenSSL's headers do not show: the kernel encrypts, and this is no payload.
constexpr int kKernelControlMessage = 0x1000;
/// BIO_CTRL_SET_KTLS_SEND, as hidden.
constexpr int kGiveKeysToKernel = 72;

/// A fact about the kernel, so the process's: asking again for every connection would make it look for a module each
/// time.
std::atomic<bool> kernel_lacks_tls{false};
std::atomic<bool> told_of_kernel_tls{false};

int session_index() {
  static const int index = BIO_get_ex_new_index(0, nullptr, nullptr, nullptr, nullptr);
  return index;
}

TlsSession& session_of(BIO* bio) { return *static_cast<TlsSession*>(BIO_get_ex_data(bio, session_index())); }

/// OpenSSL's socket BIO, which knows kernel TLS, but without its SIGPIPE, and with our look at the first bytes.
const BIO_METHOD* socket_method() {
  static const BIO_METHOD* const method = [] {
    BIO_METHOD* made = BIO_meth_new(BIO_TYPE_SOCKET, "longspan socket");
    const BIO_METHOD* base = BIO_s_socket();
    BIO_meth_set_read(made, [](BIO* bio, char* to, int bytes) { return session_of(bio).bio_read(bio, to, bytes); });
    BIO_meth_set_write(
        made, [](BIO* bio, const char* from, int bytes) { return session_of(bio).bio_write(bio, from, bytes); });
    BIO_meth_set_ctrl(made, [](BIO* bio, int command, long number, void* with) -> long {
      if (command == kGiveKeysToKernel && !session_of(bio).may_use_kernel(number != 0)) return 0;
      return BIO_meth_get_ctrl(BIO_s_socket())(bio, command, number, with);
    });
    BIO_meth_set_create(made, BIO_meth_get_create(base));
    BIO_meth_set_destroy(made, BIO_meth_get_destroy(base));
    return made;  // lives as long as the process
  }();
  return method;
}

}  // namespace

TlsSession::TlsSession(SSL_CTX* context, int fd, Role role, const Psk& psk, std::uint64_t rekey_after)
    : ssl_(SSL_new(context)),
      fd_(fd),
      role_(role),
      psk_(psk),
      rekey_after_(rekey_after),
      until_rekey_(rekey_after),
      records_left_(rekey_after / Guard::kBytesPerRecordAtLeast) {
  BIO* bio = BIO_new(socket_method());
  if (ssl_ == nullptr || bio == nullptr) {  // out of memory: the handshake fails
    BIO_free(bio);
    ssl_.reset();
    return;
  }
  BIO_set_ex_data(bio, session_index(), this);
  BIO_set_fd(bio, fd, BIO_NOCLOSE);
  SSL_set_bio(ssl_.get(), bio, bio);
  SSL_set_app_data(ssl_.get(), this);
  if (role == Role::kDials) {
    SSL_set_connect_state(ssl_.get());
    // No certificate is good enough: nobody is trusted to sign one.
    SSL_set_verify(ssl_.get(), SSL_VERIFY_PEER, nullptr);
  } else {
    SSL_set_accept_state(ssl_.get());
  }
}

TlsSession::~TlsSession() { OPENSSL_cleanse(psk_.data(), psk_.size()); }

void TlsSession::introduce(const Introduction& introduction) {
  introduction_ = introduction;
  identity_ = encode(introduction);
  if (ssl_ != nullptr && introduction.sealed) SSL_set_options(ssl_.get(), SSL_OP_ENABLE_KTLS);
}

// ---- the key ----

SSL_SESSION* TlsSession::psk_session() {
  static constexpr unsigned char kAes128GcmSha256[] = {0x13, 0x01};
  SSL_SESSION* session = SSL_SESSION_new();
  const SSL_CIPHER* cipher = SSL_CIPHER_find(ssl_.get(), kAes128GcmSha256);
  if (session == nullptr || cipher == nullptr || SSL_SESSION_set1_master_key(session, psk_.data(), psk_.size()) != 1 ||
      SSL_SESSION_set_cipher(session, cipher) != 1 || SSL_SESSION_set_protocol_version(session, TLS1_3_VERSION) != 1) {
    SSL_SESSION_free(session);
    return nullptr;
  }
  return session;
}

SSL_SESSION* TlsSession::offered(const unsigned char** identity, std::size_t* length) {
  *identity = reinterpret_cast<const unsigned char*>(identity_.data());
  *length = identity_.size();
  return psk_session();
}

SSL_SESSION* TlsSession::found(const unsigned char* identity, std::size_t length) {
  introduction_ = parse_introduction({reinterpret_cast<const char*>(identity), length});
  if (!introduction_) return nullptr;
  // What is not sealed leaves the socket to others after the handshake: the kernel must not go on encrypting it.
  if (introduction_->sealed) SSL_set_options(ssl_.get(), SSL_OP_ENABLE_KTLS);
  return psk_session();
}

// ---- the socket ----

TlsSession::First TlsSession::look_at_first_bytes(BIO* bio) {
  unsigned char begin[2] = {};
  const ssize_t got = ::recv(fd_, begin, sizeof begin, MSG_PEEK | MSG_DONTWAIT);
  if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) {
    BIO_set_retry_read(bio);
    return First::kNothingYet;
  }
  if (got <= 0) return First::kFine;  // its end or error shows when it is read
  looked_ = true;
  // ChangeCipherSpec, Alert, Handshake: all that TLS can begin with.
  if (begin[0] >= 0x14 && begin[0] <= 0x16) return First::kFine;
  const bool ours = got == 2 && begin[0] == 'L' && (begin[1] == 'S' || begin[1] == 'O');
  failure_ = ours ? Failure::kNoKey : Failure::kStranger;
  return First::kBad;
}

int TlsSession::bio_read(BIO* bio, char* to, int bytes) {
  BIO_clear_retry_flags(bio);
  if (!looked_ && look_at_first_bytes(bio) != First::kFine) return -1;
  const int got = BIO_meth_get_read(BIO_s_socket())(bio, to, bytes);
  if (got < 0) errno_ = errno;
  return got;
}

int TlsSession::bio_write(BIO* bio, const char* from, int bytes) {
  if (mute_) return bytes;
  if (BIO_test_flags(bio, kKernelControlMessage) != 0) return BIO_meth_get_write(BIO_s_socket())(bio, from, bytes);
  BIO_clear_retry_flags(bio);
  while (true) {
    const ssize_t put = ::send(fd_, from, static_cast<std::size_t>(bytes), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (put >= 0) return static_cast<int>(put);
    if (errno == EINTR) continue;
    errno_ = errno;
    if (errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS) BIO_set_retry_write(bio);
    return -1;
  }
}

/// Only sending: one who sends without the help of a kernel renews its keys, and a kernel that receives could not
/// follow. And only what is plenty: other connections must not end when a key has served its time.
bool TlsSession::may_use_kernel(bool to_send) const {
  if (!to_send || !introduction_ || introduction_->purpose != "data" || kernel_lacks_tls) return false;
  constexpr std::string_view kName = "tls";
  // Not every OpenSSL does this by itself.
  if (::setsockopt(fd_, IPPROTO_TCP, TCP_ULP, kName.data(), kName.size()) == 0 || errno == EEXIST) return true;
  if (errno == ENOENT && !kernel_lacks_tls.exchange(true)) {
    log::info("security: this kernel has no TLS (modprobe tls); the library encrypts by itself");
  }
  return false;
}

// ---- the handshake ----

Session::Progress TlsSession::fail(Failure failure) {
  if (failure_ == Failure::kNone) failure_ = failure;
  return Progress::kFailed;
}

Failure TlsSession::explain(int error) const {
  if (error == SSL_ERROR_ZERO_RETURN || error == SSL_ERROR_SYSCALL) return Failure::kNetwork;
  switch (ERR_GET_REASON(ERR_peek_error())) {
    case SSL_R_BINDER_DOES_NOT_VERIFY: return role_ == Role::kAccepts ? Failure::kOtherKey : Failure::kStranger;
    case SSL_R_SSLV3_ALERT_ILLEGAL_PARAMETER:  // what OpenSSL says; RFC 8446 wants the next
    case SSL_R_TLSV1_ALERT_DECRYPT_ERROR: return role_ == Role::kDials ? Failure::kOtherKey : Failure::kStranger;
    case SSL_R_UNEXPECTED_EOF_WHILE_READING: return Failure::kNetwork;
    default: return Failure::kStranger;
  }
}

Session::Progress TlsSession::handshake() {
  if (done_) return Progress::kDone;
  if (ssl_ == nullptr || failure_ != Failure::kNone) return fail(Failure::kNetwork);
  ERR_clear_error();
  const int returned = SSL_do_handshake(ssl_.get());
  if (returned == 1) {
    // Both must hold the key: a server that only showed a certificate, or a client without the key, proves nothing.
    if (SSL_session_reused(ssl_.get()) != 1 || !introduction_) return fail(Failure::kStranger);
    done_ = true;
    kernel_encrypts_ = BIO_get_ktls_send(SSL_get_wbio(ssl_.get()));
    if (kernel_encrypts_ && !told_of_kernel_tls.exchange(true)) {
      log::info("security: the kernel encrypts what connections for data send (kTLS)");
    }
    return Progress::kDone;
  }
  const int error = SSL_get_error(ssl_.get(), returned);
  if (failure_ == Failure::kNone && error == SSL_ERROR_WANT_READ) return Progress::kWantsRead;
  if (failure_ == Failure::kNone && error == SSL_ERROR_WANT_WRITE) return Progress::kWantsWrite;
  const Failure why = explain(error);
  ERR_clear_error();
  return fail(why);
}

// ---- after it ----

Moved TlsSession::moved(int returned) {
  const int error = SSL_get_error(ssl_.get(), returned);
  switch (error) {
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE: return {MoveResult::kBlocked, 0, EAGAIN};
    case SSL_ERROR_ZERO_RETURN: return {MoveResult::kEnd, 0, 0};
    case SSL_ERROR_SYSCALL: return {MoveResult::kFailed, 0, errno_ != 0 ? errno_ : ECONNRESET};
    default: ERR_clear_error(); return {MoveResult::kFailed, 0, EBADMSG};
  }
}

void TlsSession::renew_keys() {
  until_rekey_ = rekey_after_;
  SSL_key_update(ssl_.get(), SSL_KEY_UPDATE_NOT_REQUESTED);
}

/// Past OpenSSL, which would keep a pointer to a buffer that may have moved when the socket takes more.
Moved TlsSession::write_by_kernel(std::span<const iovec> vectors) {
  if (records_left_ == 0) {
    ::shutdown(fd_, SHUT_RDWR);  // so that reading, too, comes to an end, behind what is there already
    return {MoveResult::kFailed, 0, EKEYEXPIRED};
  }
  msghdr message{};
  message.msg_iov = const_cast<iovec*>(vectors.data());
  message.msg_iovlen = vectors.size();
  while (true) {
    const ssize_t put = ::sendmsg(fd_, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (put >= 0) {
      const auto bytes = static_cast<std::size_t>(put);
      records_left_ -= std::min<std::uint64_t>(records_left_, bytes / kRecord + 1);
      return {MoveResult::kDone, bytes, 0};
    }
    if (errno == EINTR) continue;
    const bool blocked = errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS;
    return {blocked ? MoveResult::kBlocked : MoveResult::kFailed, 0, errno};
  }
}

Moved TlsSession::write(std::span<const iovec> vectors) {
  if (kernel_encrypts_) return write_by_kernel(vectors);
  std::array<std::byte, kRecord> record;
  std::size_t total = 0;
  std::size_t skip = 0;  // of vectors[0]
  while (!vectors.empty()) {
    if (until_rekey_ == 0 && !write_blocked_) renew_keys();
    const auto* at = static_cast<const std::byte*>(vectors[0].iov_base) + skip;
    std::size_t length = vectors[0].iov_len - skip;
    if (length >= kRecord || vectors.size() == 1) {
      length = std::min(length, kRecord);
    } else {  // small pieces share a record
      std::memcpy(record.data(), at, length);
      for (const iovec& next : vectors.subspan(1)) {
        const std::size_t part = std::min(next.iov_len, kRecord - length);
        std::memcpy(record.data() + length, next.iov_base, part);
        length += part;
        if (length == kRecord) break;
      }
      at = record.data();
    }
    if (length == 0) break;
    ERR_clear_error();
    std::size_t written = 0;
    const int returned = SSL_write_ex(ssl_.get(), at, length, &written);
    if (returned != 1) {
      Moved ended = moved(returned);
      if (ended.result == MoveResult::kEnd) ended = {MoveResult::kFailed, 0, errno_ != 0 ? errno_ : EPIPE};
      write_blocked_ = ended.result == MoveResult::kBlocked;
      return write_blocked_ && total > 0 ? Moved{MoveResult::kDone, total, 0} : ended;
    }
    write_blocked_ = false;
    until_rekey_ -= std::min<std::uint64_t>(until_rekey_, written);
    total += written;
    while (!vectors.empty() && written >= vectors[0].iov_len - skip) {
      written -= vectors[0].iov_len - skip;
      skip = 0;
      vectors = vectors.subspan(1);
    }
    skip += written;
  }
  return {MoveResult::kDone, total, 0};
}

Moved TlsSession::read(std::span<const iovec> vectors) {
  std::size_t total = 0;
  for (const iovec& vector : vectors) {
    for (std::size_t have = 0; have < vector.iov_len;) {
      ERR_clear_error();
      std::size_t got = 0;
      const int returned =
          SSL_read_ex(ssl_.get(), static_cast<std::byte*>(vector.iov_base) + have, vector.iov_len - have, &got);
      if (returned == 1) {
        have += got;
        total += got;
        continue;
      }
      const Moved ended = moved(returned);
      return total > 0 && ended.result != MoveResult::kFailed ? Moved{MoveResult::kDone, total, 0} : ended;
    }
  }
  return {MoveResult::kDone, total, 0};
}

}  // namespace longspan::security
