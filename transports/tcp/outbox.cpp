#include "tcp/outbox.hpp"

#include <algorithm>

namespace longspan::tcp {

void Outbox::push(const spi::SendRequest& request) {
  SendMessage& message = *messages_.take();
  message = SendMessage{};
  message.id = request.id;
  message.digest = request.digest;
  message.data = request.data.data();
  message.bytes = request.data.size();
  message.context = request.context;
  message.credit = &credit_of(request.id.comm);
  live_.push_back(&message);
  ++live_count_;
  make_ready(message);
}

void Outbox::make_ready(SendMessage& message) noexcept {
  message.where = SendMessage::Where::kReady;
  (message.small() ? small_ : ready_).push_back(&message);
}

SendMessage* Outbox::first_sendable(List<SendMessage, &SendMessage::queue>& list, std::int64_t least_credit) {
  while (SendMessage* message = list.front()) {
    if (message->granted || message->credit->left > least_credit) return message;
    block(*message);
  }
  return nullptr;
}

SendMessage* Outbox::candidate(Pull pull) {
  if (pull != Pull::kLarge) {
    // No more overdraft than the credit itself: a tiny credit stays tiny.
    SendMessage* message = first_sendable(small_, -std::min(kSmallOverdraft, credit_bytes_ / 4));
    if (message != nullptr || pull == Pull::kSmall) return message;
  }
  while (!replenished_.empty()) {
    SendCredit& credit = *replenished_.front();
    if (credit.left > 0 && !credit.blocked.empty()) return credit.blocked.front();
    credit.replenished = false;
    replenished_.pop_front();
  }
  return first_sendable(ready_, 0);
}

void Outbox::block(SendMessage& message) {
  unqueue(message);
  message.where = SendMessage::Where::kBlocked;
  message.credit->blocked.push_back(&message);
  if (message.announced) return;
  message.announced = true;
  announced_.insert(&message);
  wire::Frame frame;
  frame.type = wire::FrameType::kRts;
  frame.id = message.id;
  frame.digest = message.digest;
  frame.message_bytes = message.bytes;
  announcements_.push_back(frame);
}

void Outbox::unqueue(SendMessage& message) noexcept {
  if (message.where == SendMessage::Where::kReady) (message.small() ? small_ : ready_).remove(&message);
  if (message.where == SendMessage::Where::kBlocked) message.credit->blocked.remove(&message);
  message.where = SendMessage::Where::kNowhere;
}

bool Outbox::next(std::size_t limit, Fragment& out, Pull pull) {
  SendMessage* message = candidate(pull);
  if (message == nullptr) return false;
  out.message = message;
  out.offset = message->assigned;
  out.bytes = std::min(limit, message->bytes - message->assigned);
  out.counted = !message->granted;
  // The header counts too: a flood of tiny messages must not cost the receiver unbounded records.
  if (out.counted) message->credit->left -= static_cast<std::int64_t>(out.bytes + wire::kHeaderBytes);
  message->assigned += out.bytes;
  ++message->unwritten;
  ++message->held;
  if (message->assigned == message->bytes) {
    message->whole = true;
    unqueue(*message);
    if (message->announced) announced_.erase(message);
  }
  return true;
}

bool Outbox::next_announcement(wire::Frame& out) {
  if (announcements_.empty()) return false;
  out = announcements_.pop_front();
  return true;
}

void Outbox::written(SendMessage& message) {
  --message.unwritten;
  if (!message.whole || message.unwritten > 0) return;
  if (message.held == 0) return finished(message);
  message.waits = true;
  ++waiting_;
}

void Outbox::let_go(SendMessage& message) {
  --message.held;
  if (message.whole && message.unwritten == 0 && message.held == 0) finished(message);
}

void Outbox::finished(SendMessage& message) {
  ++messages_sent_;
  complete(message, Status());
}

void Outbox::complete_written() {
  for (SendMessage* message = live_.front(); message != nullptr;) {
    SendMessage* const following = decltype(live_)::after(message);
    if (message->waits) finished(*message);
    message = following;
  }
}

void Outbox::complete(SendMessage& message, const Status& status) {
  if (message.context != nullptr) {
    spi::Completion completion;
    completion.kind = spi::CompletionKind::kSend;
    completion.context = message.context;
    completion.peer = peer_;
    completion.id = message.id;
    completion.bytes = message.bytes;
    completion.status = status;
    completions_.push_back(std::move(completion));
  }
  release(message);
}

void Outbox::release(SendMessage& message) {
  if (message.announced && !message.whole) announced_.erase(&message);
  unqueue(message);
  if (message.waits) --waiting_;
  live_.remove(&message);
  --live_count_;
  messages_.give_back(&message);
}

void Outbox::on_credit(std::uint64_t comm, std::uint64_t bytes) {
  const auto found = credits_.find(comm);
  if (found == credits_.end()) return;  // forgotten here meanwhile
  SendCredit& credit = *found->second;
  // Capped: what comes back for messages of before a forget() is no credit.
  const auto room = static_cast<std::uint64_t>(std::max<std::int64_t>(0, credit_bytes_ - credit.left));
  credit.left += static_cast<std::int64_t>(std::min(bytes, room));
  if (!credit.replenished && credit.left > 0 && !credit.blocked.empty()) {
    credit.replenished = true;
    replenished_.push_back(&credit);
  }
}

void Outbox::on_clear_to_send(const spi::MessageId& id) {
  SendMessage* message = announced_.find(id);
  if (message == nullptr || message->granted) return;  // credit came back first and it is gone already
  message->granted = true;
  if (message->where == SendMessage::Where::kBlocked) {
    unqueue(*message);
    make_ready(*message);
  }
}

void Outbox::forget(std::uint64_t comm) {
  for (SendMessage* message = live_.front(); message != nullptr;) {
    SendMessage* const following = decltype(live_)::after(message);
    if (message->id.comm == comm) release(*message);
    message = following;
  }
  announcements_.remove_if([comm](const wire::Frame& frame) { return frame.id.comm == comm; });
  const auto found = credits_.find(comm);
  if (found == credits_.end()) return;
  SendCredit* const credit = found->second.get();
  replenished_.remove_if([credit](const SendCredit* entry) { return entry == credit; });
  if (last_credit_ == credit) last_credit_ = nullptr;
  credits_.erase(found);
}

void Outbox::fail_all(const Status& status) {
  while (SendMessage* message = live_.front()) complete(*message, status);
  announcements_ = {};
}

SendCredit& Outbox::credit_of(std::uint64_t comm) {
  if (last_credit_ != nullptr && last_comm_ == comm) return *last_credit_;
  auto& slot = credits_[comm];
  if (slot == nullptr) {
    slot = std::make_unique<SendCredit>();
    slot->left = credit_bytes_;
  }
  last_comm_ = comm;
  last_credit_ = slot.get();
  return *slot;
}

}  // namespace longspan::tcp
