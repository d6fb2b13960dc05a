#include "ucx/endpoint.hpp"

#include <fmt/format.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include "base/log.hpp"

namespace longspan::ucx {
namespace {

constexpr std::string_view kAddressPrefix = "ucx1 ";
constexpr std::size_t kMostStrangers = 1024;
constexpr auto kGreetingTime = std::chrono::seconds(5);
constexpr int kPollsPerSocketCheck = 256;  // lifelines only tell of newcomers and ends, and cost a system call
constexpr int kBehindTheOthers = 10;       // a general layer
constexpr int kBeforeTheOthers = -1;
constexpr int kProgressPerPoll = 16;       // calls, while each finds something

security::Introduction introduction(spi::PeerId from, spi::PeerId to) {
  return {"ucx", fmt::format("{:x}", from), fmt::format("{:x}", to), "", true};
}

/// Without it, shm and tcp do everything that UCX could, and know the plan's rates; so it is not even loaded.
bool has_rdma_device() {
  std::error_code error;
  const std::filesystem::directory_iterator devices("/sys/class/infiniband", error);
  return !error && devices != std::filesystem::directory_iterator();
}

std::uint64_t encode(void* owner, UcxEndpoint::Watched what) {
  return reinterpret_cast<std::uint64_t>(owner) | static_cast<std::uint64_t>(what);  // owners are aligned to 8
}

/// Known to UCX, so that network cards may read and write it without being asked again.
class Region final : public spi::MemoryRegion {
 public:
  Region(const Worker& worker, ucp_mem_h handle) : worker_(worker), handle_(handle) {}
  ~Region() override { worker_.library().mem_unmap(worker_.context(), handle_); }

 private:
  const Worker& worker_;
  ucp_mem_h handle_;
};

}  // namespace

Result<std::unique_ptr<UcxEndpoint>> UcxEndpoint::open(const spi::EndpointOptions& options) {
  std::unique_ptr<UcxEndpoint> endpoint(new UcxEndpoint(options));
  endpoint->owner_pid_ = ::getpid();
  LONGSPAN_TRY(endpoint->set_up());
  return endpoint;
}

Status UcxEndpoint::set_up() {
  constexpr const char* kNothing =
      "no RDMA device that UCX could use on this host; without one it is used only if LONGSPAN_TRANSPORTS names it";
  if (!options_.named && !has_rdma_device()) return Status(StatusCode::kUnsupported, kNothing);
  if (!options_.key.empty() && options_.encryption == Encryption::kAll) {
    return Status(StatusCode::kUnsupported, "UCX does not encrypt, and LONGSPAN_ENCRYPT=all asks for it between hosts");
  }
  LONGSPAN_ASSIGN(guard_, security::Guard::open(options_.key));
  options_.key.clear();
  shared_.credit_bytes = options_.eager_credit_bytes;
  LONGSPAN_ASSIGN(worker_, Worker::create());
  if (!options_.named && !worker_->has_rdma()) return Status(StatusCode::kUnsupported, kNothing);
  LONGSPAN_TRY(worker_->listen(&UcxEndpoint::on_message, this));
  Result<Listener> listening =
      listen_for_peers({options_.bind_address, options_.advertise_address, {options_.first_port, options_.last_port}});
  if (!listening.ok()) return listening.status().with_context("ucx");
  listener_ = std::move(*listening);
  epoll_ = Fd(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll_) return system_error("ucx: epoll_create1", errno);
  LONGSPAN_ASSIGN(timer_, Timer::create());
  watch(listener_.fd.get(), nullptr, Watched::kListener);
  watch(timer_.fd(), nullptr, Watched::kTimer);
  watch(worker_->event_fd(), nullptr, Watched::kWorker);
  return {};
}

UcxEndpoint::~UcxEndpoint() {
  if (owner_pid_ != ::getpid()) {
    // A forked child: UCX's queues belong to the parent, and so does what they hold.
    static_cast<void>(worker_.release());
    return;
  }
  if (worker_ != nullptr && !closed_) end_all(Status(StatusCode::kAborted, "the endpoint is gone"));
}

spi::EndpointTraits UcxEndpoint::traits() const {
  spi::EndpointTraits traits;
  traits.medium = worker_->has_rdma()    ? spi::Medium::kRdma
                  : worker_->host_only() ? spi::Medium::kMemory
                                         : spi::Medium::kIp;
  traits.reach = worker_->host_only() ? Tier::kHost : Tier::kSite;
  // Who names it where it has nothing but sockets means it to be used.
  traits.preference = options_.named && !worker_->has_rdma() ? kBeforeTheOthers : kBehindTheOthers;
  traits.detail =
      fmt::format("UCX {}: {}", worker_->library().get_version_string(), fmt::join(worker_->resources(), ", "));
  return traits;
}

std::string UcxEndpoint::address() const {
  return fmt::format("{}{} {}", kAddressPrefix, listener_.address.to_string(), worker_->address());
}

Result<UcxEndpoint::Address> UcxEndpoint::parse_announced(std::string_view text) {
  const std::size_t space =
      text.starts_with(kAddressPrefix) ? text.find(' ', kAddressPrefix.size()) : std::string_view::npos;
  if (space == std::string_view::npos || space + 1 == text.size()) {
    return Status(StatusCode::kInvalidArgument, "ucx: what the peer announced is no address of this transport");
  }
  const Result<SocketAddress> lifeline =
      parse_address(text.substr(kAddressPrefix.size(), space - kAddressPrefix.size()));
  if (!lifeline.ok()) return lifeline.status().with_context("ucx");
  return Address{*lifeline, std::string(text.substr(space + 1))};
}

void UcxEndpoint::watch(int fd, void* owner, Watched what) {
  epoll_event event{};
  // A lifeline is written when it can be, which is always but at its beginning: edges only.
  event.events = what == Watched::kLine || what == Watched::kStranger ? EPOLLIN | EPOLLOUT | EPOLLET : EPOLLIN;
  event.data.u64 = encode(owner, what);
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) {
    log::warn("{}", system_error("ucx: epoll_ctl", errno).to_string());
  }
}

