#include "runtime/domain.hpp"

#include <sched.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <cerrno>

#include "base/log.hpp"
#include "executor/execution.hpp"
#include "longspan/spi/registry.hpp"
#include "runtime/communicator_impl.hpp"
#include "runtime/device_desk.hpp"
#include "runtime/lease_desk.hpp"
#include "runtime/open_transports.hpp"

namespace longspan::runtime {
namespace {

using namespace std::chrono_literals;

// Long enough for a small message's round trip inside a host, short enough that a rank that waits for the WAN gives its
// core away: what spinning buys is one wake-up (5 to 50 us).
constexpr std::chrono::nanoseconds kSpin = 50us;
constexpr std::chrono::nanoseconds kSpinShared = 5us;  // more ranks than cores: somebody else needs this core
constexpr int kVainSpins = 4;                          // so many in a row, and spinning is not what this wait needs
constexpr int kPollsPerClock = 8;                      // a clock read costs as much as an idle poll
constexpr int kPollsToYield = 64;
constexpr auto kOthersRan = 2us;  // a yield that took longer let somebody else run
constexpr std::uint64_t kLocalPolls = 8;
constexpr std::uint64_t kLocalPollsAlone = 64;  // while only newcomers could come by socket
constexpr auto kBackgroundPatience = 5ms;
constexpr auto kTick = 50ms;  // deadlines of operations nobody waits for are checked this often
constexpr std::size_t kEarlyArrivals = 4096;

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

}  // namespace

Domain::Domain(DomainOptions options) : options_(std::move(options)), yield_after_(kPollsToYield) {}

Result<std::shared_ptr<Domain>> Domain::create(const DomainOptions& options) {
  fork_guard::install();
  std::shared_ptr<Domain> domain(new Domain(options));
  domain->epoll_.reset(::epoll_create1(EPOLL_CLOEXEC));
  domain->wake_.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!domain->epoll_ || !domain->wake_) return system_error("cannot make an epoll instance", errno);
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.fd = domain->wake_.get();
  if (::epoll_ctl(domain->epoll_.get(), EPOLL_CTL_ADD, domain->wake_.get(), &event) != 0) {
    return system_error("epoll_ctl", errno);
  }
  cpu_set_t cores;
  const int usable = ::sched_getaffinity(0, sizeof cores, &cores) == 0 ? CPU_COUNT(&cores) : 1;
  domain->spin_ = options.local_ranks <= usable ? kSpin : kSpinShared;
  LONGSPAN_TRY(domain->open_endpoints());
  domain->thread_ = std::thread([raw = domain.get()] { raw->background(); });
  return domain;
}

Status Domain::open_endpoints() {
  spi::EndpointOptions options;
  options.self = options_.self;
  options.job = options_.job;
  options.bind_address = options_.bind_address;
  options.advertise_address = options_.advertise_address;
  options.first_port = options_.ports.first;
  options.last_port = options_.ports.second;
  options.congestion_control = options_.congestion_control;
  options.nics = options_.nics;
  options.rdma = options_.rdma;
  options.key = options_.key;
  options.encryption = options_.encryption;
  LONGSPAN_ASSIGN(std::vector<OpenTransport> all, open_transports(spi::all_transports(), options_.transports, options));
  for (OpenTransport& each : all) {
    offers_.push_back(each.offer);
    if (each.endpoint == nullptr) continue;
    if (const int fd = each.endpoint->wait_fd(); fd >= 0) {
      epoll_event event{};
      event.events = EPOLLIN;
      event.data.fd = fd;
      if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) return system_error("epoll_ctl", errno);
    }
    names_.push_back(each.offer.transport);
    takes_devices_.push_back(each.transport->capabilities().device_memory);
    free_to_poll_.push_back(each.offer.traits.medium != spi::Medium::kIp);
    any_free_ |= free_to_poll_.back();
    endpoints_.push_back(std::move(each.endpoint));
  }
  return {};
}

Domain::~Domain() {
  {
    Lock guard = lock();
    stopping_ = true;
    background_wake_.notify_all();
    wake_blocked();
  }
  if (thread_.joinable()) thread_.join();
  for (auto& endpoint : endpoints_) endpoint->close(Clock::now() + 1s);
}

std::vector<EndpointAddress> Domain::addresses() const {
  std::vector<EndpointAddress> all;
  for (std::size_t offer = 0, open = 0; offer < offers_.size(); ++offer) {
    all.push_back({offers_[offer], offers_[offer].unusable.empty() ? endpoints_[open++]->address() : std::string()});
  }
  return all;
}

