#pragma once

#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/clock.hpp"
#include "base/timer.hpp"
#include "shm/channel.hpp"
#include "shm/links.hpp"
#include "shm/sockets.hpp"

namespace longspan::shm {

/// A rank's side: its listening socket, its bell, and its channels. Used by one thread at a time.
class ShmEndpoint final : public spi::Endpoint {
 public:
  static Result<std::unique_ptr<ShmEndpoint>> open(const spi::EndpointOptions& options, const Tuning& tuning = {});
  ~ShmEndpoint() override;

  std::string address() const override { return "shm1:" + listener_.name; }
  spi::EndpointTraits traits() const override;
  Result<spi::Channel*> connect(spi::PeerId peer, std::string_view peer_address, const spi::ChannelOptions& options,
                                TimePoint deadline) override;
  std::size_t poll(std::span<spi::Completion> completions) override;
  int wait_fd() const noexcept override { return epoll_.get(); }
  bool arm() override;
  Result<std::unique_ptr<spi::MemoryRegion>> register_memory(std::span<std::byte> memory) override;
  Result<std::unique_ptr<spi::MemoryRegion>> share_memory(std::span<std::byte> memory, int memfd) override;
  void forget(std::uint64_t comm) override;
  void close(TimePoint deadline) override;

  // ---- for the channels ----
  enum class Watched : std::uint8_t { kListener, kBell, kTimer, kGreeting, kOut, kIn, kProcess };
  void watch(const Fd& fd, ShmChannel& channel, Watched what);
  /// Closing would not do: a forked child may hold the same descriptor.
  void unwatch(const Fd& fd) noexcept;
  void describe_self(Hello& hello) const;
  const Bell& bell() const noexcept { return bell_; }
  int heap_fd() const noexcept { return shared_.heap.fd(); }
  spi::PeerId self() const noexcept { return options_.self; }
  void report(spi::CompletionKind kind, spi::PeerId peer, const Status& status);
  /// Takes the connections that wait and have said hello.
  void accept_waiting();

 private:
  // A connection whose hello has not come.
  struct Greeting {
    Fd socket;
    bool done = false;
  };

  ShmEndpoint(const spi::EndpointOptions& options, const Tuning& tuning);
  Status set_up();
  Status add_to_epoll(int fd, void* owner, Watched what);
  ShmChannel& channel_of(spi::PeerId peer);
  bool progress();
  void service_sockets();
  void greet(Greeting& greeting);
  Verdict admit(Fd& socket, const Hello& hello, std::vector<Fd> fds);
  void run_timers();
  void wait_until_work(TimePoint deadline);
  void close_gracefully(TimePoint deadline);

  spi::EndpointOptions options_;
  Shared shared_;
  Listener listener_;
  Bell bell_;
  Fd epoll_;
  Timer timer_;
  std::unordered_map<spi::PeerId, std::unique_ptr<ShmChannel>> channels_;
  std::vector<ShmChannel*> order_;  // the same, for polling
  std::vector<std::unique_ptr<Greeting>> greetings_;
  std::size_t next_first_ = 0;
  int polls_since_sockets_ = 0;
  int settling_ = 0;
  bool armed_ = false;
  bool closed_ = false;
  int owner_pid_ = 0;
};

}  // namespace longspan::shm