void UcxEndpoint::unwatch(int fd) noexcept { ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr); }

wire::Greeting UcxEndpoint::greeting(spi::PeerId to, const UcxChannel::Token& token, bool with_address) const {
  wire::Greeting greeting;
  greeting.job = options_.job;
  greeting.from = options_.self;
  greeting.to = to;
  greeting.credit = options_.eager_credit_bytes;
  greeting.token = token;
  greeting.address_bytes = with_address ? static_cast<std::uint32_t>(worker_->address().size()) : 0;
  return greeting;
}

void UcxEndpoint::protect_dialed(Lifeline& line, spi::PeerId to) const {
  if (guard_ != nullptr) line.protect(guard_->dial(line.fd(), introduction(options_.self, to)));
}

UcxChannel& UcxEndpoint::channel_of(spi::PeerId peer) {
  std::unique_ptr<UcxChannel>& channel = channels_[peer];
  if (!channel) {
    UcxChannel::Token token{};
    // Messages without it are not looked at: it is what the proof of the key gives a peer.
    if (::getrandom(token.data(), sizeof token, 0) != sizeof token) {
      log::warn("ucx: getrandom: {}", std::strerror(errno));
    }
    channel = std::make_unique<UcxChannel>(peer, *this, shared_, *worker_, token);
    order_.push_back(channel.get());
    by_token_[token[0]] = channel.get();
  }
  return *channel;
}

Result<spi::Channel*> UcxEndpoint::connect(spi::PeerId peer, std::string_view peer_address,
                                           const spi::ChannelOptions& options, TimePoint deadline) {
  if (closed_) return Status(StatusCode::kAborted, "ucx: the endpoint is closed");
  UcxChannel& channel = channel_of(peer);
  if (channel.state() == UcxChannel::State::kBroken) return channel.over_status();
  if (!channel.started() && channel.state() == UcxChannel::State::kOpen) {
    LONGSPAN_TRY(channel.start(peer_address, options, deadline));
    run_timers();
  }
  return static_cast<spi::Channel*>(&channel);
}

