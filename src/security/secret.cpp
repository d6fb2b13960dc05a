#include "security/secret.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>

#include "base/env.hpp"
#include "base/fd.hpp"
#include "base/log.hpp"

namespace longspan::security {
namespace {

/// Handshakes show enough of the key to try guesses at leisure, so it has to be out of reach of guessing.
constexpr std::size_t kShortest = 16;
constexpr std::size_t kLongest = 4096;

Result<std::string> read_key_file(const std::string& path) {
  const Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.valid()) return system_error(fmt::format("LONGSPAN_KEY_FILE={}: cannot be opened", path), errno);
  struct stat about {};
  static std::atomic<bool> warned{false};
  if (::fstat(file.get(), &about) == 0 && (about.st_mode & S_IROTH) != 0 && !warned.exchange(true)) {
    log::warn("LONGSPAN_KEY_FILE={} can be read by everybody on this host: chmod o-r {}", path, path);
  }
  std::string text(kLongest + 1, '\0');
  std::size_t have = 0;
  while (have < text.size()) {
    const ssize_t got = ::read(file.get(), text.data() + have, text.size() - have);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return system_error(fmt::format("LONGSPAN_KEY_FILE={}: cannot be read", path), errno);
    if (got == 0) break;
    have += static_cast<std::size_t>(got);
  }
  text.resize(have);
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r')) text.pop_back();
  if (text.empty()) return Status(StatusCode::kInvalidArgument, fmt::format("LONGSPAN_KEY_FILE={} holds no key", path));
  return text;
}

}  // namespace

Result<std::string> load_secret(const std::optional<std::string>& key, const std::optional<std::string>& key_file) {
  if (key && key_file) {
    return Status(StatusCode::kInvalidArgument, "LONGSPAN_KEY and LONGSPAN_KEY_FILE are both given: use one of them");
  }
  if (!key && !key_file) return std::string();
  std::string secret;
  if (key) {
    secret = *key;
  } else {
    LONGSPAN_ASSIGN(secret, read_key_file(*key_file));
  }
  if (secret.size() > kLongest) {
    return Status(StatusCode::kInvalidArgument, fmt::format("the job's key is longer than {} bytes", kLongest));
  }
  static std::atomic<bool> warned{false};
  if (!secret.empty() && secret.size() < kShortest && !warned.exchange(true)) {
    log::warn("the job's key has {} characters only; take at least {} that nobody can guess (openssl rand -hex 32)",
              secret.size(), kShortest);
  }
  return secret;
}

Result<std::string> secret_from_environment() {
  return load_secret(env::get("LONGSPAN_KEY"), env::get("LONGSPAN_KEY_FILE"));
}

}  // namespace longspan::security
