#include "shm/outbox.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <numeric>
#include <thread>

#include "base/clock.hpp"
#include "base/log.hpp"

namespace longspan::shm {
namespace {

// 1/8 of the ring: both sides work at once.
constexpr std::size_t kSegmentPayload = (std::size_t{32} << 10) - sizeof(Record);
constexpr auto kRevokePatience = std::chrono::milliseconds(200);

void write_id(Record& record, const spi::MessageId& id, std::uint64_t digest) {
  record.comm = id.comm;
  record.seq = id.seq;
  record.stream = id.stream;
  record.chunk = id.chunk;
  record.digest = digest;
}

}  // namespace

void Outbox::send(const spi::SendRequest& request) {
  ++messages_;
  bytes_ += request.data.size();
  if (!failure_.ok()) {
    if (request.context != nullptr) {
      shared_.complete(spi::CompletionKind::kSend, request.context, peer_, request.id, request.data.size(), 0,
                       failure_);
    }
    return;
  }
  if (pending_.empty() && try_send(request)) return;
  pending_.push_back(request);
}

bool Outbox::try_send(const spi::SendRequest& request) {
  if (request.data.size() <= shared_.tuning.eager_limit &&
      outstanding(request.id.comm) + eager_cost(request.data.size()) <= shared_.credit_bytes) {
    return try_eager(request);
  }
  const bool large = request.data.size() > shared_.tuning.eager_limit;
  if (link_->reach == Reach::kStage && large && request.data.size() <= StagingHeap::kLargest &&
      region_of(request.data) == nullptr) {
    if (try_heap(request)) return true;
  }
  return try_offer(request);
}

/// Where the peer can read `data` in place: a region that it knows, or now is told of.
const Region* Outbox::region_of(std::span<const std::byte> data) {
  if (link_->reach == Reach::kSameProcess || !link_->bell.attached() || data.size() <= shared_.tuning.eager_limit) {
    return nullptr;
  }
  if (!offers_.empty() && free_slots_.empty()) return nullptr;  // nothing could be taken back
  const Region* region = shared_.regions->find(data);
  if (region == nullptr || region->number == last_region_) return region;
  if (!known_regions_.contains(region->number)) {
    if (known_regions_.size() >= kMostRegions || !link_->hand_over(*region)) return nullptr;
    known_regions_.insert(region->number);
  }
  last_region_ = region->number;
  return region;
}

bool Outbox::report_gone_regions() {
  bool any = false;
  for (auto number = known_regions_.begin(); number != known_regions_.end();) {
    if (shared_.regions->has(*number)) {
      ++number;
      continue;
    }
    Record* record = link_->forward.reserve(0);
    if (record == nullptr) return any;
    record->kind = RecordKind::kGone;
    record->offer = *number;
    link_->publish(record);
    number = known_regions_.erase(number);
    any = true;
  }
  last_region_ = 0;
  regions_version_ = shared_.regions->version();
  return any;
}

bool Outbox::try_eager(const spi::SendRequest& request) {
  Record* record = link_->forward.reserve(request.data.size());
  if (record == nullptr) return false;
  outstanding(request.id.comm) += eager_cost(request.data.size());
  record->kind = RecordKind::kEager;
  write_id(*record, request.id, request.digest);
  if (!request.data.empty()) std::memcpy(record->data(), request.data.data(), request.data.size());
  link_->publish(record);
  if (request.context != nullptr) {
    shared_.complete(spi::CompletionKind::kSend, request.context, peer_, request.id, request.data.size(), 0);
  }
  return true;
}

bool Outbox::try_heap(const spi::SendRequest& request) {
  Record* record = link_->forward.reserve(sizeof(OfferBody));
  if (record == nullptr) return false;
  const auto block = shared_.heap.take(request.data.size());
  if (!block) return false;
  std::memcpy(shared_.heap.at(*block), request.data.data(), request.data.size());
  const std::uint32_t id = new_offer(false);
  offers_[id].request = request;
  offers_[id].block = *block;
  record->kind = RecordKind::kOffer;
  write_id(*record, request.id, request.digest);
  record->offer = id;
  record->slot = kNoSlot;
  const OfferBody body{block->offset, request.data.size(), OfferBody::kHeap};
  std::memcpy(record->data(), &body, sizeof(body));
  link_->publish(record);
  if (request.context != nullptr) {
    shared_.complete(spi::CompletionKind::kSend, request.context, peer_, request.id, request.data.size(), 0);
  }
  return true;
}

bool Outbox::try_offer(const spi::SendRequest& request) {
  Record* record = link_->forward.reserve(sizeof(OfferBody));
  if (record == nullptr) return false;
  const Region* region = region_of(request.data);
  const std::uint32_t id = new_offer(true);
  Offer& offer = offers_[id];
  offer.request = request;
  offer.live = true;
  ++live_offers_;
  if (offer.slot != kNoSlot) {
    link_->header().offers[offer.slot].store(static_cast<std::uint32_t>(OfferState::kOffered),
                                             std::memory_order_release);
  }
  record->kind = RecordKind::kOffer;
  write_id(*record, request.id, request.digest);
  record->offer = id;
  record->slot = offer.slot;
  OfferBody body;
  body.address = reinterpret_cast<std::uint64_t>(request.data.data());
  body.length = request.data.size();
  if (region != nullptr) {
    body.address = static_cast<std::uint64_t>(request.data.data() - region->data);
    body.where = region->number;
  }
  std::memcpy(record->data(), &body, sizeof(body));
  link_->publish(record);
  return true;
}

std::uint32_t Outbox::new_offer(bool with_slot) {
  if (offers_.empty()) {
    free_slots_.resize(kOfferSlots);
    std::iota(free_slots_.rbegin(), free_slots_.rend(), 0U);
  }
  if (free_offers_.empty()) {
    free_offers_.push_back(static_cast<std::uint32_t>(offers_.size()));
    offers_.emplace_back();
    free_offers_.reserve(offers_.capacity());
  }
  const std::uint32_t id = free_offers_.back();
  free_offers_.pop_back();
  Offer& offer = offers_[id];
  offer = Offer{};
  offer.in_use = true;
  if (with_slot && !free_slots_.empty()) {
    offer.slot = free_slots_.back();
    free_slots_.pop_back();
  }
  return id;
}

void Outbox::finish(Offer& offer, Status status) {
  if (!offer.live) return;
  offer.live = false;
  --live_offers_;
  const spi::SendRequest& request = offer.request;
  if (request.context == nullptr) return;
  shared_.complete(spi::CompletionKind::kSend, request.context, peer_, request.id, request.data.size(), 0,
                   std::move(status));
}

void Outbox::release(std::uint32_t id) {
  Offer& offer = offers_[id];
  offer.in_use = false;
  if (offer.slot != kNoSlot) free_slots_.push_back(offer.slot);
  if (offer.block.size_class >= 0) shared_.heap.give_back(offer.block);
  free_offers_.push_back(id);
}

void Outbox::on_done(std::uint32_t id) {
  if (id >= offers_.size() || !offers_[id].in_use || offers_[id].staging) return;
  finish(offers_[id], {});
  release(id);
}

void Outbox::on_stage(std::uint32_t id, std::uint64_t token) {
  if (id >= offers_.size() || !offers_[id].in_use) return;
  Offer& offer = offers_[id];
  if (offer.staging) return;
  if (!offer.live) return release(id);  // forgotten meanwhile: the peer will be told by its own communicator's failure
  offer.token = token;
  offer.staging = true;
  staging_.push_back(id);
}

void Outbox::on_credit(std::uint64_t comm, std::uint64_t bytes) {
  if (shared_.forgotten.contains(comm)) return;
  std::size_t& owed = outstanding(comm);
  owed -= std::min<std::size_t>(owed, static_cast<std::size_t>(bytes));
}

std::size_t& Outbox::outstanding(std::uint64_t comm) {
  if (last_outstanding_ == nullptr || last_comm_ != comm) {
    last_outstanding_ = &outstanding_[comm];
    last_comm_ = comm;
  }
  return *last_outstanding_;
}

bool Outbox::flush() {
  bool any = false;
  while (!pending_.empty() && try_send(pending_.front())) {
    pending_.pop_front();
    any = true;
  }
  if (!staging_.empty()) any |= write_segments();
  if (regions_version_ != shared_.regions->version()) any |= report_gone_regions();
  return any;
}

bool Outbox::write_segments() {
  bool any = false;
  while (!staging_.empty()) {
    const std::uint32_t id = staging_.front();
    Offer& offer = offers_[id];
    const auto data = offer.request.data;
    const std::size_t bytes = std::min(kSegmentPayload, data.size() - offer.staged);
    Record* record = link_->forward.reserve(bytes);
    if (record == nullptr) return any;
    record->kind = RecordKind::kSegment;
    record->digest = offer.token;
    record->comm = offer.staged;
    std::memcpy(record->data(), data.data() + offer.staged, bytes);
    link_->publish(record);
    any = true;
    offer.staged += bytes;
    if (offer.staged < data.size()) continue;
    staging_.pop_front();
    finish(offer, {});
    release(id);
  }
  return any;
}

bool Outbox::arm() {
  if (!blocked_on_room()) return true;
  return !link_->forward.wait_for_room(std::max(shared_.tuning.eager_limit, kSegmentPayload));
}

/// False while the peer reads it.
bool Outbox::try_revoke(Offer& offer) {
  auto expected = static_cast<std::uint32_t>(OfferState::kOffered);
  auto& state = link_->header().offers[offer.slot];
  const bool done = state.compare_exchange_strong(expected, static_cast<std::uint32_t>(OfferState::kRevoked)) ||
                    expected == static_cast<std::uint32_t>(OfferState::kRevoked);
  tsan_acquire(link_->segment.data());
  return done;
}

/// The peer may be in the middle of a slice, or hold a view: it gets a moment to end that.
bool Outbox::revoke(Offer& offer, TimePoint deadline) {
  if (!offer.live || offer.slot == kNoSlot || offer.staging) return true;
  while (!try_revoke(offer)) {
    if (Clock::now() >= deadline) return false;
    std::this_thread::yield();
  }
  return true;
}

void Outbox::warn_of_readers(std::size_t count) const {
  if (count > 0) log::warn("shm: peer {} still reads {} messages that were given up", peer_, count);
}

std::vector<spi::SendRequest> Outbox::take_back(std::size_t limit) {
  std::vector<spi::SendRequest> taken;
  for (Offer& offer : offers_) {
    if (!offer.live || offer.slot == kNoSlot || offer.staging || offer.request.data.size() > limit) continue;
    if (!try_revoke(offer)) continue;
    limit -= offer.request.data.size();
    offer.taken_back = true;
    taken.push_back(offer.request);
  }
  return taken;
}

void Outbox::bequeathed() {
  for (Offer& offer : offers_) {
    if (offer.taken_back) finish(offer, {});
  }
}

void Outbox::forget(std::uint64_t comm) {
  pending_.remove_if([comm](const spi::SendRequest& request) { return request.id.comm == comm; });
  staging_.remove_if([&](std::uint32_t id) {
    Offer& offer = offers_[id];
    if (offer.request.id.comm != comm) return false;
    offer.live = false;
    --live_offers_;
    release(id);
    return true;
  });
  const TimePoint patience = Clock::now() + kRevokePatience;  // for all of them together
  std::size_t unrevoked = 0;
  for (Offer& offer : offers_) {
    if (!offer.live || offer.request.id.comm != comm) continue;
    unrevoked += revoke(offer, patience) ? 0 : 1;
    offer.live = false;  // its number stays taken until the peer answers
    --live_offers_;
  }
  warn_of_readers(unrevoked);
  last_outstanding_ = nullptr;
  outstanding_.erase(comm);
}

void Outbox::fail_all(const Status& status, bool peer_may_read) {
  failure_ = status;
  while (!pending_.empty()) {
    const spi::SendRequest request = pending_.pop_front();
    if (request.context == nullptr) continue;
    shared_.complete(spi::CompletionKind::kSend, request.context, peer_, request.id, request.data.size(), 0, status);
  }
  while (!staging_.empty()) staging_.pop_front();
  const TimePoint patience = Clock::now() + kRevokePatience;
  std::size_t unrevoked = 0;
  for (std::uint32_t id = 0; id < offers_.size(); ++id) {
    Offer& offer = offers_[id];
    if (offer.live && peer_may_read) unrevoked += revoke(offer, patience) ? 0 : 1;
    finish(offer, status);
    // A view of a block may outlive the channel, but not its process.
    if (offer.in_use && !peer_may_read) release(id);
  }
  warn_of_readers(unrevoked);
}

}  // namespace longspan::shm
