#include "cuda_ipc/channel.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "base/log.hpp"
#include "cuda_ipc/endpoint.hpp"
#include "device/device.hpp"

namespace longspan::cuda_ipc {
namespace {

// No address, and no number of the channel below, is so large.
constexpr std::uint64_t kOwnView = std::uint64_t{1} << 63;

}  // namespace

IpcChannel::IpcChannel(spi::PeerId peer, IpcEndpoint& endpoint)
    : peer_(peer), endpoint_(endpoint), name_(fmt::format("peer {}", peer)) {}

void IpcChannel::connected(spi::Channel& below, const spi::ChannelOptions& options) {
  below_ = &below;
  if (!options.peer_name.empty()) name_ = options.peer_name;
  for (const spi::MessageId& id : std::exchange(early_offers_, {})) read_offer(id);
}

spi::ChannelStats IpcChannel::stats() const {
  spi::ChannelStats stats = below_->stats();
  stats.bytes_sent += bytes_sent_;
  stats.bytes_received += bytes_received_;
  stats.messages_sent += messages_sent_;
  stats.messages_received += messages_received_;
  return stats;
}

DeviceOperation& IpcChannel::make(Operation::Kind kind, const spi::MessageId& id, void* context) {
  auto made = std::make_unique<DeviceOperation>();
  made->kind = kind;
  made->channel = this;
  made->id = id;
  made->context = context;
  DeviceOperation& operation = *made;
  operations_[&operation] = std::move(made);
  return operation;
}

Result<Device*> IpcChannel::device_of(DeviceOperation& operation) {
  operation.device = device::place_of(operation.data.data()).device;
  return endpoint_.devices().of(operation.device);
}

// ---- sending ----

void IpcChannel::send(const spi::SendRequest& request) {
  if (request.memory == MemoryKind::kHost || request.data.empty()) {
    spi::SendRequest passed = request;
    passed.memory = MemoryKind::kHost;
    if (request.context != nullptr) {
      passed.context = endpoint_.pass(Operation::Kind::kHostSend, *this, request.id, request.context);
    }
    return below_->send(passed);
  }
  DeviceOperation& send = make(Operation::Kind::kDeviceSend, request.id, request.context);
  send.data = std::span(const_cast<std::byte*>(request.data.data()), request.data.size());
  send.bytes = request.data.size();
  send.digest = request.digest;
  check(send, over_ ? *over_ : start_send(send));
}

Status IpcChannel::start_send(DeviceOperation& send) {
  LONGSPAN_ASSIGN(Device* const device, device_of(send));
  if (cannot_map_) return bring_down(send);
  const auto piece = device->sharing->name(send.data.data());
  if (!piece.ok()) {
    say_once(piece.status());
    return bring_down(send);
  }
  send.offer = Offer{send.digest, send.bytes, *piece};
  offer(send);
  return {};
}

void IpcChannel::offer(DeviceOperation& send) {
  send.stage = Stage::kOffered;
  spi::RecvRequest answer;
  answer.id = with(send.id, kAnswerBit);
  answer.data = std::as_writable_bytes(std::span(&send.answer, 1));
  answer.context = &send;
  below_->post_recv(answer);
  spi::SendRequest offer;
  offer.id = with(send.id, kOfferBit);
  offer.data = std::as_bytes(std::span(&send.offer, 1));  // stays until the answer, which comes after it was read
  below_->send(offer);
}

void IpcChannel::answered(DeviceOperation& send) {
  if (send.answer == Answer::kRead) return finish(send, {});
  cannot_map_ = cannot_map_ || send.answer == Answer::kCannotMap;
  check(send, bring_down(send));
}

Status IpcChannel::bring_down(DeviceOperation& send) {
  LONGSPAN_ASSIGN(Device* const device, endpoint_.devices().of(send.device));
  LONGSPAN_ASSIGN(send.bounce, device->copier->take(send.bytes));
  send.stage = Stage::kMoves;
  const device::Move move{send.bounce.data(), send.data.data(), send.bytes};
  endpoint_.begin_move(send);
  return device->copier->to_host(std::span(&move, 1), nullptr, &send, nullptr);
}

// ---- receiving ----

void IpcChannel::post_recv(const spi::RecvRequest& request) {
  const auto came = incoming_.find(request.id);
  std::optional<Incoming> before;
  if (came != incoming_.end()) {
    before = came->second;
    incoming_.erase(came);
  }
  if (request.memory == MemoryKind::kHost || request.data.empty()) {
    spi::RecvRequest passed = request;
    passed.memory = MemoryKind::kHost;
    passed.context = endpoint_.pass(Operation::Kind::kHostRecv, *this, request.id, request.context);
    host_receives_[request.id] = true;
    below_->post_recv(passed);
    if (before && before->offer) answer(request.id, Answer::kAsHost);
    return;
  }
  DeviceOperation& receive = make(Operation::Kind::kDeviceRecv, request.id, request.context);
  receive.data = request.data;
  receive.digest = request.digest;
  receive.any_length = request.any_length;
  receive.view_ok = request.view_ok;
  if (const auto device = device_of(receive); !device.ok()) return finish(receive, device.status());
  if (before && !before->offer) return check(receive, receive_bytes(receive, before->bytes));
  if (over_) return finish(receive, *over_);
  waiting_[receive.id] = &receive;
  if (before) on_offer(receive.id, *before->offer);
}

void IpcChannel::arrived(spi::Completion& completion) {
  const spi::MessageId id = completion.id;
  if ((id.chunk & kOfferBit) != 0) return below_ == nullptr ? early_offers_.push_back(id) : read_offer(id);
  if ((id.chunk & kAnswerBit) != 0) return;  // to what was forgotten here
  const auto found = waiting_.find(id);
  if (found == waiting_.end()) {
    incoming_[id] = Incoming{std::nullopt, completion.bytes};
    return endpoint_.tell(std::move(completion), id.comm);
  }
  DeviceOperation& receive = *found->second;
  waiting_.erase(found);
  check(receive, receive_bytes(receive, completion.bytes));
}

void IpcChannel::read_offer(const spi::MessageId& id) {
  DeviceOperation& reading = make(Operation::Kind::kOffer, id, nullptr);
  spi::RecvRequest request;
  request.id = id;
  request.data = std::as_writable_bytes(std::span(&reading.offer, 1));
  request.context = &reading;
  below_->post_recv(request);
}

void IpcChannel::on_offer(const spi::MessageId& id, const Offer& offer) {
  if (host_receives_.contains(id)) return answer(id, Answer::kAsHost);
  const auto found = waiting_.find(id);
  if (found != waiting_.end()) {
    DeviceOperation& receive = *found->second;
    waiting_.erase(found);
    receive.offer = offer;
    return check(receive, read(receive));
  }
  incoming_[id] = Incoming{offer, static_cast<std::size_t>(offer.bytes)};
  spi::Completion arrival;
  arrival.kind = spi::CompletionKind::kArrival;
  arrival.peer = peer_;
  arrival.id = id;
  arrival.digest = offer.digest;
  arrival.bytes = static_cast<std::size_t>(offer.bytes);
  endpoint_.tell(std::move(arrival), id.comm);
}

Status IpcChannel::read(DeviceOperation& receive) {
  const Offer& offer = receive.offer;
  const spi::Match match{offer.digest, offer.bytes, receive.digest, receive.data.size(), receive.any_length};
  if (!match.ok()) {
    answer(receive.id, Answer::kRead);
    return spi::mismatch(receive.id, name_, match);
  }
  LONGSPAN_ASSIGN(Device* const device, endpoint_.devices().of(receive.device));
  auto view = device->sharing->map(offer.piece);
  if (!view.ok()) {
    say_once(view.status());
    waiting_[receive.id] = &receive;
    answer(receive.id, Answer::kCannotMap);
    return {};
  }
  receive.bytes = static_cast<std::size_t>(offer.bytes);
  receive.view = std::move(*view);
  if (receive.view_ok) {
    give_view(receive);
    return {};
  }
  receive.stage = Stage::kReads;
  endpoint_.begin_move(receive);
  return device->copier->copy_there(receive.data.data(), receive.view.data, receive.bytes, &receive, nullptr);
}

void IpcChannel::give_view(DeviceOperation& receive) {
  receive.stage = Stage::kViewed;
  bytes_received_ += receive.bytes;
  ++messages_received_;
  spi::Completion completion;
  completion.kind = spi::CompletionKind::kRecv;
  completion.context = receive.context;
  completion.peer = peer_;
  completion.bytes = receive.bytes;
  completion.view = receive.view.data;
  completion.view_token = reinterpret_cast<std::uintptr_t>(&receive) | kOwnView;
  endpoint_.tell(std::move(completion), receive.id.comm);
}

void IpcChannel::release_view(std::uint64_t view_token) {
  if ((view_token & kOwnView) == 0) return below_->release_view(view_token);
  DeviceOperation& receive = *reinterpret_cast<DeviceOperation*>(static_cast<std::uintptr_t>(view_token & ~kOwnView));
  answer(receive.id, Answer::kRead);
  drop(receive);
}

Status IpcChannel::receive_bytes(DeviceOperation& receive, std::size_t bytes) {
  LONGSPAN_ASSIGN(Device* const device, endpoint_.devices().of(receive.device));
  const std::size_t room = receive.any_length ? std::min(bytes, receive.data.size()) : receive.data.size();
  LONGSPAN_ASSIGN(receive.bounce, device->copier->take(std::max<std::size_t>(room, 1)));
  receive.stage = Stage::kTravels;
  spi::RecvRequest request;
  request.id = receive.id;
  request.digest = receive.digest;
  request.data = receive.bounce.first(room);
  request.any_length = receive.any_length;
  request.context = &receive;
  below_->post_recv(request);
  return {};
}

Status IpcChannel::bring_up(DeviceOperation& receive, std::size_t bytes) {
  receive.bytes = bytes;
  if (bytes == 0) {
    finish(receive, {});
    return {};
  }
  LONGSPAN_ASSIGN(Device* const device, endpoint_.devices().of(receive.device));
  receive.stage = Stage::kMoves;
  const device::Move move{receive.bounce.data(), receive.data.data(), bytes};
  endpoint_.begin_move(receive);
  return device->copier->to_device(std::span(&move, 1), &receive, nullptr);
}

void IpcChannel::answer(const spi::MessageId& id, Answer what) {
  static constexpr Answer kAll[] = {Answer::kRead, Answer::kRead, Answer::kAsHost, Answer::kCannotMap};
  spi::SendRequest request;
  request.id = with(id, kAnswerBit);
  request.data = std::as_bytes(std::span(&kAll[static_cast<std::size_t>(what)], 1));
  below_->send(request);
}

// ---- what comes from below, and from devices ----

void IpcChannel::completed(Operation& operation, spi::Completion& completion) {
  switch (operation.kind) {
    case Operation::Kind::kHostRecv: host_receives_.erase(operation.id); [[fallthrough]];
    case Operation::Kind::kHostSend:
      completion.context = operation.context;
      endpoint_.tell(std::move(completion), operation.id.comm);
      return endpoint_.passed(operation);
    case Operation::Kind::kOffer: {
      auto& reading = static_cast<DeviceOperation&>(operation);
      const Offer offer = reading.offer;
      const spi::MessageId id = without(reading.id);
      const bool came = completion.status.ok();
      drop(reading);
      return came ? on_offer(id, offer) : void();
    }
    case Operation::Kind::kDeviceSend: {
      auto& send = static_cast<DeviceOperation&>(operation);
      if (!completion.status.ok() || send.stage == Stage::kTravels) return finish(send, std::move(completion.status));
      return answered(send);
    }
    case Operation::Kind::kDeviceRecv: {
      auto& receive = static_cast<DeviceOperation&>(operation);
      receive.offer.digest = completion.digest;
      if (!completion.status.ok()) return finish(receive, std::move(completion.status));
      return check(receive, bring_up(receive, completion.bytes));
    }
  }
}

void IpcChannel::moved(DeviceOperation& operation) {
  operation.moving = false;
  if (operation.kind == Operation::Kind::kDeviceRecv) {
    if (operation.stage == Stage::kReads) answer(operation.id, Answer::kRead);
    return finish(operation, {});
  }
  operation.stage = Stage::kTravels;
  spi::SendRequest request;
  request.id = operation.id;
  request.digest = operation.digest;
  request.data = operation.bounce.first(operation.bytes);
  request.context = &operation;
  below_->send(request);
}

void IpcChannel::check(DeviceOperation& operation, const Status& status) {
  if (!status.ok()) finish(operation, status);
}

void IpcChannel::finish(DeviceOperation& operation, Status status) {
  spi::Completion completion;
  const bool received = operation.kind == Operation::Kind::kDeviceRecv;
  completion.kind = received ? spi::CompletionKind::kRecv : spi::CompletionKind::kSend;
  completion.context = operation.context;
  completion.peer = peer_;
  completion.digest = operation.offer.digest;
  completion.bytes = operation.bytes;
  if (status.ok() && operation.bounce.empty()) {  // the channel below counts what goes through it
    (received ? bytes_received_ : bytes_sent_) += operation.bytes;
    ++(received ? messages_received_ : messages_sent_);
  }
  completion.status = std::move(status);
  if (completion.context != nullptr) endpoint_.tell(std::move(completion), operation.id.comm);
  drop(operation);
}

void IpcChannel::drop(DeviceOperation& operation) {
  if (operation.moving || !operation.bounce.empty()) {
    const auto device = endpoint_.devices().of(operation.device);
    const bool idle = !operation.moving || (*device)->copier->abandon(&operation);
    if (idle && !operation.bounce.empty()) (*device)->copier->give_back(operation.bounce);
  }
  const auto found = waiting_.find(operation.id);
  if (found != waiting_.end() && found->second == &operation) waiting_.erase(found);
  operations_.erase(&operation);
}

void IpcChannel::say_once(const Status& why) {
  if (said_) return;
  said_ = true;
  log::debug("{}: device memory goes through host memory: {}", name_, why.to_string());
}

// ---- ends ----

void IpcChannel::moves_failed(const Status& status) {
  std::vector<DeviceOperation*> failed;
  for (const auto& [key, each] : operations_) {
    if (each->moving) failed.push_back(each.get());
  }
  for (DeviceOperation* each : failed) finish(*each, status);
}

void IpcChannel::ended(const Status& status) {
  if (!over_) over_ = status;
  std::vector<DeviceOperation*> left;
  for (const auto& [id, each] : waiting_) left.push_back(each);
  for (DeviceOperation* each : left) finish(*each, status);
}

void IpcChannel::forget(std::uint64_t comm) {
  std::vector<DeviceOperation*> forgotten;
  for (const auto& [key, each] : operations_) {
    if (each->id.comm == comm) forgotten.push_back(each.get());
  }
  for (DeviceOperation* each : forgotten) drop(*each);
  std::erase_if(host_receives_, [comm](const auto& each) { return each.first.comm == comm; });
  std::erase_if(incoming_, [comm](const auto& each) { return each.first.comm == comm; });
  std::erase_if(early_offers_, [comm](const auto& each) { return each.comm == comm; });
}

void IpcChannel::drop_all() {
  while (!operations_.empty()) drop(*operations_.begin()->second);
}

bool IpcChannel::sends() const {
  return std::any_of(operations_.begin(), operations_.end(),
                     [](const auto& each) { return each.second->kind == Operation::Kind::kDeviceSend; });
}

}  // namespace longspan::cuda_ipc
