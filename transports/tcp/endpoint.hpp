#pragma once

#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/clock.hpp"
#include "base/fd.hpp"
#include "base/sockets.hpp"
#include "base/timer.hpp"
#include "longspan/spi/transport.hpp"
#include "security/session.hpp"
#include "tcp/channel.hpp"
#include "tcp/connection.hpp"
#include "tcp/event_sink.hpp"
#include "tcp/inbox.hpp"
#include "tcp/lane.hpp"
#include "tcp/socket_options.hpp"

namespace longspan::tcp {

/// A listening socket, an epoll that watches all connections (edge-triggered: no system call to change what is waited
/// for), and a timer for what must be tried again. Everything happens in poll(), in the thread that calls it.
class TcpEndpoint final : public spi::Endpoint {
 public:
  static Result<std::unique_ptr<spi::Endpoint>> open(const spi::EndpointOptions& options);
  explicit TcpEndpoint(spi::EndpointOptions options);
  ~TcpEndpoint() override;

  std::string address() const override { return address_; }
  spi::EndpointTraits traits() const override;
  Result<spi::Channel*> connect(spi::PeerId peer, std::string_view peer_address, const spi::ChannelOptions& options,
                                TimePoint deadline) override;
  std::size_t poll(std::span<spi::Completion> completions) override;
  int wait_fd() const noexcept override { return epoll_.get(); }
  bool arm() override { return shared_.completions.empty() && dirty_.empty() && readable_.empty(); }
  Result<std::unique_ptr<spi::MemoryRegion>> register_memory(std::span<std::byte> memory) override;
  void forget(std::uint64_t comm) override;
  void close(TimePoint deadline) override;

  // For its channels.
  const spi::EndpointOptions& options() const noexcept { return options_; }
  Shared& shared() noexcept { return shared_; }
  bool closing() const noexcept { return closing_; }
  /// Of the job's key; nullptr: there is none.
  const security::Guard* guard() const noexcept { return guard_.get(); }
  void mark_dirty(TcpChannel& channel);
  void mark_readable(Lane& lane);
  void watch(int fd, EventSink& sink);
  /// Watches for `sink` what may have been watched for another one.
  void rewatch(int fd, EventSink& sink);
  void unwatch(int fd) noexcept;
  void request_timer(TimePoint when) noexcept { timer_.request(when); }
  /// A communicator that is used again is no longer forgotten.
  void remember(std::uint64_t comm) {
    if (!shared_.forgotten.empty()) shared_.forgotten.erase(comm);
  }
  /// Calls `channel`'s peer and offers the connection for lane `lane` of that side; nothing comes of it if it is not
  /// wanted.
  void offer(TcpChannel& channel, std::uint16_t lane);
  /// Of this host, to be used together; empty: as routes say.
  const std::vector<SocketAddress>& nics() const noexcept { return nics_; }
  /// Makes what `fd` dials leave by network card `turn`, counted round.
  void bind_to_nic(int fd, int family, std::size_t turn) const noexcept;
  /// Others cannot dial this endpoint, as far as is known (LONGSPAN_ADVERTISE=none): it calls them.
  bool unreachable() const noexcept { return unreachable_; }
  /// Whether `channel` may send padding now: one at a time, and only while no other sends large messages to another
  /// region, or all together would exceed the rates that each of them has.
  bool may_warm(TcpChannel& channel);
  void warn_congestion_control(const std::string& name, bool asked);
  /// What the kernel says of a connection.
  LaneInfo sample(int fd) const { return sampler_ ? sampler_(fd) : lane_info(fd); }
  /// For tests: what it is to say.
  void set_sampler(std::function<LaneInfo(int fd)> sampler) { sampler_ = std::move(sampler); }

 private:
  /// A connection that was accepted, or dialed to be offered, and whose HELLO was not yet read.
  struct Stranger final : EventSink {
    Stranger(TcpEndpoint& owner, Connection accepted) : endpoint(owner), connection(std::move(accepted)) {}
    void on_events(std::uint32_t /*events*/) override { endpoint.greet(*this); }
    TcpEndpoint& endpoint;
    Connection connection;
    TimePoint deadline{};
    bool proved = false;
    bool connecting = false;   // dialed from here, to be offered
    wire::HelloHeader offer{};
    security::Introduction introduction;  // proved with the key
    wire::HelloHeader hello{};
    std::size_t bytes = 0;
  };

  Status listen();
  Status add_to_epoll(int fd, void* subject);
  void progress(int timeout_ms);
  void flush_dirty();
  void harvest(int timeout_ms);
  void read_ready();
  void accept_all();
  void greet(Stranger& stranger);
  bool prove(Stranger& stranger);
  bool offered(Stranger& stranger);
  void take_offer(Stranger& stranger, const wire::Hello& hello);
  void admit(Stranger& stranger, const wire::Hello& hello);
  void send_away(Stranger& stranger, wire::Refusal refusal);
  void drop_stranger(Stranger& stranger);
  void run_timers();
  void refuse(const std::string& why);
  template <class Predicate>
  bool progress_until(TimePoint deadline, Predicate done);

  spi::EndpointOptions options_;
  std::shared_ptr<const security::Guard> guard_;  // shared as guards are made: this is its only owner here
  std::string address_;
  std::vector<SocketAddress> nics_;
  Shared shared_;
  Fd epoll_;
  Fd listener_;
  Timer timer_;
  std::unordered_map<spi::PeerId, std::unique_ptr<TcpChannel>> channels_;
  std::vector<std::unique_ptr<Stranger>> strangers_;
  std::vector<std::unique_ptr<Stranger>> graveyard_;  // until no event can point to them
  std::vector<TcpChannel*> dirty_;
  std::vector<TcpChannel*> flushing_;
  std::vector<Lane*> readable_;
  std::vector<Lane*> reading_;
  std::unique_ptr<std::byte[]> staging_;
  TcpChannel* warming_ = nullptr;
  std::uint64_t refused_ = 0;
  std::function<LaneInfo(int fd)> sampler_;
  bool warned_congestion_control_ = false;
  bool warned_accept_ = false;
  bool unreachable_ = false;
  bool closing_ = false;
  bool closed_ = false;
};

}  // namespace longspan::tcp