// ---- progress ----

ucs_status_t UcxEndpoint::on_message(void* self, const void* header_bytes, std::size_t header_length, void* data,
                                     std::size_t length, const ucp_am_recv_param_t* param) {
  auto& endpoint = *static_cast<UcxEndpoint*>(self);
  wire::MessageHeader header;
  if (header_length != sizeof header) return UCS_OK;
  std::memcpy(&header, header_bytes, sizeof header);
  const auto found = endpoint.by_token_.find(header.token[0]);
  if (found == endpoint.by_token_.end() || found->second->token() != header.token) {
    if (!std::exchange(endpoint.warned_, true)) {
      log::warn("ucx: a message from somebody who was not greeted was dropped (later ones silently)");
    }
    return UCS_OK;
  }
  UcxChannel& channel = *found->second;
  const bool offered = (param->recv_attr & UCP_AM_RECV_ATTR_FLAG_RNDV) != 0;
  bool taken = false;
  channel.on_message(header, data, length, offered, taken);
  if (!taken) return UCS_OK;
  if (endpoint.dirty_.empty() || endpoint.dirty_.back() != &channel) endpoint.dirty_.push_back(&channel);
  return UCS_INPROGRESS;
}

bool UcxEndpoint::progress() {
  bool any = false;
  for (int i = 0; i < kProgressPerPoll && worker_->progress() != 0; ++i) any = true;
  for (std::size_t i = 0; i < dirty_.size(); ++i) any |= dirty_[i]->flush();
  dirty_.clear();
  if (!closing_.empty()) reap();
  if (std::exchange(shared_.attention, false)) {
    for (UcxChannel* channel : order_) channel->decide();
  }
  return any;
}

std::size_t UcxEndpoint::poll(std::span<spi::Completion> completions) {
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

bool UcxEndpoint::arm() {
  if (!shared_.completions.empty()) return false;
  if (closed_) return true;
  armed_ = true;
  return dirty_.empty() && !shared_.attention && worker_->arm();
}

void UcxEndpoint::service_sockets() {
  polls_since_sockets_ = 0;
  armed_ = false;
  std::array<epoll_event, 64> events;
  const int count = ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), 0);
  bool newcomers = false;
  bool timer = timer_wanted_;
  for (int i = 0; i < count; ++i) {
    const std::uint64_t data = events[static_cast<std::size_t>(i)].data.u64;
    switch (static_cast<Watched>(data & 7)) {
      case Watched::kListener:
      case Watched::kStranger: newcomers = true; break;
      case Watched::kWorker: break;
      case Watched::kTimer: timer = true; break;
      case Watched::kLine: reinterpret_cast<UcxChannel*>(data & ~std::uint64_t{7})->on_lines(); break;
    }
  }
  if (newcomers) accept_waiting();
  if (timer || settling_ > 0 || timer_wanted_) run_timers();
}

void UcxEndpoint::run_timers() {
  const TimePoint now = Clock::now();
  TimePoint next = TimePoint::max();
  settling_ = 0;
  timer_wanted_ = false;
  for (UcxChannel* channel : order_) {
    if (const auto due = channel->on_timer(now); due) next = std::min(next, *due);
    if (channel->settling()) ++settling_;
  }
  for (auto& stranger : strangers_) {
    if (now >= stranger->deadline) {
      if (!stranger->parting) refuse("it sent nothing");
      stranger->done = true;
    } else {
      next = std::min(next, stranger->deadline);
    }
  }
  std::erase_if(strangers_, [](const auto& stranger) { return stranger->done; });
  timer_.set(next);
}

// ---- newcomers ----

