#include "tcp/endpoint.hpp"

#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "base/log.hpp"

namespace longspan::tcp {
namespace {

constexpr std::size_t kStagingBytes = std::size_t{64} << 10;
/// What one lane may read before the others get their turn.
constexpr std::size_t kReadBudget = std::size_t{4} << 20;
constexpr int kEventsPerPoll = 64;
/// Completions that wait for the caller; above this no more work is made for it.
constexpr std::size_t kCompletionBacklog = 4096;
/// For a connection to prove the job's key and say who it is.
constexpr std::chrono::seconds kGreetingTime{5};
/// Connections at once that have not done so; the oldest makes room.
constexpr std::size_t kMaxStrangers = 1024;

/// Nothing to undo: the kernel reads and writes any memory.
class PlainRegion final : public spi::MemoryRegion {};

}  // namespace

TcpEndpoint::TcpEndpoint(spi::EndpointOptions options)
    : options_(std::move(options)), staging_(new std::byte[kStagingBytes]) {}

TcpEndpoint::~TcpEndpoint() = default;

Result<std::unique_ptr<spi::Endpoint>> TcpEndpoint::open(const spi::EndpointOptions& options) {
  auto endpoint = std::make_unique<TcpEndpoint>(options);
  LONGSPAN_ASSIGN(endpoint->guard_, security::Guard::open(options.key));
  endpoint->options_.key.clear();
  endpoint->epoll_.reset(::epoll_create1(EPOLL_CLOEXEC));
  if (!endpoint->epoll_.valid()) return system_error("tcp: epoll_create1", errno);
  LONGSPAN_ASSIGN(endpoint->timer_, Timer::create());
  LONGSPAN_TRY(endpoint->listen());
  LONGSPAN_TRY(endpoint->add_to_epoll(endpoint->listener_.get(), &endpoint->listener_));
  LONGSPAN_TRY(endpoint->add_to_epoll(endpoint->timer_.fd(), &endpoint->timer_));
  return std::unique_ptr<spi::Endpoint>(std::move(endpoint));
}

spi::EndpointTraits TcpEndpoint::traits() const {
  spi::EndpointTraits traits;
  traits.medium = spi::Medium::kIp;
  traits.reach = Tier::kWan;
  return traits;
}

Status TcpEndpoint::add_to_epoll(int fd, void* subject) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.ptr = subject;
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) return system_error("tcp: epoll_ctl", errno);
  return {};
}

Status TcpEndpoint::listen() {
  for (const std::string& nic : options_.nics) {
    const Result<SocketAddress> parsed = make_address(nic, 0);
    if (!parsed.ok()) return parsed.status().with_context("tcp: a network card");
    nics_.push_back(*parsed);
  }
  ListenOptions wanted{options_.bind_address, options_.advertise_address, {options_.first_port, options_.last_port}};
  if (nics_.size() > 1) wanted.bind_address.clear();
  Result<Listener> listener = listen_for_peers(wanted);
  if (!listener.ok()) return listener.status().with_context("tcp");
  listener_ = std::move(listener->fd);
  address_ = listener->address.to_string();
  unreachable_ = options_.advertise_address == "none";
  if (nics_.empty() || (!unreachable_ && !options_.advertise_address.empty())) return {};
  address_.clear();
  for (SocketAddress nic : nics_) {
    nic.set_port(listener->address.port());
    address_ += (address_.empty() ? "" : ",") + nic.to_string();
  }
  return {};
}

void TcpEndpoint::bind_to_nic(int fd, int family, std::size_t turn) const noexcept {
  if (nics_.size() < 2) return;
  const SocketAddress& nic = nics_[turn % nics_.size()];
  // The port is chosen when the connection is made, so that two lanes may have the same one to different places.
  const int on = 1;
  ::setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
  if (nic.family() == family && ::bind(fd, nic.get(), nic.length) != 0) {
    log::debug("tcp: cannot dial from {}: errno {}", nic.to_string(), errno);
  }
}

Result<spi::Channel*> TcpEndpoint::connect(spi::PeerId peer, std::string_view peer_address,
                                           const spi::ChannelOptions& options, TimePoint deadline) {
  if (closing_) return Status(StatusCode::kAborted, "tcp: the endpoint is closed");
  std::vector<SocketAddress> addresses;
  for (std::size_t at = 0; at <= peer_address.size();) {
    const std::size_t comma = std::min(peer_address.find(',', at), peer_address.size());
    const Result<SocketAddress> one = parse_address(peer_address.substr(at, comma - at));
    if (!one.ok()) return one.status().with_context("tcp");
    addresses.push_back(*one);
    at = comma + 1;
  }
  auto& channel = channels_[peer];
  if (channel == nullptr) channel = std::make_unique<TcpChannel>(*this, peer);
  if (!channel->started()) channel->start(std::move(addresses), options, deadline);
  return channel.get();
}

