#pragma once

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
#include "verbs/adapter.hpp"
#include "verbs/channel.hpp"
#include "verbs/connection.hpp"

namespace longspan::verbs {

/// A rank's side: the device, a listening socket, and its channels. Used by one thread at a time; everything happens in
/// poll(), except that forget() may wait until the device has stopped reading or writing.
class VerbsEndpoint final : public spi::Endpoint {
 public:
  static Result<std::unique_ptr<spi::Endpoint>> open(const spi::EndpointOptions& options);
  explicit VerbsEndpoint(spi::EndpointOptions options) : options_(std::move(options)) {}
  ~VerbsEndpoint() override;

  std::string address() const override { return listener_.address.to_string(); }
  spi::EndpointTraits traits() const override;
  Result<spi::Channel*> connect(spi::PeerId peer, std::string_view peer_address, const spi::ChannelOptions& options,
                                TimePoint deadline) override;
  std::size_t poll(std::span<spi::Completion> completions) override;
  int wait_fd() const noexcept override { return epoll_.get(); }
  bool arm() override;
  Result<std::unique_ptr<spi::MemoryRegion>> register_memory(std::span<std::byte> memory) override;
  void forget(std::uint64_t comm) override;
  void close(TimePoint deadline) override;

  // ---- for its channels and connections ----
  Adapter& adapter() noexcept { return *adapter_; }
  Shared& shared() noexcept { return shared_; }
  spi::PeerId self() const noexcept { return options_.self; }
  std::uint64_t job() const noexcept { return options_.job; }
  const spi::EndpointOptions& options() const noexcept { return options_; }
  const security::Guard* guard() const noexcept { return guard_.get(); }
  bool closing() const noexcept { return closing_; }
  wire::Greeting greeting(spi::PeerId to) const;
  security::Introduction introduction(spi::PeerId from, spi::PeerId to) const;
  void watch(int fd, Connection& connection);
  void unwatch(int fd) noexcept;
  void request_timer(TimePoint when) noexcept { timer_.request(when); }
  void mark_dirty(VerbsChannel& channel);
  void admit(Connection& connection);
  /// Destroys it when nothing refers to it any more.
  void bury(std::unique_ptr<Connection> connection);
  /// Until the device has nothing more to tell.
  void drain() { while (adapter_->poll()) {} }
  void report(spi::CompletionKind kind, spi::PeerId peer, const Status& status);
  /// "mlx5_0 port 1 went down", while it is so.
  const std::string& fault() const noexcept { return fault_; }

 private:

  Status set_up();
  Status add_to_epoll(int fd, void* subject);
  void progress();
  void service_events();
  void accept_all();
  void run_timers();
  void take_faults();
  VerbsChannel& channel_of(spi::PeerId peer);
  void progress_channels();
  template <class Predicate>
  void progress_until(TimePoint deadline, Predicate done);

  spi::EndpointOptions options_;
  std::shared_ptr<const security::Guard> guard_;  // shared as guards are made: this is its only owner here
  std::unique_ptr<Adapter> adapter_;
  Shared shared_;
  Listener listener_;
  Fd epoll_;
  Timer timer_;
  std::unordered_map<spi::PeerId, std::unique_ptr<VerbsChannel>> channels_;
  std::vector<VerbsChannel*> dirty_;
  std::vector<VerbsChannel*> working_;
  std::vector<std::unique_ptr<Connection>> strangers_;
  std::vector<std::unique_ptr<Connection>> graveyard_;
  TimePoint pace_wake_ = TimePoint::max();
  std::string fault_;
  int polls_since_events_ = 0;
  bool settling_ = true;
  bool armed_ = false;
  bool closing_ = false;
  bool closed_ = false;
};

}  // namespace longspan::verbs