void UcxEndpoint::accept_waiting() {
  for (;;) {
    Fd fd = accept_next(listener_.fd.get());
    if (!fd) break;
    set_keepalive(fd.get());
    if (strangers_.size() >= kMostStrangers) strangers_.erase(strangers_.begin());
    auto stranger = std::make_unique<Stranger>();
    stranger->line = std::make_unique<Lifeline>(std::move(fd));
    stranger->deadline = Clock::now() + kGreetingTime;
    if (guard_ != nullptr) stranger->line->protect(guard_->accept(stranger->line->fd()));
    watch(stranger->line->fd(), stranger.get(), Watched::kStranger);
    strangers_.push_back(std::move(stranger));
    timer_wanted_ = true;
  }
  for (auto& stranger : strangers_) greet(*stranger);
  std::erase_if(strangers_, [](const auto& stranger) { return stranger->done; });
}

void UcxEndpoint::greet(Stranger& stranger) {
  Lifeline& line = *stranger.line;
  line.step();
  wire::Greeting greeting;
  std::string worker_address;
  if (!line.hear(greeting, worker_address)) {
    if (!line.ended()) return;
    if (line.refused_key()) {
      if (!std::exchange(stranger.parting, true)) {
        refuse(line.why());
        line.say_in_plain(wire::Verdict::kKeyNeeded);
      }
      stranger.done = line.drained();
      return;
    }
    stranger.done = true;
    return refuse(line.why());
  }
  stranger.done = true;
  unwatch(line.fd());  // its channel watches it from here on
  const wire::Verdict verdict = admit(stranger, greeting, worker_address);
  if (verdict == wire::Verdict::kWelcome) return;
  refuse(fmt::format("peer {:x}, verdict {}", greeting.from, static_cast<int>(verdict)));
  wire::Greeting answer = this->greeting(greeting.from, {}, false);
  answer.verdict = verdict;
  line.say(answer, {});
}

wire::Verdict UcxEndpoint::admit(Stranger& stranger, const wire::Greeting& greeting,
                                 const std::string& worker_address) {
  if (greeting.verdict != wire::Verdict::kWelcome || greeting.version != wire::kVersion) {
    return wire::Verdict::kOtherVersion;
  }
  if (greeting.job != options_.job) return wire::Verdict::kOtherJob;
  if (greeting.to != options_.self) return wire::Verdict::kOtherPeer;
  if (guard_ != nullptr) {
    const security::Introduction* proved = stranger.line->introduction();
    if (proved == nullptr || *proved != introduction(greeting.from, options_.self)) return wire::Verdict::kOtherPeer;
  }
  UcxChannel& channel = channel_of(greeting.from);
  if (channel.has_line(false) || channel.state() != UcxChannel::State::kOpen) return wire::Verdict::kAlreadyConnected;
  stranger.line->greeted = true;
  channel.join(std::move(stranger.line), greeting, worker_address);
  return wire::Verdict::kWelcome;
}

void UcxEndpoint::refuse(const std::string& why) {
  ++refused_;
  if (refused_ == 1) {
    log::warn("ucx: refused a connection to {}: {} (later ones are counted only)", listener_.address.to_string(), why);
  } else {
    log::debug("ucx: refused connection {} to {}: {}", refused_, listener_.address.to_string(), why);
  }
}

// ---- ends ----

Result<std::unique_ptr<spi::MemoryRegion>> UcxEndpoint::register_memory(std::span<std::byte> memory) {
  ucp_mem_map_params_t params{};
  params.field_mask = UCP_MEM_MAP_PARAM_FIELD_ADDRESS | UCP_MEM_MAP_PARAM_FIELD_LENGTH;
  params.address = memory.data();
  params.length = memory.size();
  ucp_mem_h handle = nullptr;
  const ucs_status_t status = worker_->library().mem_map(worker_->context(), &params, &handle);
  if (status != UCS_OK) {
    return Status(StatusCode::kResource,
                  fmt::format("ucx: cannot register {} bytes: {}", memory.size(), worker_->describe(status)));
  }
  return std::unique_ptr<spi::MemoryRegion>(std::make_unique<Region>(*worker_, handle));
}