Result<std::unique_ptr<spi::MemoryRegion>> TcpEndpoint::register_memory(std::span<std::byte> /*memory*/) {
  return std::unique_ptr<spi::MemoryRegion>(std::make_unique<PlainRegion>());
}

void TcpEndpoint::forget(std::uint64_t comm) {
  shared_.forgotten.insert(comm);
  for (const auto& [peer, channel] : channels_) channel->forget(comm);
  // "No completions follow" includes those that are made but not yet polled.
  shared_.completions.remove_if([comm](const spi::Completion& completion) { return completion.is_of(comm); });
}

// ---- progress ----

std::size_t TcpEndpoint::poll(std::span<spi::Completion> completions) {
  if (!closed_ && shared_.completions.size() < std::max(completions.size(), kCompletionBacklog)) progress(0);
  std::size_t count = 0;
  while (count < completions.size() && !shared_.completions.empty()) {
    completions[count++] = shared_.completions.pop_front();
  }
  return count;
}

void TcpEndpoint::progress(int timeout_ms) {
  flush_dirty();
  harvest(timeout_ms);
  read_ready();
  flush_dirty();
}

void TcpEndpoint::mark_dirty(TcpChannel& channel) {
  if (std::exchange(channel.dirty, true)) return;
  dirty_.push_back(&channel);
}

void TcpEndpoint::flush_dirty() {
  if (dirty_.empty()) return;
  flushing_.swap(dirty_);
  for (TcpChannel* channel : flushing_) {
    channel->dirty = false;
    if (!channel->flush()) mark_dirty(*channel);
  }
  flushing_.clear();
}

void TcpEndpoint::mark_readable(Lane& lane) {
  lane.readable = true;
  if (std::exchange(lane.in_read_list, true)) return;
  readable_.push_back(&lane);
}

void TcpEndpoint::harvest(int timeout_ms) {
  std::array<epoll_event, kEventsPerPoll> events;
  const int count = ::epoll_wait(epoll_.get(), events.data(), kEventsPerPoll, timeout_ms);
  for (int i = 0; i < count; ++i) {
    void* const subject = events[static_cast<std::size_t>(i)].data.ptr;
    if (subject == &listener_) {
      accept_all();
    } else if (subject == &timer_) {
      run_timers();
    } else {
      static_cast<EventSink*>(subject)->on_events(events[static_cast<std::size_t>(i)].events);
    }
  }
  graveyard_.clear();
}

void TcpEndpoint::read_ready() {
  if (readable_.empty()) return;
  reading_.swap(readable_);
  for (Lane* lane : reading_) {
    lane->in_read_list = false;
    if (!lane->up() || !lane->readable) continue;
    const Lane::Outcome outcome = lane->read({staging_.get(), kStagingBytes}, kReadBudget);
    lane->channel().after_read(*lane, outcome);
    if (lane->up() && lane->readable) mark_readable(*lane);
  }
  reading_.clear();
}

void TcpEndpoint::watch(int fd, EventSink& sink) {
  epoll_event event{};
  event.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
  event.data.ptr = &sink;
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) {
    log::error("tcp: epoll_ctl failed with errno {}; a connection will make no progress", errno);
  }
}

void TcpEndpoint::rewatch(int fd, EventSink& sink) {
  unwatch(fd);
  watch(fd, sink);
}

void TcpEndpoint::unwatch(int fd) noexcept {
  // Closing alone would leave the watch where a forked child still holds the socket.
  if (fd >= 0) ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
}

bool TcpEndpoint::may_warm(TcpChannel& channel) {
  if (warming_ != nullptr && warming_ != &channel && warming_->warms()) return false;
  for (const auto& [peer, other] : channels_) {
    if (other.get() != &channel && other->sends_far()) return false;
  }
  warming_ = &channel;
  return true;
}

// ---- connections from others ----

