#include "bootstrap/meeting.hpp"

#include <fmt/format.h>

namespace longspan::bootstrap {
namespace {

/// Rank 0 listens on a port that all ranks know.
class KnownPort final : public MeetingPlace {
 public:
  KnownPort(std::string host, std::uint16_t port) : host_(std::move(host)), port_(port) {}

  Result<Fd> open(TimePoint) override {
    auto listener = listen_on_port(port_);
    if (listener.ok() || listener.status().code() != StatusCode::kResource) return listener;
    return Status(StatusCode::kResource,
                  fmt::format("rank 0 cannot listen on MASTER_PORT={}: the port is taken on this host ({}); choose another",
                              port_, this_host_name()));
  }

  Result<std::vector<Address>> find(TimePoint until) override { return resolve(host_, port_, until); }

  std::string describe() const override { return fmt::format("MASTER_ADDR={} MASTER_PORT={}", host_, port_); }

 private:
  std::string host_;
  std::uint16_t port_;
};

}  // namespace

Result<std::unique_ptr<MeetingPlace>> meeting_place_of(const LaunchInfo& launch) {
  if (launch.master_address.empty()) {
    return Status(StatusCode::kInvalidArgument, "MASTER_ADDR is not set: the ranks cannot find rank 0");
  }
  if (launch.master_port <= 0 || launch.master_port > 65535) {
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("MASTER_PORT={}: expected a port from 1 to 65535", launch.master_port));
  }
  return std::unique_ptr<MeetingPlace>(
      std::make_unique<KnownPort>(launch.master_address, static_cast<std::uint16_t>(launch.master_port)));
}

}  // namespace longspan::bootstrap
