#include "ucx/inbox.hpp"

#include <algorithm>
#include <cstring>

namespace longspan::ucx {

Inbox::Message& Inbox::make(const spi::MessageId& id) {
  Message& message = *pool_.take();
  message = Message{};
  message.id = id;
  messages_by_id_.insert(&message);
  return message;
}

void Inbox::release(Message& message) {
  drop_offer(message);
  if (message.to_fetch) to_fetch_.remove_if([&](const Message* each) { return each == &message; });
  if (message.pooled) shared_.buffers.give_back(std::move(message.pooled), message.length);
  messages_by_id_.erase(&message);
  pool_.give_back(&message);
}

/// Its sender's request ends, too.
void Inbox::drop_offer(Message& message) {
  if (message.fetch != nullptr) {
    message.fetch->message = nullptr;
    message.fetch->payload.memory = nullptr;
    message.fetch = nullptr;
    --fetching_;
  }
  if (message.descriptor != nullptr) {
    worker_.library().am_data_release(worker_.get(), std::exchange(message.descriptor, nullptr));
  }
}

void Inbox::post(const spi::RecvRequest& request) {
  Message* known = messages_by_id_.find(request.id);
  Message& message = known != nullptr ? *known : make(request.id);
  message.posted = true;
  message.data = request.data;
  message.any_length = request.any_length;
  message.wanted_digest = request.digest;
  message.context = request.context;
  if (message.to_pool) return;  // delivered once it is there
  if (message.arrived) {
    if (matches(message)) deliver(message);
  } else if (!failure_.ok()) {
    complete(message, failure_, 0);
  }
}

// ---- what comes ----

bool Inbox::whole(const std::byte* data, std::size_t bytes, std::size_t length) noexcept {
  std::uint64_t trailer = 0;
  if (length != bytes + wire::kTrailerBytes) return false;
  std::memcpy(&trailer, data + bytes, sizeof trailer);
  return trailer == wire::kWhole;
}

bool Inbox::on_eager(const wire::MessageHeader& header, const std::byte* data, std::size_t length) {
  ++taken_over_;
  if (shared_.forgotten.contains(header.comm)) return true;
  const std::size_t bytes = header.bytes;
  if (length < wire::kTrailerBytes || bytes != length - wire::kTrailerBytes) return false;
  Message* known = messages_by_id_.find(header.id());
  if (known != nullptr && known->arrived) return false;
  if (!whole(data, bytes, length)) {
    return true;  // its sender's communicator failed while it was sent; this side will be told
  }
  ++messages_;
  bytes_ += bytes;
  Message& message = known != nullptr ? *known : make(header.id());
  message.arrived = true;
  message.digest = header.digest;
  message.length = bytes;
  if (message.posted) {
    if (!matches(message)) return true;
    if (bytes != 0) std::memcpy(message.data.data(), data, bytes);
    consumed(header.comm, bytes);
    complete(message, {}, bytes);
    return true;
  }
  keep(message, data);
  arrive(message);
  return true;
}

void Inbox::keep(Message& message, const std::byte* data) {
  if (message.length == 0) return;
  message.pooled = shared_.buffers.take(message.length);
  std::memcpy(message.pooled.get(), data, message.length);
  eager_bytes_ += message.length;
}

bool Inbox::on_offer(const wire::MessageHeader& header, void* descriptor, std::size_t length, bool& taken) {
  ++taken_over_;
  taken = false;
  if (shared_.forgotten.contains(header.comm)) return true;
  if (length < wire::kTrailerBytes || header.bytes != length - wire::kTrailerBytes) return false;
  Message* known = messages_by_id_.find(header.id());
  if (known != nullptr && known->arrived) return false;
  ++messages_;
  bytes_ += header.bytes;
  taken = true;
  Message& message = known != nullptr ? *known : make(header.id());
  message.arrived = true;
  message.digest = header.digest;
  message.length = header.bytes;
  message.descriptor = descriptor;
  if (!message.posted) {
    arrive(message);
    return true;
  }
  message.to_fetch = true;  // not from within UCX's callback
  to_fetch_.push_back(&message);
  return true;
}

/// Instead of an offer that is still open. One that was fetched meanwhile needs nothing.
bool Inbox::on_bequest(const wire::MessageHeader& header, const std::byte* data, std::size_t length) {
  ++taken_over_;
  Message* const known = messages_by_id_.find(header.id());
  if (known == nullptr || !known->arrived || (known->descriptor == nullptr && known->fetch == nullptr)) return true;
  Message& message = *known;
  if (header.bytes != message.length || header.digest != message.digest ||
      length != message.length + wire::kTrailerBytes) {
    return false;
  }
  if (!whole(data, message.length, length)) return true;
  drop_offer(message);
  if (message.to_fetch) to_fetch_.remove_if([&](const Message* each) { return each == &message; });
  message.to_fetch = message.to_pool = false;
  if (message.pooled) shared_.buffers.give_back(std::move(message.pooled), message.length);
  keep(message, data);
  if (message.posted && matches(message)) deliver(message);
  return true;
}

bool Inbox::flush() {
  if (to_fetch_.empty()) return false;
  while (!to_fetch_.empty()) {
    Message& message = *to_fetch_.pop_front();
    message.to_fetch = false;
    if (matches(message)) deliver(message);
  }
  return true;
}

void Inbox::arrive(Message& message) {
  shared_.complete(spi::CompletionKind::kArrival, nullptr, peer_, message.id, message.length, message.digest);
}

/// Completes a message that is not what its receive expects.
bool Inbox::matches(Message& message) {
  const spi::Match match{message.digest, message.length, message.wanted_digest, message.data.size(),
                         message.any_length};
  if (match.ok()) return true;
  if (message.descriptor == nullptr) consumed(message.id.comm, message.length);
  complete(message, spi::mismatch(message.id, peer_name_, match), message.length);
  return false;
}

void Inbox::deliver(Message& message) {
  if (message.descriptor != nullptr) return begin_fetch(message);
  if (message.length != 0) std::memcpy(message.data.data(), message.pooled.get(), message.length);
  consumed(message.id.comm, message.length);
  complete(message, {}, message.length);
}

void Inbox::complete(Message& message, Status status, std::size_t bytes) {
  shared_.complete(spi::CompletionKind::kRecv, message.context, peer_, message.id, bytes, message.digest,
                   std::move(status));
  release(message);
}

void Inbox::consumed(std::uint64_t comm, std::size_t bytes) {
  std::size_t& owed = owed_[comm];
  owed += wire::eager_cost(bytes);
  if (owed < shared_.credit_bytes / 4) return;
  answers_.return_credit(comm, std::exchange(owed, 0));
}

// ---- fetching ----

void Inbox::begin_fetch(Message& message) {
  Fetch& fetch = *fetches_.take();
  fetch = Fetch{};
  fetch.owner = this;
  fetch.message = &message;
  fetch.payload.memory = message.to_pool ? message.pooled.get() : message.data.data();
  fetch.payload.bytes = message.length;
  message.fetch = &fetch;
  ++fetching_;
  ++held_;
  ucp_request_param_t param{};
  param.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA | UCP_OP_ATTR_FIELD_DATATYPE;
  param.cb.recv_am = &Inbox::on_fetched;
  param.user_data = &fetch;
  param.datatype = worker_.payload();
  ucs_status_ptr_t const request = worker_.library().am_recv_data_nbx(
      worker_.get(), std::exchange(message.descriptor, nullptr), &fetch.payload, 1, &param);
  if (UCS_PTR_IS_PTR(request)) return;
  fetched(fetch, UCS_PTR_STATUS(request));
}

void Inbox::on_fetched(void* request, ucs_status_t status, std::size_t /*length*/, void* user_data) {
  Fetch& fetch = *static_cast<Fetch*>(user_data);
  fetch.owner->worker_.library().request_free(request);
  fetch.owner->fetched(fetch, status);
}

/// A failure is left to the channel, whose end completes the receive with the reason.
void Inbox::fetched(Fetch& fetch, ucs_status_t status) {
  --held_;
  shared_.attention = true;
  Message* const message = std::exchange(fetch.message, nullptr);
  const bool all = fetch.payload.trailer == wire::kWhole;
  fetches_.give_back(&fetch);
  if (message == nullptr) return;
  message->fetch = nullptr;
  --fetching_;
  if (status != UCS_OK) {
    if (trouble_.empty()) trouble_ = worker_.describe(status);
    if (!message->posted) return release(*message);
    message->arrived = message->to_pool = false;
    return;
  }
  if (!all) return withdrawn(*message);
  if (!message->to_pool) return complete(*message, {}, message->length);
  message->to_pool = false;
  eager_bytes_ += message->length;
  if (message->posted && matches(*message)) deliver(*message);
}

/// Its communicator failed on the other side. This side will be told, and until then its receive waits.
void Inbox::withdrawn(Message& message) {
  message.arrived = message.to_pool = false;
  if (!message.posted) release(message);
}

// ---- ends ----

void Inbox::peer_leaves() {
  std::size_t pooled = 0;
  for (Message* message : messages_by_id_.all()) {
    if (message->descriptor == nullptr || message->posted) continue;
    if (pooled + message->length > shared_.credit_bytes) {
      release(*message);
      continue;
    }
    pooled += message->length;
    message->pooled = shared_.buffers.take(message->length);
    message->to_pool = true;
    begin_fetch(*message);
  }
}

void Inbox::forget(std::uint64_t comm) {
  for (Message* message : messages_by_id_.all()) {
    if (message->id.comm == comm) release(*message);
  }
  owed_.erase(comm);
}

void Inbox::fail_all(const Status& status) {
  failure_ = status;
  for (Message* message : messages_by_id_.all()) {
    if (message->posted) {
      complete(*message, status, 0);
    } else if (message->descriptor != nullptr || message->fetch != nullptr) {
      release(*message);
    }
  }
}

}  // namespace longspan::ucx