void TcpEndpoint::accept_all() {
  while (true) {
    Fd fd = accept_next(listener_.get());
    if (!fd.valid()) {
      if (errno != EAGAIN && errno != ECONNABORTED && errno != EINTR && !std::exchange(warned_accept_, true)) {
        log::warn("tcp: cannot accept connections: {}", system_error("accept4", errno).message());
      }
      return;
    }
    auto stranger = std::make_unique<Stranger>(*this, Connection(std::move(fd)));
    stranger->deadline = Clock::now() + kGreetingTime;
    request_timer(stranger->deadline);
    watch(stranger->connection.fd(), *stranger);
    if (guard_ != nullptr) stranger->connection.protect(guard_->accept(stranger->connection.fd()));
    strangers_.push_back(std::move(stranger));
    if (strangers_.size() <= kMaxStrangers) continue;
    refuse("too many connections that do not say who they are");
    drop_stranger(*strangers_.front());
  }
}

/// True once the other side holds the job's key, as far as there is one.
bool TcpEndpoint::prove(Stranger& stranger) {
  const auto progress = stranger.connection.prove();
  security::Session* const session = stranger.connection.session();
  if (session == nullptr) return stranger.proved = true;
  if (progress == security::Session::Progress::kDone) {
    stranger.introduction = *session->introduction();
    stranger.connection.proved();
    return stranger.proved = true;
  }
  if (progress != security::Session::Progress::kFailed) return false;
  const security::Failure failure = session->failure();
  // One of ours that found another connection, or died, ends so, too.
  if (failure == security::Failure::kNetwork) log::debug("tcp: a connection to {} ended in its handshake", address_);
  else refuse(std::string(security::describe(failure)));
  if (failure != security::Failure::kNoKey) {
    drop_stranger(stranger);
    return false;
  }
  stranger.connection.proved();
  // What is unread would turn the end into a reset, which may overtake the answer.
  iovec unread{staging_.get(), kStagingBytes};
  stranger.connection.read(std::span(&unread, 1));
  send_away(stranger, wire::Refusal::kKeyNeeded);
  return false;
}

/// Nothing a connection sends is parsed before its HELLO shows that it belongs here, and not a byte more is read.
void TcpEndpoint::greet(Stranger& stranger) {
  if (!stranger.connection.valid()) return;
  if (stranger.connecting && !offered(stranger)) return;
  if (!stranger.proved && !prove(stranger)) return;
  while (stranger.bytes < stranger.hello.size()) {
    iovec vector{stranger.hello.data() + stranger.bytes, stranger.hello.size() - stranger.bytes};
    const Connection::Moved moved = stranger.connection.read(std::span(&vector, 1));
    if (moved.result == Connection::Result::kBlocked) return;
    if (moved.result != Connection::Result::kDone) {
      // Without a byte it is a peer that was dialing again when it died, or changed its mind.
      if (stranger.bytes > 0) refuse("it ended before its first frame");
      return drop_stranger(stranger);
    }
    stranger.bytes += moved.bytes;
    if (guard_ == nullptr && security::begins_handshake(std::span(stranger.hello).first(stranger.bytes))) {
      refuse("it proves a key, and there is none here (LONGSPAN_KEY)");
      return send_away(stranger, wire::Refusal::kOver);  // any answer in plain text says it
    }
    // Garbage need not be as long as a HELLO.
    if (!wire::may_become_hello(std::span(stranger.hello).first(stranger.bytes))) break;
  }
  wire::Hello hello;
  if (const wire::WireError error = wire::decode(stranger.hello, hello); error != wire::WireError::kNone) {
    refuse(std::string(wire::describe(error)));
    return drop_stranger(stranger);
  }
  admit(stranger, hello);
}

void TcpEndpoint::admit(Stranger& stranger, const wire::Hello& hello) {
  if (hello.job != options_.job) {
    refuse(fmt::format("it belongs to job {:x}, this is {:x}", hello.job, options_.job));
    return send_away(stranger, wire::Refusal::kOtherJob);
  }
  if (hello.to != options_.self) {
    refuse(fmt::format("it looks for peer {:x}, this is {:x}", hello.to, options_.self));
    return send_away(stranger, wire::Refusal::kOtherPeer);
  }
  if (guard_ != nullptr && stranger.introduction != introduction(hello.from, hello.to, stranger.introduction.sealed)) {
    refuse("its HELLO is not what it proved the key with");
    return drop_stranger(stranger);
  }
  if (guard_ != nullptr && options_.encryption == Encryption::kAll && !stranger.introduction.sealed) {
    refuse("it does not encrypt, and LONGSPAN_ENCRYPT=all is set here");
    return send_away(stranger, wire::Refusal::kNotEncrypted);
  }
  if (hello.offer) return take_offer(stranger, hello);
  auto& channel = channels_[hello.from];
  if (channel == nullptr) channel = std::make_unique<TcpChannel>(*this, hello.from);
  std::optional<wire::Refusal> refusal;
  if (!channel->accepts(hello, refusal)) {
    const std::string why = refusal ? std::string(wire::describe(*refusal)) : "it is there already";
    log::debug("tcp: lane {} of peer {:x} is not wanted: {}", hello.lane, hello.from, why);
    return refusal ? send_away(stranger, *refusal) : drop_stranger(stranger);
  }
  channel->join(std::move(stranger.connection), hello);
  drop_stranger(stranger);
  if (closing_) channel->say_goodbye();
}

