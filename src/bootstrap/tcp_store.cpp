#include "bootstrap/tcp_store.hpp"

#include <fmt/format.h>

#include "bootstrap/wire.hpp"

namespace longspan::bootstrap {
namespace {

// The queries of torch 2.x, by their number on the wire. Integers travel in the byte order of the host; strings have a
// 64-bit length before them.
enum class Query : std::uint8_t { kValidate = 0, kSet = 1, kGet = 3, kCheck = 5, kDeleteKey = 8, kPing = 13 };
constexpr std::uint32_t kValidationMagic = 0x3C85F7CE;
constexpr std::uint64_t kMaxValue = 64 * 1024;
constexpr std::uint8_t kReady = 0;

void put_text(Writer& w, const std::string& text) {
  w.u64(text.size());
  for (const char c : text) w.u8(static_cast<std::uint8_t>(c));
}

Writer query(Query kind) {
  Writer w;
  w.u8(static_cast<std::uint8_t>(kind));
  return w;
}

std::string key_of(const std::string& key) { return "/" + key; }

}  // namespace

Result<TcpStore> TcpStore::connect(const SocketAddress& at, TimePoint deadline) {
  LONGSPAN_ASSIGN(Fd fd, connect_to(at, deadline));
  Writer w = query(Query::kValidate);
  w.u32(kValidationMagic);
  w.u8(static_cast<std::uint8_t>(Query::kPing));
  const auto nonce = static_cast<std::uint32_t>(random_number());
  w.u32(nonce);
  LONGSPAN_TRY(send_all(fd.get(), std::move(w).take(), deadline));
  auto pong = receive_exactly(fd.get(), 4, deadline);
  if (!pong.ok()) return pong.status().with_context(fmt::format("{} does not answer as a TCPStore", at.to_string()));
  if (Reader(*pong).u32() != nonce) {
    return Status(StatusCode::kInvalidArgument, fmt::format("{} is not a TCPStore of torch 2", at.to_string()));
  }
  return TcpStore(std::move(fd));
}

Status TcpStore::set(const std::string& key, const std::string& value, TimePoint deadline) {
  Writer w = query(Query::kSet);
  put_text(w, key_of(key));
  put_text(w, value);
  return send_all(fd_.get(), std::move(w).take(), deadline);
}

Result<std::optional<std::string>> TcpStore::get(const std::string& key, TimePoint deadline) {
  // GET of a missing key waits in the store; CHECK answers at once.
  Writer check = query(Query::kCheck);
  check.u64(1);
  put_text(check, key_of(key));
  LONGSPAN_TRY(send_all(fd_.get(), std::move(check).take(), deadline));
  LONGSPAN_ASSIGN(const std::string ready, receive_exactly(fd_.get(), 1, deadline));
  if (static_cast<std::uint8_t>(ready[0]) != kReady) return std::optional<std::string>();
  Writer w = query(Query::kGet);
  put_text(w, key_of(key));
  LONGSPAN_TRY(send_all(fd_.get(), std::move(w).take(), deadline));
  LONGSPAN_ASSIGN(const std::string header, receive_exactly(fd_.get(), 8, deadline));
  const std::uint64_t length = Reader(header).u64();
  if (length > kMaxValue) return Status(StatusCode::kInvalidArgument, "the store holds no address under our key");
  LONGSPAN_ASSIGN(std::string value, receive_exactly(fd_.get(), length, deadline));
  return std::optional<std::string>(std::move(value));
}

Status TcpStore::remove(const std::string& key, TimePoint deadline) {
  Writer w = query(Query::kDeleteKey);
  put_text(w, key_of(key));
  LONGSPAN_TRY(send_all(fd_.get(), std::move(w).take(), deadline));
  return receive_exactly(fd_.get(), 8, deadline).status();
}

}  // namespace longspan::bootstrap