Domain::Lock Domain::lock() {
  Lock guard(mutex_, std::try_to_lock);
  if (guard.owns_lock()) return guard;
  contenders_.fetch_add(1, std::memory_order_relaxed);
  guard.lock();
  contenders_.fetch_sub(1, std::memory_order_relaxed);
  return guard;
}

void Domain::yield_to_contenders(Lock& lock) {
  if (contenders_.load(std::memory_order_relaxed) == 0) return;
  lock.unlock();
  while (contenders_.load(std::memory_order_relaxed) > 0) ::sched_yield();
  lock.lock();
}

bool Domain::poll_all() {
  bool any = false;
  // A look at sockets is a system call, as dear as a whole message through shared memory: beside an endpoint that is
  // looked at for free (in memory: shm's rings, an RDMA card's completion queue) it gets every eighth turn, unless the
  // turn before found something there.
  const bool all =
      remote_busy_ || !any_free_ || ++polls_ % (remote_channels_ > 0 ? kLocalPolls : kLocalPollsAlone) == 0;
  if (all) remote_busy_ = false;
  for (std::size_t e = 0; e < endpoints_.size(); ++e) {
    if (!all && !free_to_poll_[e]) continue;
    const std::size_t found = endpoints_[e]->poll(completions_);
    for (std::size_t i = 0; i < found; ++i) dispatch(completions_[i]);
    any |= found > 0;
    if (!free_to_poll_[e]) remote_busy_ = remote_busy_ || found > 0;
  }
  run_deferred();
  return any;
}

void Domain::dispatch(spi::Completion& completion) {
  switch (completion.kind) {
    case spi::CompletionKind::kSend:
    case spi::CompletionKind::kRecv:
      if (LeaseDesk::owns(completion.context)) return leases_->completed(completion);
      return CommunicatorImpl::on_completion(completion);
    case spi::CompletionKind::kArrival: {
      if (completion.id.comm == LeaseDesk::kComm && leases_ != nullptr) return leases_->arrived(completion);
      const auto found = communicators_.find(completion.id.comm & ~kPointToPointBit);
      if (found != communicators_.end()) return found->second->on_arrival(completion);
      auto& early = early_[completion.id.comm & ~kPointToPointBit];
      if (early.size() < kEarlyArrivals) early.push_back(std::move(completion));
      return;
    }
    case spi::CompletionKind::kClosed:
      if (leases_ != nullptr) leases_->left(completion.peer);
      return;
    case spi::CompletionKind::kBroken: {
      channels_.erase(completion.peer);
      ++channel_epoch_;
      if (leases_ != nullptr) leases_->lost(completion.peer);
      for (CommunicatorImpl* communicator : communicators()) {
        communicator->on_broken(completion.peer, completion.status);
      }
      return;
    }
  }
}

bool Domain::poll_control(TimePoint now) {
  bool any = false;
  for (Pollable* pollable : pollables_) {
    if (now < pollable->next_deadline()) continue;
    pollable->poll();
    any = true;
  }
  if (any) run_deferred();
  return any;
}

TimePoint Domain::control_deadline() const {
  TimePoint first = TimePoint::max();
  for (const Pollable* pollable : pollables_) first = std::min(first, pollable->next_deadline());
  return first;
}

bool Domain::arm_all() {
  bool quiet = true;
  for (auto& endpoint : endpoints_) quiet &= endpoint->arm();
  return quiet;
}

void Domain::block(Lock& lock, TimePoint deadline) {
  if (!arm_all()) return;
  deadline = std::min(deadline, control_deadline());
  const int timeout = poll_timeout_ms(Clock::now(), deadline, 1000);
  const std::uint64_t mine = blocked_ = owner_;
  lock.unlock();
  std::array<epoll_event, 8> events{};
  const int count = ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), timeout);
  lock = this->lock();
  if (blocked_ == mine) blocked_ = 0;  // else another thread took over meanwhile
  for (int i = 0; i < count; ++i) {
    if (events[static_cast<std::size_t>(i)].data.fd != wake_.get()) continue;
    std::uint64_t value = 0;
    if (::read(wake_.get(), &value, sizeof value) < 0 && errno != EAGAIN) log::debug("wake: {}", errno);
  }
}

