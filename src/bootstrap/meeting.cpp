#include "bootstrap/meeting.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "bootstrap/tcp_store.hpp"

namespace longspan::bootstrap {
namespace {

constexpr std::string_view kPublishedMark = "longspan-1";
constexpr std::size_t kMaxPublished = 32;  // addresses
constexpr std::chrono::seconds kStoreProbe{2};

/// Rank 0 listens on a port that all ranks know. Unless a TCPStore already does, as under torchrun or when the program
/// itself uses torch.distributed: then it serves as the store.
class KnownPort final : public MeetingPlace {
 public:
  KnownPort(std::string host, std::uint16_t port, std::string run_id)
      : host_(std::move(host)), port_(port), run_id_(std::move(run_id)) {}

  Result<Fd> open(TimePoint deadline) override {
    auto listener = listen_everywhere({port_, port_});
    if (listener.ok() || listener.status().code() != StatusCode::kResource) return listener;
    const TimePoint until = std::min(deadline, Clock::now() + kStoreProbe);
    auto addresses = resolve(host_, port_, until);
    if (addresses.ok() && find_store(*addresses, until)) return store_->open(deadline);
    return Status(
        StatusCode::kResource,
        fmt::format("rank 0 cannot listen on MASTER_PORT={}: the port is taken on this host ({}); choose another",
                    port_, this_host_name()));
  }

  Result<std::vector<SocketAddress>> find(TimePoint until) override {
    if (store_) return store_->find(until);
    return resolve(host_, port_, until);
  }

  void not_there(const SocketAddress& address, TimePoint until) override {
    if (!store_) find_store({address}, std::min(until, Clock::now() + kStoreProbe));
  }

  void close() override {
    if (store_) store_->close();
  }

  std::string describe() const override { return fmt::format("MASTER_ADDR={} MASTER_PORT={}", host_, port_); }

 private:
  bool find_store(const std::vector<SocketAddress>& addresses, TimePoint until) {
    for (const SocketAddress& address : addresses) {
      if (!TcpStore::connect(address, until).ok()) continue;
      store_ = store_place(host_, port_, run_id_);
      store_->listen_within(ports_, advertise_);
      return true;
    }
    return false;
  }

  std::string host_;
  std::uint16_t port_;
  std::string run_id_;
  std::unique_ptr<MeetingPlace> store_;
};

/// All ranks are on this host and know a name that only their job has.
class UnixSocket final : public MeetingPlace {
 public:
  explicit UnixSocket(std::string name) : name_(std::move(name)) {}
  Result<Fd> open(TimePoint) override { return listen_at(unix_address(name_)); }
  Result<std::vector<SocketAddress>> find(TimePoint) override {
    return std::vector<SocketAddress>{unix_address(name_)};
  }
  std::string describe() const override {
    return fmt::format("the unix socket @{} (set MASTER_ADDR to use another place)", name_);
  }

 private:
  std::string name_;
};

}  // namespace

std::unique_ptr<MeetingPlace> known_port_place(std::string host, std::uint16_t port, std::string run_id) {
  return std::make_unique<KnownPort>(std::move(host), port, std::move(run_id));
}

Result<Fd> MeetingPlace::listen_and_publish(std::vector<SocketAddress> first, std::string& text) const {
  LONGSPAN_ASSIGN(Fd listener, listen_on_port_of(ports_));
  if (!advertise_.empty()) {
    LONGSPAN_ASSIGN(const SocketAddress advertised, make_address(advertise_, 0));
    first.insert(first.begin(), advertised);
  }
  text = published_addresses(local_address(listener.get()).port(), first);
  return listener;
}

std::string published_addresses(std::uint16_t port, const std::vector<SocketAddress>& first) {
  std::vector<std::string> ips;
  const auto add = [&](const SocketAddress& a) {
    const std::string ip = a.ip();
    if (!ip.empty() && ips.size() < kMaxPublished && std::find(ips.begin(), ips.end(), ip) == ips.end()) {
      ips.push_back(ip);
    }
  };
  for (const SocketAddress& a : first) add(a);
  for (const SocketAddress& a : interface_addresses()) add(a);
  return fmt::format("{} {} {}\n", kPublishedMark, port, fmt::join(ips, " "));
}

Result<std::vector<SocketAddress>> parse_published(std::string_view text) {
  const Status malformed(StatusCode::kInvalidArgument, "what is published there is not an address of rank 0");
  const auto word = [&] {
    const auto end = std::min(text.find_first_of(" \n"), text.size());
    const std::string_view w = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    return w;
  };
  if (word() != kPublishedMark) return malformed;
  const std::string_view digits = word();
  std::uint16_t port = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
  if (error != std::errc() || end != digits.data() + digits.size() || port == 0) return malformed;
  std::vector<SocketAddress> found;
  while (!text.empty() && found.size() < kMaxPublished) {
    auto address = make_address(word(), port);
    if (!address.ok()) return malformed;
    found.push_back(*address);
  }
  if (found.empty()) return malformed;
  return found;
}

Result<std::unique_ptr<MeetingPlace>> meeting_place_of(const LaunchInfo& launch,
                                                       std::shared_ptr<const security::Guard> guard) {
  const std::string_view address = launch.master_address;
  if (address.empty()) {
    return Status(StatusCode::kInvalidArgument, "MASTER_ADDR is not set: the ranks cannot find rank 0");
  }
  if (address.starts_with("unix:@")) {
    return std::unique_ptr<MeetingPlace>(std::make_unique<UnixSocket>(std::string(address.substr(6))));
  }
  if (address.starts_with("file://")) return file_place(std::string(address.substr(7)));
  if (address.starts_with("id:")) return unique_id_place(address.substr(3), std::move(guard));
  if (launch.master_port <= 0 || launch.master_port > 65535) {
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("MASTER_PORT={}: expected a port from 1 to 65535", launch.master_port));
  }
  const auto port = static_cast<std::uint16_t>(launch.master_port);
  if (launch.agent_store) return store_place(launch.master_address, port, launch.run_id);
  return known_port_place(launch.master_address, port, launch.run_id);
}

}  // namespace longspan::bootstrap
