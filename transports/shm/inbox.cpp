#include "shm/inbox.hpp"

#include <algorithm>
#include <cstring>

#include "shm/copy.hpp"
#include "shm/outbox.hpp"

namespace longspan::shm {
namespace {

constexpr std::size_t kSlice = std::size_t{256} << 10;  // read between two looks at whether the sender took it back

spi::MessageId id_of(const Record& record) { return {record.comm, record.seq, record.stream, record.chunk}; }

}  // namespace

Inbox::Message& Inbox::make(const spi::MessageId& id) {
  Message& message = *pool_.take();
  message = Message{};
  message.id = id;
  messages_by_id_.insert(&message);
  return message;
}

void Inbox::release(Message& message) {
  if (message.pooled) shared_.buffers.give_back(std::move(message.pooled), message.length);
  messages_by_id_.erase(&message);
  pool_.give_back(&message);
}

void Inbox::post(const spi::RecvRequest& request) {
  Message* known = messages_by_id_.find(request.id);
  Message& message = known != nullptr ? *known : make(request.id);
  message.posted = true;
  message.data = request.data;
  message.view_ok = request.view_ok;
  message.any_length = request.any_length;
  message.past_cache = request.past_cache;
  message.wanted_digest = request.digest;
  message.context = request.context;
  if (message.to_pool) return;  // delivered once it is there
  if (message.arrived) {
    if (matches(message)) deliver(message);
  } else if (!failure_.ok()) {
    complete(message, failure_, 0);
  }
}

bool Inbox::on_eager(const Record& record) {
  ++messages_;
  bytes_ += record.payload;
  if (shared_.forgotten.contains(record.comm)) return true;
  const spi::MessageId id = id_of(record);
  Message* known = messages_by_id_.find(id);
  if (known != nullptr && known->arrived) return false;
  Message& message = known != nullptr ? *known : make(id);
  message.arrived = true;
  message.digest = record.digest;
  message.length = record.payload;
  if (message.posted) {
    if (!matches(message)) return true;
    if (record.payload != 0) std::memcpy(message.data.data(), record.data(), record.payload);
    consumed(record.comm, record.payload);
    complete(message, {}, record.payload);
    return true;
  }
  if (record.payload != 0) {
    message.pooled = shared_.buffers.take(record.payload);
    std::memcpy(message.pooled.get(), record.data(), record.payload);
    eager_bytes_ += record.payload;
  }
  arrive(message);
  return true;
}

bool Inbox::on_offer(const Record& record) {
  ++messages_;
  OfferBody body;
  std::memcpy(&body, record.data(), sizeof(body));
  bytes_ += body.length;
  if (shared_.forgotten.contains(record.comm)) {
    replies_.push_back({RecordKind::kDone, record.offer});
    return true;
  }
  const spi::MessageId id = id_of(record);
  Message* known = messages_by_id_.find(id);
  if (known != nullptr && known->arrived) return false;
  Message& message = known != nullptr ? *known : make(id);
  message.arrived = true;
  message.offered = true;
  message.digest = record.digest;
  message.length = static_cast<std::size_t>(body.length);
  message.address = body.address;
  message.offer = record.offer;
  message.slot = record.slot < kOfferSlots ? record.slot : kNoSlot;
  if (body.where != OfferBody::kPrivate && !map(message, body)) return false;
  if (!message.posted) arrive(message);
  else if (matches(message)) deliver(message);
  return true;
}

bool Inbox::asks_for_unknown_region(const Record& offer) const {
  OfferBody body;
  std::memcpy(&body, offer.data(), sizeof(body));
  return body.where != OfferBody::kPrivate && body.where != OfferBody::kHeap && !link_->regions.contains(body.where);
}

/// False when the message lies outside the memory that it is said to be in.
bool Inbox::map(Message& message, const OfferBody& body) {
  const SharedMemory* memory = &link_->heap;
  if (body.where != OfferBody::kHeap) {
    const auto region = link_->regions.find(body.where);
    message.in_region = true;
    if (region == link_->regions.end()) return true;  // it could not be mapped here
    if (message.slot == kNoSlot) return false;        // it could not be taken back
    message.region = region->second;
    memory = message.region.get();
  }
  if (body.address > memory->size() || body.length > memory->size() - body.address) return false;
  message.mapped = memory->data() + body.address;
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
  message.offered ? drop_offer(message) : consumed(message.id.comm, message.length);
  complete(message, spi::mismatch(message.id, peer_name_, match), message.length);
  return false;
}

void Inbox::deliver(Message& message) {
  if (message.offered) return start_fetch(message);
  if (message.length != 0) std::memcpy(message.data.data(), message.pooled.get(), message.length);
  consumed(message.id.comm, message.length);
  complete(message, {}, message.length);
}

void Inbox::complete(Message& message, Status status, std::size_t bytes) {
  shared_.complete(spi::CompletionKind::kRecv, message.context, peer_, message.id, bytes, message.digest,
                   std::move(status));
  release(message);
}

void Inbox::drop_offer(const Message& message) { replies_.push_back({RecordKind::kDone, message.offer}); }

void Inbox::consumed(std::uint64_t comm, std::size_t bytes) {
  if (last_owed_ == nullptr || last_comm_ != comm) {
    last_owed_ = &owed_[comm];
    last_comm_ = comm;
  }
  *last_owed_ += eager_cost(bytes);
  if (*last_owed_ < credit_bytes_ / 4) return;
  replies_.push_back({RecordKind::kCredit, 0, comm, std::exchange(*last_owed_, 0)});
}

// ---- fetching ----

void Inbox::start_fetch(Message& message) {
  if (message.mapped != nullptr) {
    if (message.view_ok && !message.to_pool) return deliver_view(message);
    if (failure_.ok()) return pulls_.push_back(&message);
    // The peer has gone, its heap is still here.
    std::memcpy(target(message), message.mapped, message.length);
    return fetched(message);
  }
  if (message.in_region || link_->reach() == Reach::kStage || message.slot == kNoSlot) return stage(message);
  if (message.view_ok && !message.to_pool && link_->memory.mode() == FetchMode::kDirect) return deliver_view(message);
  pulls_.push_back(&message);
}

void Inbox::stage(Message& message) {
  const std::uint64_t token = next_token_++;
  staged_.push_back({token, &message, message.length});
  replies_.push_back({RecordKind::kStage, message.offer, 0, token});
}

/// Its communicator failed on the other side. This side will be told, and until then its receive waits.
void Inbox::withdrawn(Message& message) {
  drop_offer(message);
  message.arrived = message.offered = message.to_pool = message.in_region = false;
  message.mapped = nullptr;
  message.region.reset();
  message.fetched = 0;
  if (!message.posted) release(message);
}

void Inbox::deliver_view(Message& message) {
  if (!begin_read(message.slot)) return withdrawn(message);
  spi::Completion completion;
  completion.kind = spi::CompletionKind::kRecv;
  completion.context = message.context;
  completion.peer = peer_;
  completion.id = message.id;
  completion.digest = message.digest;
  completion.bytes = message.length;
  completion.view = message.mapped != nullptr ? message.mapped : PeerMemory::view(message.address);
  completion.view_token = next_token_++;
  views_.push_back({completion.view_token, message.id.comm, message.offer, message.slot, std::move(message.region)});
  shared_.completions.push_back(std::move(completion));
  release(message);
}

void Inbox::release_view(std::uint64_t token) {
  const auto found =
      std::find_if(views_.begin(), views_.end(), [token](const View& view) { return view.token == token; });
  if (found == views_.end()) return;
  end_read(found->slot);
  replies_.push_back({RecordKind::kDone, found->offer});
  if (&*found != &views_.back()) *found = std::move(views_.back());
  views_.pop_back();
}

bool Inbox::begin_read(std::uint32_t slot) {
  if (slot == kNoSlot) return true;  // in the heap, where it stays until it is answered
  auto expected = static_cast<std::uint32_t>(OfferState::kOffered);
  return link_->header().offers[slot].compare_exchange_strong(expected,
                                                              static_cast<std::uint32_t>(OfferState::kReading));
}

void Inbox::end_read(std::uint32_t slot) {
  if (slot == kNoSlot) return;
  tsan_release(link_->tsan_name);
  link_->header().offers[slot].store(static_cast<std::uint32_t>(OfferState::kOffered), std::memory_order_release);
}

bool Inbox::fetch(std::size_t& budget) {
  bool any = false;
  while (budget > 0 && !pulls_.empty()) {
    Message& message = *pulls_.front();
    any = true;
    if (!begin_read(message.slot)) {
      pulls_.pop_front();
      withdrawn(message);
      continue;
    }
    const std::size_t bytes = std::min({kSlice, budget, message.length - message.fetched});
    bool good = true;
    if (message.mapped != nullptr && message.past_cache && !message.to_pool) {
      copy_past_cache(target(message) + message.fetched, message.mapped + message.fetched, bytes);
    } else if (message.mapped != nullptr) {
      std::memcpy(target(message) + message.fetched, message.mapped + message.fetched, bytes);
    } else {
      good = link_->memory.read(target(message) + message.fetched, message.address + message.fetched, bytes);
    }
    end_read(message.slot);
    if (!good) {  // not allowed after all, or the process is gone, which its socket will tell
      pulls_.pop_front();
      stage(message);
      continue;
    }
    budget -= bytes;
    message.fetched += bytes;
    if (message.fetched < message.length) continue;
    pulls_.pop_front();
    drop_offer(message);
    fetched(message);
  }
  return any;
}

bool Inbox::on_segment(const Record& record) {
  const auto found =
      std::find_if(staged_.begin(), staged_.end(), [&](const Staged& staged) { return staged.token == record.digest; });
  if (found == staged_.end()) return true;
  if (record.payload > found->left) return false;
  const std::size_t offset = static_cast<std::size_t>(record.comm);
  if (Message* message = found->message; message != nullptr) {
    if (offset > message->length || record.payload > message->length - offset) return false;
    std::memcpy(target(*message) + offset, record.data(), record.payload);
  }
  found->left -= record.payload;
  if (found->left > 0) return true;
  Message* message = found->message;
  *found = staged_.back();
  staged_.pop_back();
  if (message != nullptr) fetched(*message);
  return true;
}

void Inbox::fetched(Message& message) {
  message.offered = false;
  if (!message.to_pool) return complete(message, {}, message.length);
  message.to_pool = false;
  if (message.posted && matches(message)) deliver(message);
}

bool Inbox::flush() {
  bool any = false;
  while (!replies_.empty()) {
    Record* record = link_->backward.reserve(0);
    if (record == nullptr) return any;
    const Reply reply = replies_.pop_front();
    record->kind = reply.kind;
    record->offer = reply.offer;
    record->comm = reply.comm;
    record->digest = reply.value;
    link_->publish(record);
    any = true;
  }
  return any;
}

// ---- ends ----

void Inbox::peer_leaves() {
  std::size_t pooled = 0;
  for (Message* message : messages_by_id_.all()) {
    if (!message->offered || message->posted || in_heap(*message)) continue;
    if (pooled + message->length <= credit_bytes_) {
      pooled += message->length;
      message->pooled = shared_.buffers.take(message->length);
      message->to_pool = true;
      eager_bytes_ += message->length;
      start_fetch(*message);
      continue;
    }
    drop_offer(*message);
    release(*message);
  }
}

void Inbox::inherit(const BequestEntry& entry, const std::byte* data) {
  if (shared_.forgotten.contains(entry.comm)) return;
  const spi::MessageId id{entry.comm, entry.seq, entry.stream, entry.chunk};
  Message* known = messages_by_id_.find(id);
  Message& message = known != nullptr ? *known : make(id);
  pulls_.remove_if([&](const Message* each) { return each == &message; });
  message.arrived = true;
  message.offered = message.to_pool = false;
  message.mapped = nullptr;
  message.region.reset();
  message.digest = entry.digest;
  message.length = static_cast<std::size_t>(entry.length);
  if (message.length != 0) {
    message.pooled = shared_.buffers.take(message.length);
    std::memcpy(message.pooled.get(), data, message.length);
    eager_bytes_ += message.length;
  }
  if (message.posted && matches(message)) deliver(message);
}

void Inbox::finish_mapped() {
  for (std::size_t left = pulls_.size(); left > 0; --left) {
    Message& message = *pulls_.pop_front();
    if (!in_heap(message)) {
      pulls_.push_back(&message);
      continue;
    }
    std::memcpy(target(message) + message.fetched, message.mapped + message.fetched, message.length - message.fetched);
    fetched(message);
  }
}

void Inbox::stop_fetching() {
  while (!pulls_.empty()) pulls_.pop_front();
  for (View& view : views_) {
    end_read(view.slot);
    if (view.region) kept_regions_.push_back(std::move(view.region));
  }
  views_.clear();
}

void Inbox::forget(std::uint64_t comm) {
  pulls_.remove_if([comm](const Message* message) { return message->id.comm == comm; });
  for (Staged& staged : staged_) {
    if (staged.message != nullptr && staged.message->id.comm == comm) {
      staged.message->offered = false;  // no answer is due: its segments come and are dropped
      staged.message = nullptr;
    }
  }
  for (std::size_t i = 0; i < views_.size();) {
    if (views_[i].comm != comm) {
      ++i;
      continue;
    }
    release_view(views_[i].token);
  }
  for (Message* message : messages_by_id_.all()) {
    if (message->id.comm != comm) continue;
    if (message->offered) drop_offer(*message);
    release(*message);
  }
  last_owed_ = nullptr;
  owed_.erase(comm);
}

void Inbox::fail_all(const Status& status) {
  failure_ = status;
  while (!pulls_.empty()) pulls_.pop_front();
  staged_.clear();
  while (!replies_.empty()) replies_.pop_front();
  for (Message* message : messages_by_id_.all()) {
    if (message->posted) {
      message->to_pool = false;
      complete(*message, status, 0);
    } else if (message->offered && !in_heap(*message)) {
      release(*message);
    }
  }
}

}  // namespace longspan::shm
