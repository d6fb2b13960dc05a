#include "verbs/endpoint.hpp"

#include <fmt/format.h>
#include <poll.h>
#include <sys/epoll.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "base/log.hpp"

namespace longspan::verbs {
namespace {

constexpr int kPollsPerEventCheck = 256;  // sockets only tell of deaths and newcomers, and cost a system call
constexpr int kBatchesPerPoll = 8;
constexpr std::size_t kMostStrangers = 1024;
constexpr std::size_t kCompletionBacklog = 4096;

/// A region that a user registered.
class Region final : public spi::MemoryRegion {
 public:
  Region(Registrar& registrar, Registered memory) : registrar_(registrar), memory_(std::move(memory)) {}
  ~Region() override { registrar_.forget_region(*memory_); }

 private:
  Registrar& registrar_;
  Registered memory_;
};

}  // namespace

Result<std::unique_ptr<spi::Endpoint>> VerbsEndpoint::open(const spi::EndpointOptions& options) {
  if (!options.key.empty() && options.encryption == Encryption::kAll) {
    return Status(StatusCode::kUnsupported, "RDMA does not encrypt, and LONGSPAN_ENCRYPT=all is set");
  }
  if (options.advertise_address == "none") {
    return Status(StatusCode::kUnsupported, "peers cannot dial this rank (LONGSPAN_ADVERTISE=none)");
  }
  auto endpoint = std::make_unique<VerbsEndpoint>(options);
  LONGSPAN_ASSIGN(endpoint->adapter_, Adapter::open(options));
  LONGSPAN_TRY(endpoint->set_up());
  return std::unique_ptr<spi::Endpoint>(std::move(endpoint));
}

Status VerbsEndpoint::set_up() {
  LONGSPAN_ASSIGN(guard_, security::Guard::open(options_.key));
  options_.key.clear();
  Result<Listener> listening =
      listen_for_peers({options_.bind_address, options_.advertise_address, {options_.first_port, options_.last_port}});
  if (!listening.ok()) return listening.status().with_context("verbs");
  listener_ = std::move(*listening);
  epoll_.reset(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll_.valid()) return system_error("verbs: epoll_create1", errno);
  LONGSPAN_ASSIGN(timer_, Timer::create());
  LONGSPAN_TRY(add_to_epoll(listener_.fd.get(), &listener_));
  LONGSPAN_TRY(add_to_epoll(timer_.fd(), &timer_));
  LONGSPAN_TRY(add_to_epoll(adapter_->events_fd(), &adapter_));
  return add_to_epoll(adapter_->faults_fd(), &fault_);
}

VerbsEndpoint::~VerbsEndpoint() {
  for (const auto& [peer, channel] : channels_) channel->abandon(Status(StatusCode::kAborted, "the endpoint is gone"));
  graveyard_.clear();
  strangers_.clear();
  channels_.clear();
}

spi::EndpointTraits VerbsEndpoint::traits() const {
  const Device& device = adapter_->device();
  spi::EndpointTraits traits;
  traits.medium = spi::Medium::kRdma;
  traits.fabric = device.fabric();
  traits.rate_bytes_per_second = device.rate_bytes_per_second;
  traits.reach = Tier::kSite;
  traits.detail = fmt::format("{}, {}, MTU {}", device.where(),
                              device.roce ? "RoCEv2 " + to_string(device.gid) : "InfiniBand", 128 << device.mtu);
  return traits;
}

Status VerbsEndpoint::add_to_epoll(int fd, void* subject) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.ptr = subject;
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) return system_error("verbs: epoll_ctl", errno);
  return {};
}

void VerbsEndpoint::watch(int fd, Connection& connection) {
  epoll_event event{};
  event.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
  event.data.ptr = &connection;
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) {
    log::error("verbs: epoll_ctl failed with errno {}", errno);
  }
}

void VerbsEndpoint::unwatch(int fd) noexcept {
  // Closing alone would leave the watch where a forked child still holds the socket.
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
}

wire::Greeting VerbsEndpoint::greeting(spi::PeerId to) const {
  wire::Greeting greeting;
  greeting.job = options_.job;
  greeting.from = options_.self;
  greeting.to = to;
  greeting.credit_bytes = options_.eager_credit_bytes;
  return greeting;
}

security::Introduction VerbsEndpoint::introduction(spi::PeerId from, spi::PeerId to) const {
  return {"verbs", fmt::format("{:x}", from), fmt::format("{:x}", to), "", false};
}

