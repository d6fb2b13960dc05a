#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "bootstrap/socket.hpp"
#include "longspan/bootstrap.hpp"
#include "security/session.hpp"

namespace longspan::bootstrap {

/// How the other ranks learn where rank 0 listens. One per way to start: a known port, a store, a unique id, a file.
class MeetingPlace {
 public:
  virtual ~MeetingPlace() = default;
  /// Rank 0, before `open`: where it may listen if the place leaves that to it, and the address that others dial then;
  /// "": those of its interfaces.
  void listen_within(PortRange ports, std::string advertise) {
    ports_ = ports;
    advertise_ = std::move(advertise);
  }
  /// Rank 0: listens, and makes that known. Called once.
  virtual Result<Fd> open(TimePoint deadline) = 0;
  /// Other ranks: where rank 0 may be listening now, likeliest first. Called again and again until rank 0 was reached;
  /// a failure is the reason to give when it never is.
  virtual Result<std::vector<SocketAddress>> find(TimePoint until) = 0;
  /// Other ranks: what listens at an address from `find` is not a rank 0 of longspan.
  virtual void not_there(const SocketAddress& /*address*/, TimePoint /*until*/) {}
  /// Rank 0: no rank will look for it any more.
  virtual void close() {}
  /// For messages: "MASTER_ADDR=10.0.0.1 MASTER_PORT=29500".
  virtual std::string describe() const = 0;

 protected:
  /// Listens as `listen_within` said, and makes the text to publish; `first`: how this process is known to be reached.
  Result<Fd> listen_and_publish(std::vector<SocketAddress> first, std::string& text) const;
  PortRange ports_;
  std::string advertise_;
};

/// The place that `launch` asks for: by a launcher's store, or by the form of master_address: "unix:@name",
/// "file://path", "id:..." (a unique id), else a host name or address with a port.
/// `guard`: of the job's key, shared with the caller; nullptr: there is none.
Result<std::unique_ptr<MeetingPlace>> meeting_place_of(const LaunchInfo& launch,
                                                       std::shared_ptr<const security::Guard> guard = nullptr);

std::unique_ptr<MeetingPlace> known_port_place(std::string host, std::uint16_t port, std::string run_id);
std::unique_ptr<MeetingPlace> store_place(std::string host, std::uint16_t port, std::string run_id);
std::unique_ptr<MeetingPlace> file_place(std::string path);
Result<std::unique_ptr<MeetingPlace>> unique_id_place(std::string_view hex,
                                                      std::shared_ptr<const security::Guard> guard);

/// Where this process can be reached at `port`, as text to publish: `first`, then all interfaces.
std::string published_addresses(std::uint16_t port, const std::vector<SocketAddress>& first);
/// What `published_addresses` wrote. kInvalidArgument for anything else.
Result<std::vector<SocketAddress>> parse_published(std::string_view text);

}  // namespace longspan::bootstrap
