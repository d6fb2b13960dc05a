#include "shm/endpoint.hpp"

#include <fmt/format.h>
#include <poll.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "base/log.hpp"

namespace longspan::shm {
namespace {

constexpr std::string_view kAddressPrefix = "shm1:";
constexpr std::size_t kFetchPerPoll = std::size_t{1} << 20;  // so that a large message does not hold up small ones
constexpr std::size_t kMostGreetings = 4096;  // connections whose hello is awaited
constexpr int kPollsPerSocketCheck = 512;  // sockets only tell of deaths and newcomers, and cost a system call

// Ordinary memory needs no registration here.
class NoRegion final : public spi::MemoryRegion {};

std::uint64_t encode(void* owner, ShmEndpoint::Watched what) {
  return reinterpret_cast<std::uint64_t>(owner) | static_cast<std::uint64_t>(what);  // owners are aligned to 8
}

}  // namespace

ShmEndpoint::ShmEndpoint(const spi::EndpointOptions& options, const Tuning& tuning)
    : options_(options), owner_pid_(::getpid()) {
  shared_.tuning = tuning;
  shared_.credit_bytes = options.eager_credit_bytes;
}

Result<std::unique_ptr<ShmEndpoint>> ShmEndpoint::open(const spi::EndpointOptions& options, const Tuning& tuning) {
  std::unique_ptr<ShmEndpoint> endpoint(new ShmEndpoint(options, tuning));
  LONGSPAN_TRY(endpoint->set_up());
  return endpoint;
}

spi::EndpointTraits ShmEndpoint::traits() const {
  spi::EndpointTraits traits;
  traits.medium = spi::Medium::kMemory;
  traits.reach = Tier::kHost;
  return traits;
}

Status ShmEndpoint::set_up() {
  LONGSPAN_ASSIGN(listener_, listen_anywhere());
  LONGSPAN_ASSIGN(bell_, Bell::create());
  LONGSPAN_ASSIGN(shared_.heap, StagingHeap::create());
  epoll_ = Fd(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll_) return system_error("shm: epoll_create1", errno);
  LONGSPAN_ASSIGN(timer_, Timer::create());
  LONGSPAN_TRY(add_to_epoll(listener_.fd.get(), nullptr, Watched::kListener));
  LONGSPAN_TRY(add_to_epoll(bell_.fd(), nullptr, Watched::kBell));
  return add_to_epoll(timer_.fd(), nullptr, Watched::kTimer);
}

ShmEndpoint::~ShmEndpoint() {
  if (closed_ || owner_pid_ != ::getpid()) return;
  for (ShmChannel* channel : order_) channel->abandon(Status(StatusCode::kAborted, "the endpoint is gone"));
}

Status ShmEndpoint::add_to_epoll(int fd, void* owner, Watched what) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = encode(owner, what);
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) return system_error("shm: epoll_ctl", errno);
  return {};
}

void ShmEndpoint::watch(const Fd& fd, ShmChannel& channel, Watched what) {
  if (Status added = add_to_epoll(fd.get(), &channel, what); !added.ok()) log::warn("{}", added.to_string());
}

void ShmEndpoint::unwatch(const Fd& fd) noexcept { ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd.get(), nullptr); }

void ShmEndpoint::describe_self(Hello& hello) const {
  hello.job = options_.job;
  hello.self = options_.self;
  hello.credit = options_.eager_credit_bytes;
}

void ShmEndpoint::report(spi::CompletionKind kind, spi::PeerId peer, const Status& status) {
  shared_.complete(kind, nullptr, peer, {}, 0, 0, status);
}

ShmChannel& ShmEndpoint::channel_of(spi::PeerId peer) {
  std::unique_ptr<ShmChannel>& channel = channels_[peer];
  if (!channel) {
    channel = std::make_unique<ShmChannel>(peer, *this, shared_);
    order_.push_back(channel.get());
  }
  return *channel;
}

Result<spi::Channel*> ShmEndpoint::connect(spi::PeerId peer, std::string_view peer_address,
                                           const spi::ChannelOptions& options, TimePoint deadline) {
  if (closed_) return Status(StatusCode::kAborted, "shm: the endpoint is closed");
  if (!peer_address.starts_with(kAddressPrefix)) {
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("shm: \"{}\" is no address of this transport", peer_address));
  }
  ShmChannel& channel = channel_of(peer);
  if (channel.state() == ShmChannel::State::kBroken) return channel.over_status();
  if (!channel.dials() && channel.state() == ShmChannel::State::kOpen) {
    LONGSPAN_TRY(channel.start(std::string(peer_address.substr(kAddressPrefix.size())), options, deadline));
    run_timers();
  }
  return static_cast<spi::Channel*>(&channel);
}