VerbsChannel& VerbsEndpoint::channel_of(spi::PeerId peer) {
  auto& channel = channels_[peer];
  if (channel == nullptr) channel = std::make_unique<VerbsChannel>(peer, *this);
  return *channel;
}

Result<spi::Channel*> VerbsEndpoint::connect(spi::PeerId peer, std::string_view peer_address,
                                             const spi::ChannelOptions& options, TimePoint deadline) {
  if (closing_) return Status(StatusCode::kAborted, "verbs: the endpoint is closed");
  const Result<SocketAddress> address = parse_address(peer_address);
  if (!address.ok()) return address.status().with_context("verbs");
  VerbsChannel& channel = channel_of(peer);
  if (channel.state() == VerbsChannel::State::kBroken) return channel.over_status();
  if (!channel.started() && channel.state() == VerbsChannel::State::kOpen) channel.start(*address, options, deadline);
  settling_ = true;
  return static_cast<spi::Channel*>(&channel);
}

void VerbsEndpoint::report(spi::CompletionKind kind, spi::PeerId peer, const Status& status) {
  spi::Completion completion;
  completion.kind = kind;
  completion.peer = peer;
  completion.status = status;
  shared_.completions.push_back(std::move(completion));
}

Result<std::unique_ptr<spi::MemoryRegion>> VerbsEndpoint::register_memory(std::span<std::byte> memory) {
  if (memory.empty()) return Status(StatusCode::kInvalidArgument, "verbs: there is no memory to register");
  LONGSPAN_ASSIGN(Registered made, adapter_->registrar().add_region(memory));
  return std::unique_ptr<spi::MemoryRegion>(std::make_unique<Region>(adapter_->registrar(), std::move(made)));
}

// ---- progress ----

void VerbsEndpoint::mark_dirty(VerbsChannel& channel) {
  if (!std::exchange(channel.dirty, true)) dirty_.push_back(&channel);
}

void VerbsEndpoint::progress_channels() {
  if (dirty_.empty()) return;
  working_.swap(dirty_);
  for (VerbsChannel* channel : working_) {
    channel->dirty = false;
    const TimePoint wake = channel->progress();
    if (wake == TimePoint::max()) continue;
    pace_wake_ = std::min(pace_wake_, wake);
    mark_dirty(*channel);
  }
  working_.clear();
}

void VerbsEndpoint::progress() {
  for (int i = 0; i < kBatchesPerPoll && adapter_->poll(); ++i) {}
  if (armed_ || ++polls_since_events_ >= (settling_ ? 4 : kPollsPerEventCheck)) service_events();
  pace_wake_ = TimePoint::max();
  progress_channels();
  graveyard_.clear();
}

std::size_t VerbsEndpoint::poll(std::span<spi::Completion> completions) {
  if (!closed_ && shared_.completions.size() < std::max(completions.size(), kCompletionBacklog)) progress();
  std::size_t count = 0;
  while (count < completions.size() && !shared_.completions.empty()) {
    completions[count++] = shared_.completions.pop_front();
  }
  return count;
}

bool VerbsEndpoint::arm() {
  if (!shared_.completions.empty()) return false;
  if (closed_) return true;
  // Channels that only wait for their pace are no reason to stay awake before its time.
  if (!dirty_.empty() && pace_wake_ == TimePoint::max()) return false;
  if (pace_wake_ != TimePoint::max()) {
    if (pace_wake_ <= Clock::now()) return false;
    request_timer(pace_wake_);
  }
  armed_ = true;
  return adapter_->arm() && shared_.completions.empty();
}

void VerbsEndpoint::service_events() {
  polls_since_events_ = 0;
  armed_ = false;
  std::array<epoll_event, 64> events;
  const int count = ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), 0);
  for (int i = 0; i < count; ++i) {
    void* const subject = events[static_cast<std::size_t>(i)].data.ptr;
    if (subject == &listener_) accept_all();
    else if (subject == &timer_) run_timers();
    else if (subject == &adapter_) adapter_->take_events();
    else if (subject == &fault_) take_faults();
    else static_cast<Connection*>(subject)->on_events();
  }
  std::erase_if(strangers_, [this](std::unique_ptr<Connection>& stranger) {
    if (stranger != nullptr && stranger->over()) {
      log::warn("verbs: refused a connection to {}: {}", listener_.address.to_string(), stranger->why());
      bury(std::move(stranger));
    }
    return stranger == nullptr;
  });
  settling_ = !strangers_.empty() || std::any_of(channels_.begin(), channels_.end(),
                                                 [](const auto& entry) { return entry.second->settling(); });
}

