#include "cuda_ipc/endpoint.hpp"

#include <poll.h>
#include <sys/epoll.h>

#include <algorithm>
#include <cerrno>

namespace longspan::cuda_ipc {
namespace {

using namespace std::chrono_literals;

// A device that fails runs no host functions any more: nobody would tell us.
constexpr auto kLookEvery = 20ms;

}  // namespace

Result<std::unique_ptr<IpcEndpoint>> IpcEndpoint::open(std::unique_ptr<spi::Endpoint> below) {
  std::unique_ptr<IpcEndpoint> made(new IpcEndpoint(std::move(below)));
  LONGSPAN_TRY(made->set_up());
  return made;
}

Status IpcEndpoint::set_up() {
  LONGSPAN_ASSIGN(devices_, Devices::create());
  LONGSPAN_ASSIGN(timer_, Timer::create());
  epoll_.reset(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll_) return system_error("cuda_ipc: epoll_create1", errno);
  LONGSPAN_TRY(watch(below_->wait_fd()));
  LONGSPAN_TRY(watch(devices_.mailbox().wait_fd()));
  return watch(timer_.fd());
}

Status IpcEndpoint::watch(int fd) {
  epoll_event event{};
  event.events = EPOLLIN;
  return ::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) == 0 ? Status()
                                                                   : system_error("cuda_ipc: epoll_ctl", errno);
}

IpcEndpoint::~IpcEndpoint() {
  below_.reset();
  for (const auto& [peer, channel] : channels_) channel->drop_all();
}

spi::EndpointTraits IpcEndpoint::traits() const {
  spi::EndpointTraits traits = below_->traits();
  --traits.preference;  // the same for host memory, and better for devices'
  traits.detail = "device memory by CUDA IPC";
  return traits;
}

IpcChannel& IpcEndpoint::channel_of(spi::PeerId peer) {
  auto& channel = channels_[peer];
  if (channel == nullptr) channel = std::make_unique<IpcChannel>(peer, *this);
  return *channel;
}

Result<spi::Channel*> IpcEndpoint::connect(spi::PeerId peer, std::string_view peer_address,
                                           const spi::ChannelOptions& options, TimePoint deadline) {
  LONGSPAN_ASSIGN(spi::Channel * below, below_->connect(peer, peer_address, options, deadline));
  IpcChannel& channel = channel_of(peer);
  channel.connected(*below, options);
  return &channel;
}

Operation* IpcEndpoint::pass(Operation::Kind kind, IpcChannel& channel, const spi::MessageId& id, void* context) {
  Operation* operation = nullptr;
  if (spare_.empty()) {
    operation = &passed_.emplace_back();
  } else {
    operation = spare_.back();
    spare_.pop_back();
  }
  *operation = Operation{kind, &channel, id, context};
  return operation;
}

void IpcEndpoint::passed(Operation& operation) {
  operation.channel = nullptr;
  spare_.push_back(&operation);
}

void IpcEndpoint::begin_move(DeviceOperation& operation) {
  operation.moving = true;
  if (looks_) return;
  looks_ = true;
  look_at_ = Clock::now() + kLookEvery;
  timer_.set(look_at_);
}

// ---- moving data ----

std::size_t IpcEndpoint::poll(std::span<spi::Completion> completions) {
  if (ready_.size() < completions.size()) progress();
  const std::size_t count = std::min(ready_.size(), completions.size());
  for (std::size_t i = 0; i < count; ++i) {
    completions[i] = std::move(ready_.front().completion);
    ready_.pop_front();
  }
  return count;
}

void IpcEndpoint::progress() {
  const std::size_t count = below_->poll(batch_);
  for (std::size_t i = 0; i < count; ++i) dispatch(batch_[i]);
  if (!looks_) return;
  while (devices_.mailbox().any()) {
    const auto token = devices_.mailbox().take();
    if (!token) break;
    token->by->told();
    if (token->owner == nullptr) continue;
    auto& operation = *static_cast<DeviceOperation*>(token->owner);
    operation.channel->moved(operation);
  }
  if (const TimePoint now = Clock::now(); now >= look_at_) look_after_devices(now);
}

void IpcEndpoint::dispatch(spi::Completion& completion) {
  switch (completion.kind) {
    case spi::CompletionKind::kSend:
    case spi::CompletionKind::kRecv: {
      if (completion.context == nullptr) return;
      auto& operation = *static_cast<Operation*>(completion.context);
      return operation.channel->completed(operation, completion);
    }
    case spi::CompletionKind::kArrival: return channel_of(completion.peer).arrived(completion);
    case spi::CompletionKind::kClosed:
    case spi::CompletionKind::kBroken: {
      const Status status = completion.status.ok()
                                ? Status(StatusCode::kPeerLost, "the peer has said goodbye, and sends nothing more")
                                : completion.status;
      const spi::PeerId peer = completion.peer;
      tell(std::move(completion), 0);
      return channel_of(peer).ended(status);
    }
  }
}

void IpcEndpoint::look_after_devices(TimePoint now) {
  looks_ = devices_.under_way();
  look_at_ = now + kLookEvery;
  timer_.set(looks_ ? look_at_ : TimePoint::max());
  const Status status = devices_.health();
  if (status.ok()) return;
  for (const auto& [peer, channel] : channels_) channel->moves_failed(status);
}

bool IpcEndpoint::arm() { return below_->arm() && ready_.empty() && !devices_.mailbox().any(); }

void IpcEndpoint::forget(std::uint64_t comm) {
  below_->forget(comm);
  for (const auto& [peer, channel] : channels_) channel->forget(comm);
  for (Operation& each : passed_) {
    if (each.channel != nullptr && each.id.comm == comm) passed(each);
  }
  std::erase_if(ready_, [comm](const Ready& each) {
    const auto kind = each.completion.kind;
    return each.comm == comm && kind != spi::CompletionKind::kBroken && kind != spi::CompletionKind::kClosed;
  });
}

void IpcEndpoint::wait_until_work(TimePoint deadline) {
  if (!arm()) return;
  pollfd wait{epoll_.get(), POLLIN, 0};
  ::poll(&wait, 1, poll_timeout_ms(Clock::now(), deadline));
}

void IpcEndpoint::close(TimePoint deadline) {
  if (closed_) return;
  closed_ = true;
  // Peers read what is sent from memory of this process.
  const auto sends = [this] {
    return std::any_of(channels_.begin(), channels_.end(), [](const auto& each) { return each.second->sends(); });
  };
  for (progress(); sends() && Clock::now() < deadline; progress()) {
    if (ready_.empty()) wait_until_work(deadline);
  }
  below_->close(deadline);
  const Status status(StatusCode::kAborted, "this side was closed");
  for (const auto& [peer, channel] : channels_) channel->ended(status);
}

}  // namespace longspan::cuda_ipc
