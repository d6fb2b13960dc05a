#include "tcp/inbox.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

namespace longspan::tcp {

RecvMessage& Inbox::record_of(const spi::MessageId& id) {
  if (RecvMessage* found = messages_.find(id)) return *found;
  RecvMessage& message = *pool_.take();
  auto waiting = std::move(message.waiting);  // keeps its capacity
  message = RecvMessage{};
  message.waiting = std::move(waiting);
  message.id = id;
  messages_.insert(&message);
  return message;
}

void Inbox::post(const spi::RecvRequest& request) {
  RecvMessage& message = record_of(request.id);
  message.posted = true;
  message.data = request.data;
  message.any_length = request.any_length;
  message.wanted_digest = request.digest;
  message.context = request.context;
  if (message.known) {
    check_match(message);
    if (!message.completed) deliver_waiting(message);
    clear_to_send(message);
  }
  settle(message);
  // What came entirely was delivered above; the rest will never come.
  if (!failure_.ok()) {
    if (RecvMessage* left = messages_.find(request.id); left != nullptr && !left->completed) {
      complete(*left, failure_);
      release(*left);
    }
  }
}

void Inbox::check_match(RecvMessage& message) {
  const spi::Match match{message.digest, message.bytes, message.wanted_digest, message.data.size(), message.any_length};
  if (match.ok()) return;
  complete(message, spi::mismatch(message.id, peer_name_, match));
  message.discard = true;
  drop_waiting(message);
}

Status Inbox::learn(RecvMessage& message, const wire::Frame& frame) {
  if (message.known) {
    if (message.bytes == frame.message_bytes && message.digest == frame.digest) return {};
    return Status(StatusCode::kInternal, fmt::format("{} from {} contradicts itself: first {} bytes, then {}",
                                                     describe(message.id), peer_name_, message.bytes,
                                                     frame.message_bytes));
  }
  message.known = true;
  message.bytes = frame.message_bytes;
  message.digest = frame.digest;
  if (message.posted) {
    check_match(message);
  } else {
    arrived(message);
  }
  return {};
}

Status Inbox::begin(const wire::Frame& frame, Landing& landing) {
  landing.message = nullptr;
  landing.target = nullptr;
  landing.bytes = frame.payload_bytes;
  landing.offset = static_cast<std::size_t>(frame.offset);
  landing.comm = frame.id.comm;
  landing.counted = (frame.flags & wire::kCounted) != 0;
  if (shared_.forgotten.contains(frame.id.comm)) return {};
  RecvMessage& message = record_of(frame.id);
  LONGSPAN_TRY(learn(message, frame));
  if ((frame.flags & wire::kAnnounced) != 0) message.announcement_due = true;
  if (message.received + frame.payload_bytes > message.bytes) {
    return Status(StatusCode::kInternal, fmt::format("{} from {} brings more than its {} bytes", describe(message.id),
                                                     peer_name_, message.bytes));
  }
  landing.message = &message;
  ++message.in_progress;
  if (message.discard || frame.payload_bytes == 0) return {};
  if (message.posted) {
    landing.target = message.data.data() + landing.offset;
    return {};
  }
  Account& account = account_of(frame.id.comm);
  account.pooled += frame.payload_bytes;
  eager_bytes_ += frame.payload_bytes;
  // Twice: after a forget() on the sender's side its credit starts anew while old data may still be here.
  if (account.pooled > 2 * credit_bytes_ + 2 * wire::kMaxFragment) {
    return Status(StatusCode::kInternal, fmt::format("{} sent {} bytes ahead of receives, above its credit of {}",
                                                     peer_name_, account.pooled, credit_bytes_));
  }
  landing.pooled = shared_.buffers.take(frame.payload_bytes);
  landing.target = landing.pooled.get();
  return {};
}

void Inbox::end(Landing& landing) {
  RecvMessage* const message = std::exchange(landing.message, nullptr);
  if (message == nullptr) {  // of a forgotten communicator
    if (landing.counted) return_credit(landing.comm, landing.bytes);
    return;
  }
  --message->in_progress;
  message->received += landing.bytes;
  message->data_seen = true;
  if (landing.pooled != nullptr) {
    message->waiting.push_back({std::move(landing.pooled), landing.offset, landing.bytes, landing.counted});
    if (message->discard) {
      drop_waiting(*message);
    } else if (message->posted && !message->completed) {
      deliver_waiting(*message);
    }
  } else if (message->bytes == 0 && !message->posted) {
    // The record itself is what waits for its receive; its credit comes back then.
    message->waiting.push_back({nullptr, 0, 0, landing.counted});
  } else if (landing.counted) {
    return_credit(landing.comm, landing.bytes);
  }
  settle(*message);
}

void Inbox::abandon(Landing& landing) {
  RecvMessage* const message = std::exchange(landing.message, nullptr);
  landing.target = nullptr;
  if (landing.pooled != nullptr) {
    account_of(landing.comm).pooled -= landing.bytes;
    shared_.buffers.give_back(std::move(landing.pooled), landing.bytes);
  }
  if (message != nullptr) --message->in_progress;
}

void Inbox::deliver_waiting(RecvMessage& message) {
  for (WaitingFragment& fragment : message.waiting) {
    if (fragment.bytes > 0) std::memcpy(message.data.data() + fragment.offset, fragment.data.get(), fragment.bytes);
  }
  drop_waiting(message);
}

void Inbox::drop_waiting(RecvMessage& message) {
  for (WaitingFragment& fragment : message.waiting) {
    account_of(message.id.comm).pooled -= fragment.bytes;
    if (fragment.counted) return_credit(message.id.comm, fragment.bytes);
    if (fragment.data != nullptr) shared_.buffers.give_back(std::move(fragment.data), fragment.bytes);
  }
  message.waiting.clear();
}

Status Inbox::on_announcement(const wire::Frame& frame) {
  if (shared_.forgotten.contains(frame.id.comm)) return {};
  RecvMessage& message = record_of(frame.id);
  LONGSPAN_TRY(learn(message, frame));
  message.announced = true;
  clear_to_send(message);
  settle(message);
  return {};
}

void Inbox::clear_to_send(RecvMessage& message) {
  if (!message.posted || !message.announced || message.cleared) return;
  if (message.data_seen && message.received == message.bytes) return;
  message.cleared = true;
  wire::Frame frame;
  frame.type = wire::FrameType::kCts;
  frame.id = message.id;
  replies_.push_back(frame);
}

/// Gives the completion when all is there, and lets go of the record when nothing of the message can follow.
void Inbox::settle(RecvMessage& message) {
  if (!message.data_seen || message.in_progress > 0 || message.received < message.bytes) return;
  if (message.posted && !message.completed) {
    ++messages_received_;
    complete(message, Status());
  }
  if (message.completed && message.announced >= message.announcement_due) release(message);
}

void Inbox::complete(RecvMessage& message, Status status) {
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

void Inbox::arrived(const RecvMessage& message) {
  spi::Completion completion;
  completion.kind = spi::CompletionKind::kArrival;
  completion.peer = peer_;
  completion.id = message.id;
  completion.digest = message.digest;
  completion.bytes = static_cast<std::size_t>(message.bytes);
  shared_.completions.push_back(std::move(completion));
}

void Inbox::return_credit(std::uint64_t comm, std::size_t bytes) {
  Account& account = account_of(comm);
  account.owed += bytes + wire::kHeaderBytes;
  if (account.owed < credit_bytes_ / 4) return;
  wire::Frame frame;
  frame.type = wire::FrameType::kCredit;
  frame.id.comm = comm;
  frame.message_bytes = std::exchange(account.owed, 0);
  replies_.push_back(frame);
}

bool Inbox::next_reply(wire::Frame& out) {
  if (replies_.empty()) return false;
  out = replies_.pop_front();
  return true;
}

void Inbox::release(RecvMessage& message) {
  messages_.erase(&message);
  pool_.give_back(&message);
}

void Inbox::forget(std::uint64_t comm) {
  for (RecvMessage* message : messages_.all()) {
    if (message->id.comm != comm) continue;
    drop_waiting(*message);
    release(*message);
  }
  last_account_ = nullptr;
  accounts_.erase(comm);
}

void Inbox::fail_all(const Status& status) {
  failure_ = status;
  for (RecvMessage* message : messages_.all()) {
    if (!message->posted) continue;
    if (!message->completed) complete(*message, status);
    release(*message);
  }
}

Inbox::Account& Inbox::account_of(std::uint64_t comm) {
  if (last_account_ == nullptr || last_comm_ != comm) {
    last_account_ = &accounts_[comm];
    last_comm_ = comm;
  }
  return *last_account_;
}

}  // namespace longspan::tcp
