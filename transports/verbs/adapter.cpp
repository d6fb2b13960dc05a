#include "verbs/adapter.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "base/log.hpp"
#include "verbs/link.hpp"

namespace longspan::verbs {
namespace {

constexpr std::size_t kFirstEntries = 2048;
constexpr std::size_t kBouncesPerBlock = 64;

void set_nonblocking(int fd) { ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK); }

}  // namespace

Result<Block> Block::create(const Device& device, std::size_t bytes) {
  void* const memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return system_error("verbs: mmap", errno);
  Block block;
  block.bytes_ = std::span(static_cast<std::byte*>(memory), bytes);
  const int access = IBV_ACCESS_LOCAL_WRITE;  // an int: ibv_reg_mr, a macro, mixes it with another enumeration
  block.handle_.reset(ibv_reg_mr(device.domain.get(), memory, bytes, access));
  if (block.handle_ != nullptr) return block;
  return Status(StatusCode::kResource, fmt::format("verbs: cannot register {} bytes of buffers with {} (errno {}); "
                                                   "raise the limit of lockable memory (ulimit -l)",
                                                   bytes, device.where(), errno));
}

Block::Block(Block&& other) noexcept : bytes_(std::exchange(other.bytes_, {})), handle_(std::move(other.handle_)) {}

Block& Block::operator=(Block&& other) noexcept {
  std::swap(bytes_, other.bytes_);
  std::swap(handle_, other.handle_);
  return *this;
}

Block::~Block() {
  handle_.reset();
  if (!bytes_.empty()) ::munmap(bytes_.data(), bytes_.size());
}

Result<std::unique_ptr<Adapter>> Adapter::open(const spi::EndpointOptions& options) {
  auto adapter = std::make_unique<Adapter>();
  LONGSPAN_ASSIGN(adapter->device_, open_device(options));
  const Device& device = adapter->device_;
  adapter->registrar_ = std::make_unique<Registrar>(device);
  adapter->events_.reset(ibv_create_comp_channel(device.context.get()));
  if (adapter->events_ == nullptr) return system_error("verbs: ibv_create_comp_channel on " + device.where(), errno);
  const int entries = std::min<int>(static_cast<int>(kFirstEntries), device.limits.max_cqe);
  adapter->queue_.reset(ibv_create_cq(device.context.get(), entries, nullptr, adapter->events_.get(), 0));
  if (adapter->queue_ == nullptr) return system_error("verbs: ibv_create_cq on " + device.where(), errno);
  set_nonblocking(adapter->events_fd());
  set_nonblocking(adapter->faults_fd());
  return adapter;
}

Adapter::~Adapter() = default;

Status Adapter::reserve(std::size_t entries) {
  const std::size_t wanted = reserved_ + entries;
  const std::size_t now = static_cast<std::size_t>(queue_->cqe);
  if (wanted > now) {
    const std::size_t most = static_cast<std::size_t>(device_.limits.max_cqe);
    if (wanted > most ||
        ibv_resize_cq(queue_.get(), static_cast<int>(std::min(most, std::max(wanted, 2 * now)))) != 0) {
      return Status(
          StatusCode::kResource,
          fmt::format(
              "verbs: the completion queue of {} cannot hold {} requests (at most {}): too many peers for this device",
              device_.where(), wanted, most));
    }
  }
  reserved_ = wanted;
  return {};
}

bool Adapter::poll() {
  std::array<ibv_wc, 32> completions;
  const int count = ibv_poll_cq(queue_.get(), static_cast<int>(completions.size()), completions.data());
  for (int i = 0; i < count; ++i) {
    const ibv_wc& completion = completions[static_cast<std::size_t>(i)];
    const auto owner = owners_.find(completion.qp_num);
    if (owner != owners_.end()) {
      owner->second.link->on_completion(owner->second.lane, completion);  // else of one that was replaced
    }
  }
  if (count < 0) log::error("verbs: ibv_poll_cq failed on {}", device_.where());
  return count > 0;
}

bool Adapter::arm() {
  take_events();
  if (ibv_req_notify_cq(queue_.get(), 0) != 0) return false;
  return !poll();
}

void Adapter::take_events() {
  ibv_cq* queue = nullptr;
  void* context = nullptr;
  unsigned count = 0;
  while (ibv_get_cq_event(events_.get(), &queue, &context) == 0) ++count;
  if (count > 0) ibv_ack_cq_events(queue_.get(), count);
}

std::string Adapter::take_fault(bool& fatal) {
  ibv_async_event event{};
  if (ibv_get_async_event(device_.context.get(), &event) != 0) return {};
  const ibv_event_type type = event.event_type;
  const bool of_port = type == IBV_EVENT_PORT_ERR || type == IBV_EVENT_PORT_ACTIVE;
  const bool ours = !of_port || event.element.port_num == device_.port;
  ibv_ack_async_event(&event);
  if (!ours) return {};
  switch (type) {
    case IBV_EVENT_DEVICE_FATAL:
    case IBV_EVENT_CQ_ERR:
      fatal = true;
      return fmt::format("{}: {}", device_.where(), ibv_event_type_str(type));
    case IBV_EVENT_PORT_ERR: return fmt::format("{} went down", device_.where());
    case IBV_EVENT_PORT_ACTIVE: return fmt::format("{} is up again", device_.where());
    default: return fmt::format("{}: {}", device_.where(), ibv_event_type_str(type));
  }
}

Bounce* Adapter::take_bounce() {
  if (free_.empty()) {
    auto block = Block::create(device_, kBouncesPerBlock * wire::kBufferBytes);
    if (!block.ok()) {
      log::warn("{}", block.status().to_string());
      return nullptr;
    }
    for (std::size_t i = 0; i < kBouncesPerBlock; ++i) {
      bounces_.push_back(
          std::make_unique<Bounce>(Bounce{block->bytes().data() + i * wire::kBufferBytes, block->key()}));
      free_.push_back(bounces_.back().get());
    }
    free_.reserve(bounces_.size());
    blocks_.push_back(std::move(*block));
  }
  Bounce* const bounce = free_.back();
  free_.pop_back();
  return bounce;
}

}  // namespace longspan::verbs
