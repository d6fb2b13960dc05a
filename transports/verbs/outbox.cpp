#include "verbs/outbox.hpp"

#include <algorithm>

#include "base/log.hpp"

namespace longspan::verbs {
namespace {

constexpr std::size_t kLargestSegment = std::size_t{1} << 20;
constexpr std::size_t kLeastSegment = std::size_t{64} << 10;
/// In flight where nobody says how much the path holds: 10 Gbit/s for 6 ms.
constexpr std::size_t kDefaultWindow = std::size_t{8} << 20;

/// The frame counts, too: a flood of tiny messages must not cost the receiver unbounded records.
constexpr std::int64_t cost(std::size_t bytes) noexcept {
  return static_cast<std::int64_t>(bytes + sizeof(wire::Frame));
}

}  // namespace

void Pace::took(std::size_t bytes, TimePoint now) noexcept {
  if (unlimited()) return;
  next_ = std::max(next_, now) +
          std::chrono::duration_cast<Duration>(std::chrono::duration<double>(static_cast<double>(bytes) / rate_));
}

std::size_t Pace::segment() const noexcept {
  if (unlimited()) return kLargestSegment;
  const auto wanted = static_cast<std::size_t>(rate_ * 1e-3);
  return std::clamp(wanted, kLeastSegment, kLargestSegment);
}

void Outbox::attach(Link* link, std::uint64_t credit_bytes, std::size_t window_bytes) {
  link_ = link;
  credit_bytes_ = credit_bytes;
  window_bytes_ = std::max(window_bytes, kDefaultWindow);
  for (auto& [comm, left] : credits_) left = static_cast<std::int64_t>(credit_bytes);
  for (Message* message = live_.front(); message != nullptr; message = decltype(live_)::after(message)) {
    if (message->where == Where::kOffered) announce(*message);
  }
}

std::int64_t& Outbox::credit(std::uint64_t comm) {
  return credits_.try_emplace(comm, static_cast<std::int64_t>(credit_bytes_)).first->second;
}

void Outbox::send(const spi::SendRequest& request) {
  Message& message = *pool_.take();
  message = Message{};
  message.id = request.id;
  message.digest = request.digest;
  message.data = request.data;
  message.context = request.context;
  live_.push_back(&message);
  if (!failure_.ok()) return sent(message, failure_);
  Grant* const grant = grants_.find(request.id);
  if (request.data.size() <= kEager) {
    queue_small(message);
  } else if (grant != nullptr && matches(message, *grant)) {
    message.grant = *grant;
    make_ready(message);
  } else {
    offer(message);
  }
  if (grant != nullptr) {
    grants_.erase(grant);
    grant_pool_.give_back(grant);
  }
}

bool Outbox::matches(const Message& message, const Grant& grant) const noexcept {
  return grant.digest == message.digest && grant.bytes == message.data.size();
}

void Outbox::queue_small(Message& message) {
  message.where = Where::kSmall;
  small_.push_back(&message);
}

void Outbox::offer(Message& message) {
  message.where = Where::kOffered;
  if (!message.offered) offered_.insert(&message);
  message.offered = true;
  if (link_ != nullptr) announce(message);
}

void Outbox::announce(Message& message) {
  wire::Frame frame;
  frame.type = wire::FrameType::kOffer;
  frame.set_id(message.id);
  frame.digest = message.digest;
  frame.bytes = message.data.size();
  message.offer_in_flight = true;
  link_->push(frame, {SendWork::Kind::kOffer, &message, nullptr, 0});
}

void Outbox::make_ready(Message& message) {
  if (message.offered) {
    offered_.erase(&message);
    message.offered = false;
  }
  auto memory = registrar_.find_or_register(message.data, false);
  if (!memory.ok()) {  // it is copied then, and the grant lapses with the message
    log::debug("{}", memory.status().to_string());
    message.clear = true;
    return queue_small(message);
  }
  message.memory = std::move(*memory);
  message.where = Where::kReady;
  ready_.push_back(&message);
}

// ---- progress ----

TimePoint Outbox::flush() {
  if (link_ == nullptr || !link_->is_open()) return TimePoint::max();
  link_->flush();
  flush_small();
  TimePoint wake = TimePoint::max();
  if (!ready_.empty()) {
    const TimePoint now = pace_.unlimited() ? TimePoint{} : Clock::now();
    for (Message* message = ready_.front(); message != nullptr;) {
      // Its offer must have arrived before its data, which goes by other queue pairs.
      Message* const next = Messages::after(message);
      if (!message->offer_in_flight) {
        while (message->where == Where::kReady && write_segment(*message, now)) {}
        if (message->where == Where::kReady) {
          if (!pace_.allows(now)) wake = pace_.next();
          break;
        }
      }
      message = next;
    }
  }
  link_->flush();
  return wake;
}

bool Outbox::write_segment(Message& message, TimePoint now) {
  if (!pace_.allows(now) || (link_->bytes_in_flight() > 0 && link_->bytes_in_flight() >= window_bytes_)) return false;
  const int lane = link_->lane_with_room();
  if (lane < 0) return false;
  // Several lanes share a message evenly rather than one of them getting all of it.
  const std::size_t share = std::max((message.data.size() / link_->lane_count() + 4095) / 4096 * 4096, kLeastSegment);
  const std::size_t bytes = std::min({pace_.segment(), share, message.data.size() - message.sent});
  if (!link_->write(lane, message.data.subspan(message.sent, bytes), message.memory->local_key(),
                    message.grant.address + message.sent, message.grant.key, message.grant.token, &message)) {
    return false;
  }
  pace_.took(bytes, now);
  message.sent += bytes;
  bytes_sent_ += bytes;
  ++message.writes;
  if (message.sent == message.data.size()) {
    ready_.remove(&message);
    message.where = Where::kWritten;
    ++writing_;
  }
  return true;
}

void Outbox::flush_small() {
  for (Message* message = small_.front(); message != nullptr;) {
    Message* const next = Messages::after(message);
    if (!message->clear && credit(message->id.comm) <= 0) {
      small_.remove(message);
      offer(*message);
    } else if (!send_pieces(*message)) {
      return;
    }
    message = next;
  }
}

/// All that is left of it; false: no more frames go now.
bool Outbox::send_pieces(Message& message) {
  do {
    wire::Frame frame;
    frame.type = wire::FrameType::kEager;
    frame.flags = message.clear ? std::uint8_t{0} : wire::kCounted;
    frame.set_id(message.id);
    frame.digest = message.digest;
    frame.bytes = message.data.size();
    frame.address = message.sent;
    const auto piece = message.data.subspan(message.sent, std::min(kEager, message.data.size() - message.sent));
    if (!link_->send_eager(frame, piece)) return false;
    if (!message.clear) credit(message.id.comm) -= cost(piece.size());
    message.sent += piece.size();
    bytes_sent_ += piece.size();
  } while (message.sent < message.data.size());
  small_.remove(&message);
  sent(message, {});
  return true;
}

// ---- what the peer says ----

void Outbox::on_grant(const wire::Frame& frame) {
  const Grant grant{frame.id(), frame.digest, frame.bytes, frame.address, frame.key, frame.token};
  Message* const message = offered_.find(grant.id);
  if (message != nullptr) {
    if (!matches(*message, grant)) return;  // the offer tells the peer
    message->grant = grant;
    message->sent = 0;
    return make_ready(*message);
  }
  if (shared_.forgotten.contains(grant.id.comm) || grants_.find(grant.id) != nullptr) return;
  Grant* const kept = grant_pool_.take();
  *kept = grant;
  grants_.insert(kept);
}

void Outbox::on_clear(const spi::MessageId& id) {
  Message* const message = offered_.find(id);
  if (message == nullptr) return;
  offered_.erase(message);
  message->offered = false;
  message->clear = true;
  message->sent = 0;
  queue_small(*message);
}

void Outbox::on_drop(const spi::MessageId& id) {
  if (Message* const message = offered_.find(id)) sent(*message, {});
}

void Outbox::on_credit(std::uint64_t comm, std::uint64_t bytes) {
  const auto found = credits_.find(comm);
  if (found == credits_.end()) return;
  // Capped: what comes back for messages of before a forget() is no credit.
  const std::int64_t most = static_cast<std::int64_t>(credit_bytes_);
  found->second =
      std::min(most, found->second + static_cast<std::int64_t>(std::min<std::uint64_t>(bytes, credit_bytes_)));
}

void Outbox::on_work(const SendWork& work, bool done) {
  Message& message = *static_cast<Message*>(work.message);
  if (work.kind == SendWork::Kind::kOffer) {
    message.offer_in_flight = false;
    return settle(message);
  }
  --message.writes;
  if (message.forgotten) --forgotten_writes_;
  if (message.where == Where::kWritten && message.writes == 0 && done) {
    --writing_;
    return sent(message, {});
  }
  settle(message);
}

void Outbox::revoke_grants() {
  for (Grant* grant : grants_.all()) {
    grants_.erase(grant);
    grant_pool_.give_back(grant);
  }
  for (Message* message = live_.front(); message != nullptr; message = decltype(live_)::after(message)) {
    if (message->where != Where::kReady && message->where != Where::kWritten) continue;
    if (message->where == Where::kReady) ready_.remove(message);
    else --writing_;
    message->sent = 0;
    message->memory.reset();
    // The peer knows of it, or has its receive: it grants again without being asked. But a receive that is only posted
    // later must find an offer.
    offer(*message);
  }
}

// ---- ends ----

void Outbox::sent(Message& message, const Status& status) {
  if (message.offered) offered_.erase(&message);
  message.offered = false;
  if (message.where == Where::kReady) ready_.remove(&message);
  if (status.ok()) ++messages_sent_;
  if (message.context != nullptr) {
    spi::Completion completion;
    completion.kind = spi::CompletionKind::kSend;
    completion.context = message.context;
    completion.peer = peer_;
    completion.id = message.id;
    completion.bytes = message.data.size();
    completion.status = status;
    shared_.completions.push_back(std::move(completion));
  }
  message.where = Where::kGone;
  settle(message);
}

/// Lets go of the record when no request names it any more.
void Outbox::settle(Message& message) {
  if (message.where != Where::kGone || message.writes > 0 || message.offer_in_flight) return;
  message.memory.reset();
  live_.remove(&message);
  pool_.give_back(&message);
}

void Outbox::forget(std::uint64_t comm) {
  for (Message* message = live_.front(); message != nullptr;) {
    Message* const next = decltype(live_)::after(message);
    if (message->id.comm == comm && message->where != Where::kGone) {
      if (message->where == Where::kSmall) small_.remove(message);
      if (message->where == Where::kWritten) --writing_;
      message->context = nullptr;
      message->forgotten = true;
      forgotten_writes_ += message->writes;
      if (message->offered) offered_.erase(message);
      message->offered = false;
      if (message->where == Where::kReady) ready_.remove(message);
      message->where = Where::kGone;
      settle(*message);
    }
    message = next;
  }
  for (Grant* grant : grants_.all()) {
    if (grant->id.comm != comm) continue;
    grants_.erase(grant);
    grant_pool_.give_back(grant);
  }
  credits_.erase(comm);
}

void Outbox::bequeath(std::size_t limit) {
  for (Message* message = live_.front(); message != nullptr; message = decltype(live_)::after(message)) {
    if (message->where != Where::kOffered || message->data.size() > limit) continue;
    limit -= message->data.size();
    on_clear(message->id);
  }
}

void Outbox::fail_all(const Status& status) {
  failure_ = status;
  for (Message* message = live_.front(); message != nullptr;) {
    Message* const next = decltype(live_)::after(message);
    if (message->where == Where::kSmall) small_.remove(message);
    if (message->where == Where::kWritten) --writing_;
    if (message->where != Where::kGone) sent(*message, status);
    message = next;
  }
}

}  // namespace longspan::verbs