// ---- progress ----

bool ShmEndpoint::progress() {
  std::size_t budget = kFetchPerPoll;
  bool any = false;
  const std::size_t count = order_.size();
  if (++next_first_ >= count) next_first_ = 0;  // turns, so that the budget is shared
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t at = next_first_ + i;
    any |= order_[at < count ? at : at - count]->progress(budget);
  }
  return any;
}

std::size_t ShmEndpoint::poll(std::span<spi::Completion> completions) {
  if (!closed_) {
    if (armed_ || ++polls_since_sockets_ >= (settling_ > 0 ? 4 : kPollsPerSocketCheck)) service_sockets();
    progress();
  }
  std::size_t count = 0;
  while (count < completions.size() && !shared_.completions.empty()) {
    completions[count++] = shared_.completions.pop_front();
  }
  return count;
}

bool ShmEndpoint::arm() {
  if (closed_) return shared_.completions.empty();
  armed_ = true;
  bell_.sleep();
  bool quiet = shared_.completions.empty();
  for (std::size_t i = 0; quiet && i < order_.size(); ++i) quiet = order_[i]->arm();
  if (!quiet) bell_.awake();
  return quiet;
}

void ShmEndpoint::service_sockets() {
  polls_since_sockets_ = 0;
  if (armed_) bell_.awake();
  armed_ = false;
  std::array<epoll_event, 64> events;
  const int count = ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), 0);
  bool newcomers = false;
  bool timer = false;
  for (int i = 0; i < count; ++i) {
    const std::uint64_t data = events[static_cast<std::size_t>(i)].data.u64;
    auto* channel = reinterpret_cast<ShmChannel*>(data & ~std::uint64_t{7});
    switch (static_cast<Watched>(data & 7)) {
      case Watched::kListener:
      case Watched::kGreeting: newcomers = true; break;
      case Watched::kBell: bell_.drain(); break;
      case Watched::kTimer: timer = true; break;
      case Watched::kOut: channel->on_out_socket(); break;
      case Watched::kIn: channel->on_in_socket(); break;
      case Watched::kProcess: channel->on_process_end(); break;
    }
  }
  if (newcomers) accept_waiting();
  if (timer || settling_ > 0) run_timers();
}

void ShmEndpoint::run_timers() {
  const TimePoint now = Clock::now();
  TimePoint next = TimePoint::max();
  settling_ = 0;
  for (ShmChannel* channel : order_) {
    if (const auto due = channel->on_timer(now); due) next = std::min(next, *due);
    if (channel->settling()) ++settling_;
  }
  timer_.set(next);
}

// ---- newcomers ----

void ShmEndpoint::accept_waiting() {
  for (;;) {
    Fd socket = accept_next(listener_.fd);
    if (!socket) break;
    // Who connects and says nothing is not kept for ever; a rank greets at once.
    if (greetings_.size() >= kMostGreetings) greetings_.erase(greetings_.begin());
    auto greeting = std::make_unique<Greeting>(Greeting{std::move(socket)});
    if (add_to_epoll(greeting->socket.get(), greeting.get(), Watched::kGreeting).ok()) {
      greetings_.push_back(std::move(greeting));
    }
  }
  for (auto& greeting : greetings_) greet(*greeting);
  std::erase_if(greetings_, [](const auto& greeting) { return greeting->done; });
}

void ShmEndpoint::greet(Greeting& greeting) {
  Hello hello;
  std::size_t length = 0;
  std::vector<Fd> fds;
  const Received received = receive_packet(greeting.socket, std::as_writable_bytes(std::span(&hello, 1)), length, fds);
  if (received == Received::kNothing) return;
  greeting.done = true;  // its socket, unless a channel takes it, goes with it
  if (received == Received::kEnd || length != sizeof(hello) || hello.magic != Hello{}.magic) return;
  const Process process = process_behind(greeting.socket);
  if (process.uid != ::geteuid() && process.uid != 0) {
    return log::warn("shm: refused a connection from user {} (process {})", process.uid, process.pid);
  }
  unwatch(greeting.socket);  // its channel watches it from here on
  Welcome welcome;
  welcome.self = options_.self;
  welcome.verdict = admit(greeting.socket, hello, std::move(fds));
  if (welcome.verdict == Verdict::kWelcome) return;
  log::warn("shm: refused peer {} (verdict {})", hello.self, static_cast<int>(welcome.verdict));
  static_cast<void>(send_packet(greeting.socket, std::as_bytes(std::span(&welcome, 1)), {}));
}