bool Domain::drive_until(Lock& lock, const std::function<bool()>& done, TimePoint deadline) {
  while (!done()) {
    if (owner_ != 0 && !owner_is_background_) {
      ++sleepers_;
      const bool late = waiters_.wait_until(lock, deadline) == std::cv_status::timeout;
      --sleepers_;
      if (late && !done()) return false;
      continue;
    }
    const std::uint64_t mine = owner_ = ++tickets_;
    owner_is_background_ = false;
    ++drives_;
    TimePoint idle_since = Clock::now();
    int polls = 0;
    bool late = false;
    while (!done() && owner_ == mine) {
      yield_to_contenders(lock);
      if (poll_all()) {
        if (idle_since != TimePoint{} && polls > 0) vain_spins_ = 0;
        idle_since = TimePoint{};
      } else {
        relax();
      }
      // A look at sockets alone lasts as long as a clock read is worth.
      polls += any_free_ ? 1 : kPollsPerClock;
      if (polls % kPollsPerClock != 0) continue;
      const TimePoint now = Clock::now();
      const bool acted = poll_control(now);
      if (now >= deadline) {
        late = true;
        break;
      }
      if (acted) continue;  // what it did may be what is waited for
      if (idle_since == TimePoint{}) idle_since = now;
      if (now - idle_since < spin_time()) {
        if (polls >= yield_after_) offer_core(now);
        continue;
      }
      block(lock, deadline);
      learn_wait(Clock::now() - idle_since);
      poll_control(TimePoint::max());
      idle_since = TimePoint{};
    }
    if (owner_ == mine) owner_ = 0;
    if (sleepers_ > 0) waiters_.notify_all();
    if (late) return done();
  }
  if (trails_ > 0 && owner_ == 0) background_wake_.notify_one();
  return true;
}

std::chrono::nanoseconds Domain::spin_time() const noexcept {
  return contended_ || vain_spins_ >= kVainSpins ? std::min(kSpinShared, spin_) : spin_;
}

/// What comes from far away comes in trains with pauses that are longer than any spin: there, spinning only takes the
/// core from those who have work. A wait that a full spin would nearly have caught brings spinning back.
void Domain::learn_wait(std::chrono::nanoseconds idle) noexcept {
  if (idle < 2 * spin_) vain_spins_ = 0;
  else vain_spins_ = std::min(vain_spins_ + 1, kVainSpins);
}

/// The rank waited for may need this very core, which is then given away early; but a yield costs as much as a small
/// message, so alone on a core it is only tried once such a message would be here. Where others do want the core,
/// waiting soon blocks instead of spinning.
void Domain::offer_core(TimePoint now) {
  ::sched_yield();
  contended_ = Clock::now() - now > kOthersRan;
  yield_after_ = contended_ ? kPollsPerClock : std::min(2 * yield_after_, kPollsToYield);
}

void Domain::progress(Lock& /*lock*/) {
  if (owner_ != 0 && !owner_is_background_) return;
  poll_all();
  // The background thread may be blocked on endpoints that this poll disarmed.
  wake_blocked();
}

void Domain::work_started(Lock& /*lock*/) {
  poll_all();
  wake_blocked();
  if (owner_ == 0) background_wake_.notify_one();
}

void Domain::wake_blocked() {
  if (blocked_ == 0) return;
  const std::uint64_t one = 1;
  if (::write(wake_.get(), &one, sizeof one) < 0 && errno != EAGAIN) log::warn("cannot wake: {}", errno);
}

void Domain::run_deferred() {
  while (!deferred_.empty()) {
    const std::vector<std::function<void()>> now = std::exchange(deferred_, {});
    for (const auto& action : now) action();
  }
}

void Domain::background() {
  Lock guard = lock();
  std::uint64_t seen = drives_;
  while (!stopping_) {
    // Somebody who waits drives better: step in only when nobody did for a while, or work was left behind.
    const bool told = background_wake_.wait_for(guard, kBackgroundPatience) == std::cv_status::no_timeout;
    if (stopping_ || owner_ != 0) continue;
    if (!told && drives_ != seen) {
      seen = drives_;
      continue;
    }
    const std::uint64_t mine = owner_ = ++tickets_;
    owner_is_background_ = true;
    TimePoint check_at{};
    while (!stopping_ && owner_ == mine) {
      yield_to_contenders(guard);
      if (owner_ != mine) break;
      if (poll_all()) {
        poll_control(Clock::now());
        if (Clock::now() < check_at) continue;
      } else {
        block(guard, Clock::now() + kTick);
        if (owner_ != mine) break;
        poll_control(TimePoint::max());
      }
      check_at = Clock::now() + kTick;
      for (CommunicatorImpl* communicator : communicators()) communicator->check_deadlines(Clock::now());
      run_deferred();
      if (sleepers_ > 0) waiters_.notify_all();
    }
    if (owner_ == mine) owner_ = 0;
    seen = drives_;
  }
}