void VerbsEndpoint::take_faults() {
  bool fatal = false;
  for (std::string fault = adapter_->take_fault(fatal); !fault.empty(); fault = adapter_->take_fault(fatal)) {
    log::warn("verbs: {}", fault);
    fault_ = fault.ends_with("up again") ? std::string() : fault;
  }
  if (!fatal) return;
  for (const auto& [peer, channel] : channels_) channel->break_down(Status(StatusCode::kSystem, "verbs: " + fault_));
}

void VerbsEndpoint::accept_all() {
  while (true) {
    Fd fd = accept_next(listener_.fd.get());
    if (!fd.valid()) return;
    strangers_.push_back(std::make_unique<Connection>(*this, std::move(fd)));
    request_timer(strangers_.back()->deadline());
    if (strangers_.size() <= kMostStrangers) continue;
    bury(std::move(strangers_.front()));
    strangers_.erase(strangers_.begin());
  }
}

void VerbsEndpoint::admit(Connection& connection) {
  const wire::Greeting& heard = connection.heard();
  if (heard.version != wire::kVersion) return connection.refuse(wire::Verdict::kOtherVersion);
  if (heard.job != options_.job) return connection.refuse(wire::Verdict::kOtherJob);
  if (heard.to != options_.self) return connection.refuse(wire::Verdict::kOtherPeer);
  if (guard_ != nullptr && connection.introduction() != introduction(heard.from, heard.to)) {
    return connection.fail("its greeting is not what it proved the key with");
  }
  VerbsChannel& channel = channel_of(heard.from);
  if (channel.has_in() || channel.state() != VerbsChannel::State::kOpen) {
    return connection.refuse(wire::Verdict::kAlreadyConnected);
  }
  if (Status status = connection.welcome(channel); !status.ok()) {
    log::warn("verbs: {}", status.to_string());
    return connection.refuse(wire::Verdict::kNoResources);
  }
  const auto own =
      std::find_if(strangers_.begin(), strangers_.end(), [&](const auto& one) { return one.get() == &connection; });
  channel.join(std::move(*own));
  if (closing_) channel.say_goodbye();
}

void VerbsEndpoint::bury(std::unique_ptr<Connection> connection) {
  if (connection != nullptr) graveyard_.push_back(std::move(connection));
}

// ---- timers ----

void VerbsEndpoint::run_timers() {
  if (!timer_.take()) return;
  const TimePoint now = Clock::now();
  for (const auto& [peer, channel] : channels_) {
    if (const TimePoint next = channel->on_timer(now); next != TimePoint::max()) request_timer(next);
  }
  for (const auto& stranger : strangers_) {
    if (stranger == nullptr || stranger->over()) continue;
    if (now >= stranger->deadline()) stranger->fail("it did not say who it is");
    else request_timer(stranger->deadline());
  }
}

// ---- the end ----

void VerbsEndpoint::forget(std::uint64_t comm) {
  shared_.forgotten.insert(comm);
  for (const auto& [peer, channel] : channels_) channel->forget(comm);
  shared_.completions.remove_if([comm](const spi::Completion& completion) { return completion.is_of(comm); });
}

template <class Predicate>
void VerbsEndpoint::progress_until(TimePoint deadline, Predicate done) {
  while (true) {
    service_events();
    progress();
    if (std::all_of(channels_.begin(), channels_.end(), [&](const auto& entry) { return done(*entry.second); })) return;
    const TimePoint now = Clock::now();
    if (now >= deadline) return;
    if (!adapter_->arm()) continue;
    pollfd waiting{epoll_.get(), POLLIN, 0};
    ::poll(&waiting, 1, poll_timeout_ms(now, deadline, 1));
  }
}

void VerbsEndpoint::close(TimePoint deadline) {
  if (closed_) return;
  progress_until(deadline, [](const VerbsChannel& channel) { return channel.drained(); });
  for (const auto& [peer, channel] : channels_) channel->bequeath();
  progress_until(deadline, [](const VerbsChannel& channel) { return channel.drained(); });
  closing_ = true;
  for (const auto& [peer, channel] : channels_) channel->say_goodbye();
  progress_until(deadline, [](const VerbsChannel& channel) { return channel.quiet(); });
  for (const auto& [peer, channel] : channels_) {
    channel->abandon(Status(StatusCode::kAborted, "verbs: the endpoint was closed"));
  }
  strangers_.clear();
  graveyard_.clear();
  listener_.fd.reset();
  closed_ = true;
}

}  // namespace longspan::verbs
