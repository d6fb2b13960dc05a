#include "verbs/inbox.hpp"

#include <algorithm>
#include <cstring>

#include "base/log.hpp"

namespace longspan::verbs {
namespace {

constexpr std::uint32_t kTokenBits = 20;
constexpr std::uint32_t kTokenMask = (1u << kTokenBits) - 1;
/// A message that arrives ahead of its receive is kept whole; more than this nobody sends without being asked.
constexpr std::uint64_t kMostCommunicators = 64;

}  // namespace

void Inbox::attach(Link* link, std::uint64_t credit_bytes) {
  link_ = link;
  credit_bytes_ = credit_bytes;
  grant_again();
}

Inbox::Message& Inbox::record_of(const spi::MessageId& id) {
  if (Message* found = messages_.find(id)) return *found;
  Message& message = *pool_.take();
  message = Message{};
  message.id = id;
  messages_.insert(&message);
  return message;
}

void Inbox::post(const spi::RecvRequest& request) {
  Message& message = record_of(request.id);
  message.posted = true;
  message.data = request.data;
  message.any_length = request.any_length;
  message.wanted_digest = request.digest;
  message.context = request.context;
  if (message.known) {
    check_match(message);
    // Pieces come in order: what is here is its beginning, and the rest goes straight to its place.
    if (message.pooled != nullptr && !message.completed) {
      std::memcpy(message.data.data(), message.pooled.get(), message.received);
    }
    drop_pooled(message);
  }
  if (message.completed) return settle(message);
  if (!failure_.ok() && !(message.data_seen && message.received == message.bytes)) {
    complete(message, failure_);
    return release(message);
  }
  answer(message);
  settle(message);
}

/// Says what is to happen to it, where its sender waits for that; or says it ahead, where that saves a round trip.
void Inbox::answer(Message& message) {
  if (link_ == nullptr || !message.posted || message.cleared || message.token != kNoToken) return;
  if (message.known && !message.offered) return;
  if (message.completed) {
    message.cleared = true;
    return reply(wire::FrameType::kDrop, message);
  }
  if (message.known ? message.bytes > kEager : message.data.size() > kEager && !message.any_length) {
    return grant(message);
  }
  if (!message.known) return;
  message.cleared = true;
  reply(wire::FrameType::kClear, message);
}

void Inbox::grant(Message& message) {
  if (!link_->lanes_up()) return;  // all are granted when the lanes stand
  const auto target = message.known ? message.data.first(message.bytes) : message.data;
  auto memory = registrar_.find_or_register(target, true);
  if (!memory.ok() || (free_tokens_.empty() && granted_.size() > kTokenMask)) {
    // It comes through our own buffers then; a sender that knows nothing of it offers it first.
    if (!memory.ok()) log::debug("{}", memory.status().to_string());
    if (!message.offered) return;
    message.cleared = true;
    return reply(wire::FrameType::kClear, message);
  }
  message.memory = std::move(*memory);
  if (free_tokens_.empty()) {
    free_tokens_.push_back(static_cast<std::uint32_t>(granted_.size()));
    granted_.push_back(nullptr);
  }
  const std::uint32_t place = free_tokens_.back();
  free_tokens_.pop_back();
  granted_[place] = &message;
  message.token = place | (++next_turn_ << kTokenBits);
  message.received = 0;
  wire::Frame frame;
  frame.type = wire::FrameType::kGrant;
  frame.set_id(message.id);
  frame.digest = message.wanted_digest;
  frame.bytes = target.size();
  frame.address = reinterpret_cast<std::uint64_t>(target.data());
  frame.key = message.memory->remote_key();
  frame.token = message.token;
  link_->push(frame);
}

void Inbox::withdraw(Message& message) {
  if (message.token == kNoToken) return;
  granted_[message.token & kTokenMask] = nullptr;
  free_tokens_.push_back(message.token & kTokenMask);
  message.token = kNoToken;
  message.memory.reset();
}

void Inbox::grant_again() {
  for (Message* message : messages_.all()) {
    withdraw(*message);
    if (!message->completed) answer(*message);
  }
}

void Inbox::reply(wire::FrameType type, const Message& message) {
  wire::Frame frame;
  frame.type = type;
  frame.set_id(message.id);
  link_->push(frame);
}

void Inbox::check_match(Message& message) {
  if (message.completed) return;
  const spi::Match match{message.digest, message.bytes, message.wanted_digest, message.data.size(), message.any_length};
  if (match.ok()) return;
  complete(message, spi::mismatch(message.id, peer_name_, match));
  message.discard = true;
  withdraw(message);
}

std::string Inbox::learn(Message& message, const wire::Frame& frame) {
  if (message.known) {
    return message.bytes == frame.bytes && message.digest == frame.digest
               ? std::string()
               : describe(message.id) + " that contradicts itself";
  }
  message.known = true;
  message.bytes = frame.bytes;
  message.digest = frame.digest;
  if (message.posted) {
    check_match(message);
    return {};
  }
  spi::Completion completion;
  completion.kind = spi::CompletionKind::kArrival;
  completion.peer = peer_;
  completion.id = message.id;
  completion.digest = message.digest;
  completion.bytes = static_cast<std::size_t>(message.bytes);
  shared_.completions.push_back(std::move(completion));
  return {};
}

std::string Inbox::on_eager(const wire::Frame& frame, std::span<const std::byte> payload) {
  const bool counted = (frame.flags & wire::kCounted) != 0;
  const std::uint64_t spent = payload.size() + sizeof frame;
  if (shared_.forgotten.contains(frame.comm)) {
    if (counted) return_credit(frame.comm, spent);
    return {};
  }
  Message& message = record_of(frame.id());
  if (std::string wrong = learn(message, frame); !wrong.empty()) return wrong;
  if (message.received + payload.size() > message.bytes) return describe(message.id) + " with more bytes than it has";
  message.data_seen = true;
  if (message.discard || message.posted) {
    if (!message.discard && !payload.empty()) {
      std::memcpy(message.data.data() + frame.address, payload.data(), payload.size());
    }
    if (counted) return_credit(frame.comm, spent);
  } else {
    if (message.pooled == nullptr && message.bytes > 0) {
      pooled_bytes_ += message.bytes;
      if (pooled_bytes_ > kMostCommunicators * (credit_bytes_ + wire::kBufferBytes)) {
        return "more ahead of receives than its credit";
      }
      message.pooled = shared_.buffers.take(message.bytes);
    }
    if (!payload.empty()) std::memcpy(message.pooled.get() + frame.address, payload.data(), payload.size());
    if (counted) message.counted += spent;
    eager_bytes_ += payload.size();
  }
  message.received += payload.size();
  bytes_received_ += payload.size();
  settle(message);
  return {};
}

std::string Inbox::on_offer(const wire::Frame& frame) {
  if (shared_.forgotten.contains(frame.comm)) return {};
  Message& message = record_of(frame.id());
  message.offered = true;
  if (std::string wrong = learn(message, frame); !wrong.empty()) return wrong;
  answer(message);
  settle(message);
  return {};
}

std::string Inbox::on_written(std::uint32_t token, std::uint32_t bytes) {
  const std::uint32_t place = token & kTokenMask;
  Message* const message = place < granted_.size() ? granted_[place] : nullptr;
  if (message == nullptr || message->token != token) return {};  // of a receive that was forgotten
  const std::uint64_t whole = message->known ? message->bytes : message->data.size();
  if (message->received + bytes > whole) return describe(message->id) + " with more bytes than it has";
  if (!message->known) {  // it was granted ahead of its offer: what is written is what was asked for
    message->known = true;
    message->bytes = whole;
    message->digest = message->wanted_digest;
  }
  message->received += bytes;
  message->data_seen = true;
  bytes_received_ += bytes;
  settle(*message);
  return {};
}

/// Gives the completion when all is there, and lets go of the record when nothing of the message can follow.
void Inbox::settle(Message& message) {
  if (message.posted && !message.completed && message.data_seen && message.received == message.bytes) {
    ++messages_received_;
    complete(message, {});
  }
  if (!message.completed) return;
  // One that is not wanted: its sender must have been told, or all of it have come.
  if (message.discard && message.offered && !message.cleared) answer(message);
  if (!message.discard ||
      (message.offered ? message.cleared : message.data_seen && message.received == message.bytes)) {
    release(message);
  }
}

void Inbox::complete(Message& message, Status status) {
  message.completed = true;
  spi::Completion completion;
  completion.kind = spi::CompletionKind::kRecv;
  completion.context = message.context;
  completion.peer = peer_;
  completion.id = message.id;
  completion.digest = message.digest;
  completion.bytes = static_cast<std::size_t>(message.bytes);
  completion.status = std::move(status);
  shared_.completions.push_back(std::move(completion));
}

void Inbox::drop_pooled(Message& message) {
  if (message.pooled != nullptr) {
    pooled_bytes_ -= message.bytes;
    shared_.buffers.give_back(std::move(message.pooled), message.bytes);
  }
  if (message.counted > 0) return_credit(message.id.comm, std::exchange(message.counted, 0));
}

void Inbox::return_credit(std::uint64_t comm, std::uint64_t bytes) {
  std::uint64_t& owed = owed_[comm];
  owed += bytes;
  if (link_ == nullptr || owed < credit_bytes_ / 4) return;
  wire::Frame frame;
  frame.type = wire::FrameType::kCredit;
  frame.comm = comm;
  frame.bytes = std::exchange(owed, 0);
  link_->push(frame);
}

void Inbox::release(Message& message) {
  withdraw(message);
  drop_pooled(message);
  messages_.erase(&message);
  pool_.give_back(&message);
}

bool Inbox::exposes(std::uint64_t comm) const {
  return std::any_of(granted_.begin(), granted_.end(),
                     [comm](const Message* message) { return message != nullptr && message->id.comm == comm; });
}

void Inbox::forget(std::uint64_t comm) {
  for (Message* message : messages_.all()) {
    if (message->id.comm == comm) release(*message);
  }
  owed_.erase(comm);
}

void Inbox::fail_all(const Status& status) {
  failure_ = status;
  link_ = nullptr;
  for (Message* message : messages_.all()) {
    if (!message->posted) continue;
    if (!message->completed) complete(*message, status);
    release(*message);
  }
}

}  // namespace longspan::verbs