void UcxEndpoint::forget(std::uint64_t comm) {
  shared_.forgotten.insert(comm);
  for (UcxChannel* channel : order_) channel->forget(comm);
  shared_.completions.remove_if([comm](const spi::Completion& completion) { return completion.is_of(comm); });
}

void UcxEndpoint::close(ucp_ep_h endpoint) {
  ucp_request_param_t param{};
  param.op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS;
  param.flags = UCP_EP_CLOSE_FLAG_FORCE;
  ucs_status_ptr_t const request = worker_->library().ep_close_nbx(endpoint, &param);
  if (UCS_PTR_IS_PTR(request)) closing_.push_back(request);
}

/// What UCX has taken from a user may still wait in its own buffers.
void UcxEndpoint::flush(ucp_ep_h endpoint) {
  ucp_request_param_t param{};
  ucs_status_ptr_t const request = worker_->library().ep_flush_nbx(endpoint, &param);
  if (UCS_PTR_IS_PTR(request)) closing_.push_back(request);
}

void UcxEndpoint::reap() {
  std::erase_if(closing_, [this](ucs_status_ptr_t request) {
    if (worker_->library().request_check_status(request) == UCS_INPROGRESS) return false;
    worker_->library().request_free(request);
    return true;
  });
}

/// Until `done`, or the deadline, or nothing has happened for `idle`.
void UcxEndpoint::run_until(TimePoint deadline, std::chrono::milliseconds idle, const std::function<bool()>& done) {
  TimePoint last = Clock::now();
  while (!done()) {
    service_sockets();
    const bool any = progress();
    const TimePoint now = Clock::now();
    if (any) last = now;
    const TimePoint until = std::min(deadline, last + idle);
    if (now >= until) return;
    if (any || !dirty_.empty() || shared_.attention || !worker_->arm()) continue;
    pollfd waiting{epoll_.get(), POLLIN, 0};
    ::poll(&waiting, 1, poll_timeout_ms(now, until, 20));
  }
}

void UcxEndpoint::close_gracefully(TimePoint deadline) {
  const auto none = [this](bool (UcxChannel::*what)() const noexcept) {
    return std::none_of(order_.begin(), order_.end(), [what](const UcxChannel* channel) { return (channel->*what)(); });
  };
  using std::chrono::milliseconds;
  run_until(deadline, milliseconds(2000), [&] { return none(&UcxChannel::unsent); });
  run_until(deadline, milliseconds(100), [&] { return none(&UcxChannel::unfetched); });
  for (UcxChannel* channel : order_) {
    if (channel->unfetched()) channel->bequeath(options_.eager_credit_bytes);
  }
  run_until(deadline, milliseconds(500), [&] { return none(&UcxChannel::unsent); });
  for (UcxChannel* channel : order_) channel->flush_endpoint();
  run_until(deadline, milliseconds(300), [&] { return closing_.empty(); });
  for (UcxChannel* channel : order_) channel->say_goodbye();
  run_until(deadline, milliseconds(300), [&] {
    return std::all_of(order_.begin(), order_.end(), [](const UcxChannel* channel) { return channel->parted(); });
  });
}

void UcxEndpoint::end_all(const Status& status) {
  for (UcxChannel* channel : order_) channel->abandon(status);
  const TimePoint patience = Clock::now() + std::chrono::seconds(1);
  const auto held = [this] {
    return !closing_.empty() ||
           std::any_of(order_.begin(), order_.end(), [](const UcxChannel* channel) { return channel->held() > 0; });
  };
  while (held() && Clock::now() < patience) {
    worker_->progress();
    reap();
  }
  strangers_.clear();
  listener_.fd.reset();
}

void UcxEndpoint::close(TimePoint deadline) {
  if (closed_ || owner_pid_ != ::getpid()) return;
  close_gracefully(deadline);
  end_all(Status(StatusCode::kAborted, "ucx: the endpoint was closed"));
  closed_ = true;
}

}  // namespace longspan::ucx