Verdict ShmEndpoint::admit(Fd& socket, const Hello& hello, std::vector<Fd> fds) {
  if (hello.version != kVersion) return Verdict::kOtherVersion;
  if (hello.job != options_.job) return Verdict::kOtherJob;
  ShmChannel& channel = channel_of(hello.self);
  if (channel.has_in_link() || channel.state() != ShmChannel::State::kOpen) return Verdict::kAlreadyConnected;
  Result<InLink> link = InLink::attach(std::move(socket), hello, std::move(fds), shared_.tuning.best_fetch);
  if (!link) {
    log::warn("shm: peer {}: {}", hello.self, link.status().to_string());
    return Verdict::kWelcome;  // the socket went with it, which the peer sees
  }
  Welcome welcome;
  welcome.self = options_.self;
  welcome.reach = link->reach();
  const std::array<int, 2> own{bell_.page_fd(), bell_.fd()};
  // Fails only if the peer is gone again.
  static_cast<void>(send_packet(link->socket, std::as_bytes(std::span(&welcome, 1)), own));
  channel.join(*std::move(link), hello);
  return Verdict::kWelcome;
}

// ---- ends ----

Result<std::unique_ptr<spi::MemoryRegion>> ShmEndpoint::register_memory(std::span<std::byte> /*memory*/) {
  return std::unique_ptr<spi::MemoryRegion>(std::make_unique<NoRegion>());
}

Result<std::unique_ptr<spi::MemoryRegion>> ShmEndpoint::share_memory(std::span<std::byte> memory, int memfd) {
  if (memory.empty() || memfd < 0) return Status(StatusCode::kInvalidArgument, "shm: expected memory and its memfd");
  const std::uint32_t number = shared_.regions->add(memory, memfd);
  return std::unique_ptr<spi::MemoryRegion>(std::make_unique<RegionHandle>(shared_.regions, number));
}

void ShmEndpoint::forget(std::uint64_t comm) {
  shared_.forgotten.insert(comm);
  for (ShmChannel* channel : order_) channel->forget(comm);
  shared_.completions.remove_if([comm](const spi::Completion& completion) { return completion.is_of(comm); });
}

void ShmEndpoint::wait_until_work(TimePoint deadline) {
  if (!arm()) {
    if (!shared_.completions.empty()) {  // nobody takes them now, so they are no reason to stay awake
      bell_.sleep();
      for (ShmChannel* channel : order_) {
        if (!channel->arm()) return bell_.awake();
      }
    } else {
      return;
    }
  }
  pollfd waiting{epoll_.get(), POLLIN, 0};
  ::poll(&waiting, 1, poll_timeout_ms(Clock::now(), deadline));
}

void ShmEndpoint::close_gracefully(TimePoint deadline) {
  const auto run_until = [&](auto done) {
    while (!done()) {
      if (Clock::now() >= deadline) return;
      service_sockets();
      if (!progress()) wait_until_work(deadline);
    }
  };
  const auto none = [&](auto what) { return std::none_of(order_.begin(), order_.end(), what); };
  run_until([&] { return none([](ShmChannel* channel) { return channel->unsent(); }); });
  for (ShmChannel* channel : order_) channel->bequeath(options_.eager_credit_bytes);
  run_until([&] {
    return std::all_of(order_.begin(), order_.end(), [](ShmChannel* channel) { return channel->say_goodbye(); });
  });
  run_until([&] { return none([](ShmChannel* channel) { return channel->unfetched(); }); });
}

void ShmEndpoint::close(TimePoint deadline) {
  if (closed_ || owner_pid_ != ::getpid()) return;
  close_gracefully(deadline);
  for (ShmChannel* channel : order_) channel->abandon(Status(StatusCode::kAborted, "shm: the endpoint was closed"));
  closed_ = true;
  greetings_.clear();
  listener_.fd.reset();
}

}  // namespace longspan::shm
