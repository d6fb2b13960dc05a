// Meeting places where rank 0 listens on any port and publishes its address: a store, a file.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <fstream>
#include <optional>
#include <sstream>

#include "bootstrap/meeting.hpp"
#include "bootstrap/tcp_store.hpp"

namespace longspan::bootstrap {
namespace {

constexpr std::chrono::seconds kStoreTry{5};
constexpr std::size_t kMaxFile = 4096;

/// The TCPStore of a torchrun agent, or of torch.distributed in the program.
class Store final : public MeetingPlace {
 public:
  Store(std::string host, std::uint16_t port, std::string run_id)
      : host_(std::move(host)), port_(port), key_(fmt::format("longspan/{}/rank0", run_id)) {}

  Result<Fd> open(TimePoint deadline) override {
    while (true) {
      const Status connected = connect(std::min(deadline, Clock::now() + kStoreTry));
      if (connected.ok()) break;
      if (Clock::now() >= deadline) {
        return Status(StatusCode::kTimeout, fmt::format("rank 0 cannot reach {}: {}", describe(), connected.message()));
      }
      wait_ready(-1, 0, std::min(deadline, Clock::now() + std::chrono::milliseconds(50)));
    }
    // The way that this process reaches the store from is, most likely, a way that others reach this process by.
    std::string text;
    LONGSPAN_ASSIGN(Fd listener, listen_and_publish({local_address(store_->fd())}, text));
    LONGSPAN_TRY(store_->set(key_, text, deadline).with_context(describe()));
    return listener;
  }

  Result<std::vector<SocketAddress>> find(TimePoint until) override {
    if (!store_) LONGSPAN_TRY(connect(until));
    auto value = store_->get(key_, until);
    if (!value.ok()) {
      store_.reset();
      return value.status().with_context(describe());
    }
    if (!*value) {
      return Status(StatusCode::kTimeout,
                    fmt::format("rank 0 has not published its address in {} under '{}'", describe(), key_));
    }
    return parse_published(**value);
  }

  void close() override {
    if (store_) (void)store_->remove(key_, Clock::now() + kStoreTry);
    store_.reset();
  }

  std::string describe() const override {
    return fmt::format("the store at MASTER_ADDR={} MASTER_PORT={}", host_, port_);
  }

 private:
  Status connect(TimePoint until) {
    LONGSPAN_ASSIGN(const auto addresses, resolve(host_, port_, until));
    Status last(StatusCode::kPeerLost, "no address");
    for (const SocketAddress& address : addresses) {
      auto store = TcpStore::connect(address, until);
      if (store.ok()) {
        store_.emplace(std::move(*store));
        return {};
      }
      last = store.status();
    }
    return last;
  }

  std::string host_;
  std::uint16_t port_;
  std::string key_;
  std::optional<TcpStore> store_;
};

/// A file that all ranks see. Rank 0 writes it, and takes it away when all came.
class File final : public MeetingPlace {
 public:
  explicit File(std::string path) : path_(std::move(path)) {}

  Result<Fd> open(TimePoint) override {
    std::string text;
    LONGSPAN_ASSIGN(Fd listener, listen_and_publish({}, text));
    // Written beside and renamed, so that nobody reads half of it.
    const std::string beside = fmt::format("{}.{}-{:x}", path_, ::getpid(), random_number());
    Fd file(::open(beside.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (!file.valid()) return system_error(fmt::format("writing {}", beside), errno);
    const bool written = ::write(file.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size());
    if (!written || ::rename(beside.c_str(), path_.c_str()) != 0) {
      const Status failed = system_error(fmt::format("writing {}", path_), errno);
      ::unlink(beside.c_str());
      return failed;
    }
    return listener;
  }

  Result<std::vector<SocketAddress>> find(TimePoint) override {
    std::ifstream file(path_);
    if (!file) return Status(StatusCode::kTimeout, fmt::format("rank 0 has not written {}", path_));
    std::string text(kMaxFile, '\0');
    file.read(text.data(), static_cast<std::streamsize>(text.size()));
    text.resize(static_cast<std::size_t>(file.gcount()));
    auto addresses = parse_published(text);
    if (!addresses.ok()) return addresses.status().with_context(path_);
    return addresses;
  }

  void close() override { ::unlink(path_.c_str()); }

  std::string describe() const override { return fmt::format("file://{}", path_); }

 private:
  std::string path_;
};

}  // namespace

std::unique_ptr<MeetingPlace> store_place(std::string host, std::uint16_t port, std::string run_id) {
  return std::make_unique<Store>(std::move(host), port, std::move(run_id));
}

std::unique_ptr<MeetingPlace> file_place(std::string path) { return std::make_unique<File>(std::move(path)); }

}  // namespace longspan::bootstrap