/// One of ours that has no place here learns why, so that it need not try again until its deadline.
void TcpEndpoint::send_away(Stranger& stranger, wire::Refusal refusal) {
  wire::Frame frame;
  frame.type = wire::FrameType::kResume;
  frame.flags = wire::kRefused;
  frame.digest = static_cast<std::uint64_t>(refusal);
  wire::Header answer;
  wire::encode(frame, answer);
  iovec vector{answer.data(), answer.size()};
  stranger.connection.write(std::span(&vector, 1));
  drop_stranger(stranger);
}

void TcpEndpoint::drop_stranger(Stranger& stranger) {
  unwatch(stranger.connection.fd());
  stranger.connection.close();
  const auto found =
      std::find_if(strangers_.begin(), strangers_.end(), [&](const auto& one) { return one.get() == &stranger; });
  graveyard_.push_back(std::move(*found));
  strangers_.erase(found);
}

void TcpEndpoint::refuse(const std::string& why) {
  ++refused_;
  if (refused_ == 1) {
    log::warn("tcp: refused a connection to {}: {} (later ones are counted only)", address_, why);
  } else {
    log::debug("tcp: refused connection {} to {}: {}", refused_, address_, why);
  }
}

void TcpEndpoint::warn_congestion_control(const std::string& name, bool asked) {
  if (std::exchange(warned_congestion_control_, true)) return;
  if (asked) {
    log::warn("tcp: this kernel does not offer congestion control '{}'; its default is used (modprobe tcp_{})", name,
              name);
  } else {
    log::info("tcp: this kernel does not offer congestion control '{}' for long links (modprobe tcp_{})", name, name);
  }
}

// ---- timers ----

void TcpEndpoint::run_timers() {
  if (!timer_.take()) return;
  const TimePoint now = Clock::now();
  for (const auto& [peer, channel] : channels_) {
    if (const auto next = channel->on_timer(now)) request_timer(*next);
  }
  for (std::size_t i = strangers_.size(); i-- > 0;) {
    Stranger& stranger = *strangers_[i];
    if (now < stranger.deadline) {
      request_timer(stranger.deadline);
      continue;
    }
    refuse("it sent nothing");
    drop_stranger(stranger);
  }
}

// ---- the end ----

template <class Predicate>
bool TcpEndpoint::progress_until(TimePoint deadline, Predicate done) {
  while (true) {
    progress(0);
    if (std::all_of(channels_.begin(), channels_.end(), [&](const auto& entry) { return done(*entry.second); })) {
      return true;
    }
    const TimePoint now = Clock::now();
    if (now >= deadline) return false;
    // Acknowledgements raise no event: look again soon.
    if (dirty_.empty() && readable_.empty()) harvest(poll_timeout_ms(now, deadline, 1));
  }
}

void TcpEndpoint::close(TimePoint deadline) {
  if (closed_) return;
  if (refused_ > 0) log::info("tcp: {} connections to {} were not ours and were turned away", refused_, address_);
  progress_until(deadline, [](const TcpChannel& channel) { return channel.drained(); });
  closing_ = true;
  for (const auto& [peer, channel] : channels_) channel->say_goodbye();
  progress_until(deadline, [](const TcpChannel& channel) { return channel.goodbye_flushed(); });
  for (const auto& [peer, channel] : channels_) channel->shut_down();
  // A socket that closes with unread data resets, and a reset may overtake what the peer has not received yet.
  progress_until(deadline, [](const TcpChannel& channel) { return channel.acknowledged(); });
  for (const auto& [peer, channel] : channels_) {
    channel->abort_operations(Status(StatusCode::kAborted, "tcp: the endpoint was closed"));
  }
  strangers_.clear();
  listener_.reset();
  dirty_.clear();
  readable_.clear();
  closed_ = true;
}

}  // namespace longspan::tcp