planner::TransportChoice Domain::choose(const Peer& peer, Tier tier) const {
  std::vector<planner::EndpointOffer> theirs;
  for (const EndpointAddress& each : peer.endpoints) theirs.push_back(each.offer);
  return planner::choose_transport(offers_, theirs, tier, "this rank", peer.name);
}

Result<spi::Channel*> Domain::channel(const Peer& peer, Tier tier, const ChannelPlan& plan, TimePoint deadline) {
  if (const auto found = channels_.find(peer.id); found != channels_.end()) return found->second.channel;
  const planner::TransportChoice choice = choose(peer, tier);
  if (choice.transport.empty()) {
    std::string why;
    for (const planner::PassedOver& each : choice.passed) {
      why += (why.empty() ? "" : "; ") + each.transport + ": " + each.reason;
    }
    return Status(StatusCode::kUnsupported,
                  "no transport joins us with " + peer.name + " (tier " + std::string(name_of(tier)) +
                      "): " + (why.empty() ? "check LONGSPAN_TRANSPORTS on both sides" : why));
  }
  const auto mine =
      static_cast<std::size_t>(std::find(names_.begin(), names_.end(), choice.transport) - names_.begin());
  const auto there = std::find_if(peer.endpoints.begin(), peer.endpoints.end(), [&](const EndpointAddress& each) {
    return each.offer.transport == choice.transport;
  });
  spi::ChannelOptions options;
  options.tier = tier;
  options.lanes = plan.lanes;
  options.rate_bytes_per_second = plan.rate_bytes_per_second;
  options.window_bytes = plan.window_bytes;
  options.rtt = std::chrono::nanoseconds(static_cast<std::int64_t>(plan.rtt_seconds * 1e9));
  options.loss = plan.loss;
  options.peer_name = peer.name;
  LONGSPAN_ASSIGN(spi::Channel* made, endpoints_[mine]->connect(peer.id, there->address, options, deadline));
  remote_channels_ += free_to_poll_[mine] ? 0 : 1;
  channels_[peer.id] = OpenChannel{made, endpoints_[mine].get(), tier, takes_devices_[mine]};
  log::debug("{}: {} over {}: {}", peer.name, name_of(tier), choice.transport, choice.reason);
  return made;
}

void Domain::add(std::uint64_t comm, CommunicatorImpl* communicator) {
  communicators_[comm] = communicator;
  if (const auto found = early_.find(comm); found != early_.end()) {
    for (spi::Completion& completion : found->second) communicator->on_arrival(completion);
    early_.erase(found);
  }
}

std::vector<CommunicatorImpl*> Domain::communicators() const {
  std::vector<CommunicatorImpl*> all;
  for (const auto& [id, communicator] : communicators_) all.push_back(communicator);
  return all;
}

void Domain::remove(std::uint64_t comm) { communicators_.erase(comm); }

void Domain::watch(Pollable* pollable) {
  pollables_.push_back(pollable);
  if (pollable->wait_fd() < 0) return;
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.fd = pollable->wait_fd();
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, pollable->wait_fd(), &event) != 0) log::warn("epoll_ctl: {}", errno);
}

void Domain::unwatch(Pollable* pollable) {
  if (pollable->wait_fd() >= 0) ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, pollable->wait_fd(), nullptr);
  std::erase(pollables_, pollable);
}

void Domain::set_leases(std::unique_ptr<LeaseDesk> desk) {
  leases_ = std::move(desk);
  watch(leases_.get());
  const auto early = early_.find(LeaseDesk::kComm);
  if (early == early_.end()) return;
  for (const spi::Completion& completion : early->second) leases_->arrived(completion);
  early_.erase(early);
}

Result<DeviceDesk*> Domain::devices() {
  if (devices_ == nullptr) {
    LONGSPAN_ASSIGN(devices_, DeviceDesk::create(*this));
    watch(devices_.get());
  }
  return devices_.get();
}

void Domain::forget(std::uint64_t comm) {
  for (auto& endpoint : endpoints_) {
    endpoint->forget(comm);
    endpoint->forget(comm | kPointToPointBit);
  }
}

spi::Channel* Domain::find_channel(spi::PeerId peer) const {
  const auto found = channels_.find(peer);
  return found == channels_.end() ? nullptr : found->second.channel;
}

bool Domain::takes_devices(spi::PeerId peer) const {
  const auto found = channels_.find(peer);
  return found != channels_.end() && found->second.takes_devices;
}

std::uint64_t Domain::bytes_sent(Tier tier) const {
  std::uint64_t sum = 0;
  for (const auto& [peer, open] : channels_) {
    if (open.tier == tier) sum += open.channel->stats().bytes_sent;
  }
  return sum;
}

}  // namespace longspan::runtime
