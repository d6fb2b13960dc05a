#pragma once

#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/clock.hpp"
#include "base/fd.hpp"
#include "base/sockets.hpp"
#include "base/timer.hpp"
#include "ucx/channel.hpp"

namespace longspan::ucx {

/// A rank's side: a UCX worker, the socket that lifelines are dialed to, and its channels. Used by one thread at a
/// time.
class UcxEndpoint final : public spi::Endpoint {
 public:
  static Result<std::unique_ptr<UcxEndpoint>> open(const spi::EndpointOptions& options);
  ~UcxEndpoint() override;

  std::string address() const override;
  spi::EndpointTraits traits() const override;
  Result<spi::Channel*> connect(spi::PeerId peer, std::string_view peer_address, const spi::ChannelOptions& options,
                                TimePoint deadline) override;
  std::size_t poll(std::span<spi::Completion> completions) override;
  int wait_fd() const noexcept override { return epoll_.get(); }
  bool arm() override;
  Result<std::unique_ptr<spi::MemoryRegion>> register_memory(std::span<std::byte> memory) override;
  void forget(std::uint64_t comm) override;
  void close(TimePoint deadline) override;

  // ---- for the channels ----
  struct Address {
    SocketAddress lifeline;
    std::string worker;
  };
  static Result<Address> parse_announced(std::string_view text);

  enum class Watched : std::uint8_t { kListener, kWorker, kTimer, kStranger, kLine };
  void watch(int fd, void* owner, Watched what);
  void unwatch(int fd) noexcept;
  void request_timer() { timer_wanted_ = true; }
  const spi::EndpointOptions& options() const noexcept { return options_; }
  const std::string& worker_address() const noexcept { return worker_->address(); }
  const Worker& worker() const noexcept { return *worker_; }
  wire::Greeting greeting(spi::PeerId to, const UcxChannel::Token& token, bool with_address) const;
  void protect_dialed(Lifeline& line, spi::PeerId to) const;
  /// Ends a UCX endpoint at once; its requests end, too.
  void close(ucp_ep_h endpoint);
  void flush(ucp_ep_h endpoint);

 private:
  /// A lifeline that was accepted and has not greeted.
  struct Stranger {
    std::unique_ptr<Lifeline> line;
    TimePoint deadline{};
    bool parting = false;  // it was told why it is refused
    bool done = false;
  };

  explicit UcxEndpoint(const spi::EndpointOptions& options) : options_(options) {}
  Status set_up();
  UcxChannel& channel_of(spi::PeerId peer);
  bool progress();
  void service_sockets();
  void accept_waiting();
  void greet(Stranger& stranger);
  wire::Verdict admit(Stranger& stranger, const wire::Greeting& greeting, const std::string& worker_address);
  void refuse(const std::string& why);
  void run_timers();
  void reap();
  void run_until(TimePoint deadline, std::chrono::milliseconds idle, const std::function<bool()>& done);
  void close_gracefully(TimePoint deadline);
  void end_all(const Status& status);
  static ucs_status_t on_message(void* endpoint, const void* header, std::size_t header_length, void* data,
                                 std::size_t length, const ucp_am_recv_param_t* param);

  spi::EndpointOptions options_;
  std::shared_ptr<const security::Guard> guard_;  // shared as guards are made: this is its only owner here
  Shared shared_;
  Listener listener_;
  Timer timer_;
  Fd epoll_;
  std::unordered_map<spi::PeerId, std::unique_ptr<UcxChannel>> channels_;
  std::vector<UcxChannel*> order_;                         // the same
  std::unordered_map<std::uint64_t, UcxChannel*> by_token_;
  std::vector<UcxChannel*> dirty_;                         // have something to fetch
  std::vector<std::unique_ptr<Stranger>> strangers_;
  std::vector<ucs_status_ptr_t> closing_;                  // ends and flushes that UCX has not finished
  std::unique_ptr<Worker> worker_;                         // goes before the channels, which its callbacks use
  std::uint64_t refused_ = 0;
  int polls_since_sockets_ = 0;
  int settling_ = 0;
  bool timer_wanted_ = false;
  bool armed_ = false;
  bool closed_ = false;
  bool warned_ = false;
  int owner_pid_ = 0;
};

}  // namespace longspan::ucx
