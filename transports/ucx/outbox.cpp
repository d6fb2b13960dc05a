#include "ucx/outbox.hpp"

#include <algorithm>

namespace longspan::ucx {
namespace {

/// Larger messages are offered: their data goes straight to where it belongs, for one more way there and back.
constexpr std::size_t kEagerLimit = std::size_t{16} << 10;

}  // namespace

void Shared::complete(spi::CompletionKind kind, void* context, spi::PeerId peer, const spi::MessageId& id,
                      std::size_t bytes, std::uint64_t digest, Status status) {
  spi::Completion completion;
  completion.kind = kind;
  completion.context = context;
  completion.peer = peer;
  completion.id = id;
  completion.digest = digest;
  completion.bytes = bytes;
  completion.status = std::move(status);
  completions.push_back(std::move(completion));
}

void Outbox::open(ucp_ep_h endpoint, const std::array<std::uint64_t, 2>& token, std::size_t credit_bytes) {
  endpoint_ = endpoint;
  token_ = token;
  credit_bytes_ = credit_bytes;
  while (!waiting_.empty()) transmit(waiting_.pop_front());
}

void Outbox::send(const spi::SendRequest& request) {
  ++messages_;
  bytes_ += request.data.size();
  if (!failure_.ok()) {
    if (request.context == nullptr) return;
    return shared_.complete(spi::CompletionKind::kSend, request.context, peer_, request.id, request.data.size(), 0,
                            failure_);
  }
  if (endpoint_ == nullptr) return waiting_.push_back(request);
  transmit(request);
}

void Outbox::transmit(const spi::SendRequest& request) {
  Send& send = *pool_.take();
  send = Send{};
  send.owner = this;
  send.header.token = token_;
  send.header.comm = request.id.comm;
  send.header.seq = request.id.seq;
  send.header.stream = request.id.stream;
  send.header.chunk = request.id.chunk;
  send.header.digest = request.digest;
  send.header.bytes = request.data.size();
  send.payload.memory = const_cast<std::byte*>(request.data.data());  // only read
  send.payload.bytes = request.data.size();
  send.context = request.context;
  send.live = true;
  std::size_t& outstanding = outstanding_[request.id.comm];
  const bool eager =
      request.data.size() <= kEagerLimit && outstanding + wire::eager_cost(request.data.size()) <= credit_bytes_;
  send.header.kind = eager ? wire::MessageKind::kEager : wire::MessageKind::kOffer;
  if (eager) outstanding += wire::eager_cost(request.data.size());
  ++(eager ? leaving_ : offers_);
  live_.push_back(&send);
  ++handed_over_;
  submit(send, true);
}

void Outbox::submit(Send& send, bool has_data) {
  ucp_request_param_t param{};
  param.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA | UCP_OP_ATTR_FIELD_FLAGS;
  param.flags = send.header.kind == wire::MessageKind::kOffer ? UCP_AM_SEND_FLAG_RNDV : UCP_AM_SEND_FLAG_EAGER;
  param.cb.send = &Outbox::on_sent;
  param.user_data = &send;
  if (has_data) {
    param.op_attr_mask |= UCP_OP_ATTR_FIELD_DATATYPE;
    param.datatype = worker_.payload();
  }
  ++held_;
  ucs_status_ptr_t const request = worker_.library().am_send_nbx(
      endpoint_, 0, &send.header, sizeof send.header, has_data ? &send.payload : nullptr, has_data ? 1 : 0, &param);
  if (UCS_PTR_IS_PTR(request)) return;
  finished(send, UCS_PTR_STATUS(request));
}

void Outbox::on_sent(void* request, ucs_status_t status, void* user_data) {
  Send& send = *static_cast<Send*>(user_data);
  send.owner->worker_.library().request_free(request);
  send.owner->finished(send, status);
}

/// UCX holds it no longer. A failure is left to the channel, whose end completes what is live with the reason.
void Outbox::finished(Send& send, ucs_status_t status) {
  --held_;
  if (status != UCS_OK) {
    if (trouble_.empty()) trouble_ = worker_.describe(status);
    shared_.attention = true;
    if (send.live) {
      send.owner = nullptr;  // UCX is done with it: whoever retires it may recycle it
      return;
    }
  } else if (send.live) {
    complete(send, {});
    retire(send);
  }
  pool_.give_back(&send);
}

void Outbox::complete(Send& send, const Status& status) {
  if (send.context == nullptr) return;
  shared_.complete(spi::CompletionKind::kSend, send.context, peer_, send.header.id(), send.payload.bytes, 0, status);
}

/// Nobody waits for it any more, and its memory may be gone.
void Outbox::retire(Send& send) {
  --(send.header.kind == wire::MessageKind::kOffer ? offers_ : leaving_);
  live_.remove(&send);
  send.live = false;
  send.payload.taken_back = true;
  send.payload.memory = nullptr;
  if (send.owner == nullptr) pool_.give_back(&send);
}

void Outbox::return_credit(std::uint64_t comm, std::uint64_t bytes) {
  if (endpoint_ == nullptr || !failure_.ok()) return;
  Send& send = *pool_.take();
  send = Send{};
  send.owner = this;
  send.header.token = token_;
  send.header.kind = wire::MessageKind::kCredit;
  send.header.comm = comm;
  send.header.bytes = bytes;
  submit(send, false);
}

void Outbox::on_credit(std::uint64_t comm, std::uint64_t bytes) {
  const auto found = outstanding_.find(comm);
  if (found == outstanding_.end()) return;  // forgotten here meanwhile
  found->second -= std::min<std::uint64_t>(found->second, bytes);
}

void Outbox::bequeath(std::size_t limit) {
  std::size_t left = limit;
  for (Send* offer = live_.front(); offer != nullptr; offer = decltype(live_)::after(offer)) {
    if (offer->header.kind != wire::MessageKind::kOffer || offer->owner == nullptr || offer->payload.bytes > left) {
      continue;
    }
    left -= offer->payload.bytes;
    Send& send = *pool_.take();
    send = Send{};
    send.owner = this;
    send.header = offer->header;
    send.header.kind = wire::MessageKind::kBequest;
    send.payload.memory = offer->payload.memory;
    send.payload.bytes = offer->payload.bytes;
    send.live = true;
    ++leaving_;
    ++handed_over_;
    live_.push_back(&send);
    submit(send, true);
  }
}

void Outbox::settle() {
  while (Send* send = live_.front()) {
    complete(*send, {});
    retire(*send);
  }
}

void Outbox::forget(std::uint64_t comm) {
  waiting_.remove_if([comm](const spi::SendRequest& request) { return request.id.comm == comm; });
  for (Send* send = live_.front(); send != nullptr;) {
    Send* const following = decltype(live_)::after(send);
    if (send->header.comm == comm) retire(*send);
    send = following;
  }
  outstanding_.erase(comm);
}

void Outbox::fail_all(const Status& status) {
  failure_ = status;
  while (!waiting_.empty()) {
    const spi::SendRequest request = waiting_.pop_front();
    if (request.context == nullptr) continue;
    shared_.complete(spi::CompletionKind::kSend, request.context, peer_, request.id, request.data.size(), 0, status);
  }
  while (Send* send = live_.front()) {
    complete(*send, status);
    retire(*send);
  }
}

}  // namespace longspan::ucx
