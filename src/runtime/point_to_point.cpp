#include "runtime/point_to_point.hpp"

#include <algorithm>

#include "runtime/communicator_impl.hpp"
#include "runtime/work_state.hpp"

namespace longspan::runtime {
namespace {

// Completions of sends and receives carry the WorkState; those of collectives an executor's step (see on_completion).
void* tagged(WorkState& work) { return reinterpret_cast<void*>(reinterpret_cast<std::uintptr_t>(&work) | 1U); }

}  // namespace

Status PointToPoint::send(WorkState& work) {
  work.message = sent_[Source(work.peer, work.tag)]++;
  return work.in_stream ? Status() : begin_send(work);
}

Status PointToPoint::recv(WorkState& work) {
  if (work.peer != kAnySource && !any_source_waits(work.tag)) {
    claim(work, work.peer);
    return work.in_stream ? Status() : post(work);
  }
  return work.in_stream ? Status() : begin(work);
}

Status PointToPoint::begin(WorkState& work) {
  if (!work.receives) return begin_send(work);
  if (work.claimed) return post(work);
  waiting_.push_back(&work);
  match();
  return {};
}

spi::MessageId PointToPoint::id_of(const WorkState& work) const {
  return spi::MessageId{comm_.id() | kPointToPointBit, work.message, work.tag, 0};
}

Result<spi::Channel*> PointToPoint::channel_to(const WorkState& work) {
  const Peer& peer = comm_.members_.peers[static_cast<std::size_t>(work.peer)];
  const Tier tier = comm_.members_.cluster.tier_between(comm_.rank(), work.peer);
  return comm_.domain().channel(peer, tier, comm_.point_to_point_channel(work.peer), work.deadline);
}

bool PointToPoint::takes_device(const WorkState& work, const device::Copier* copier) const {
  return copier != nullptr && work.bytes > 0 &&
         comm_.domain().takes_devices(comm_.members_.peers[static_cast<std::size_t>(work.peer)].id);
}

Status PointToPoint::begin_send(WorkState& work) {
  const double rate = comm_.point_to_point_channel(work.peer).rate_bytes_per_second;
  LONGSPAN_ASSIGN(spi::Channel * channel, channel_to(work));
  if (const int wan = comm_.wan_between(work.peer); wan >= 0 && rate > 0) {
    const auto link = static_cast<std::uint32_t>(wan);
    const LeasedFlow flow{channel, link, Claim{rate, comm_.domain().leases()->budget(link)}};
    comm_.lease(work, std::span(&flow, 1));
  }
  const bool taken = takes_device(work, work.in_copier);
  if (work.in_copier != nullptr && work.bytes > 0 && !taken) {
    auto staged = std::make_unique<StagedSend>(work, *channel, id_of(work), work.in_copier);
    StagedSend& sends = *staged;
    work.staged = std::move(staged);
    return sends.begin();
  }
  spi::SendRequest request;
  request.id = id_of(work);
  request.data = std::span<const std::byte>(work.data, work.bytes);
  if (taken) request.memory = MemoryKind::kCuda;
  request.context = tagged(work);
  if (work.bytes == 0) StagedSend::send_empty(*channel, request.id);
  channel->send(request);
  return {};
}

bool PointToPoint::any_source_waits(std::uint32_t tag) const {
  return std::any_of(waiting_.begin(), waiting_.end(), [tag](const WorkState* work) { return work->tag == tag; });
}

void PointToPoint::claim(WorkState& work, int source) {
  work.peer = source;
  work.message = claimed_[Source(source, work.tag)]++;
  work.claimed = true;
  claims_.push_back(&work);
  const auto came = std::find_if(arrived_.begin(), arrived_.end(), [&](const Arrival& each) {
    return each.source == source && each.tag == work.tag && each.number == work.message;
  });
  if (came == arrived_.end()) return;
  work.announced = came->bytes;
  arrived_.erase(came);
}

Status PointToPoint::post(WorkState& work) {
  LONGSPAN_ASSIGN(spi::Channel * channel, channel_to(work));
  const bool taken = takes_device(work, work.out_copier);
  if (work.out_copier != nullptr && work.bytes > 0 && !taken) {
    if (StagedReceive::must_be_announced(work.bytes) && !work.announced) {
      work.posts_when_announced = true;
      return {};
    }
    std::erase(claims_, &work);
    auto staged = std::make_unique<StagedReceive>(work, *channel, id_of(work), work.out_copier);
    StagedReceive& receives = *staged;
    work.staged = std::move(staged);
    return receives.begin(work.announced.value_or(work.bytes));
  }
  std::erase(claims_, &work);
  spi::RecvRequest request;
  request.id = id_of(work);
  request.data = std::span<std::byte>(work.data, work.bytes);
  if (taken) request.memory = MemoryKind::kCuda;
  request.any_length = true;
  request.context = tagged(work);
  channel->post_recv(request);
  return {};
}

void PointToPoint::arrived(int source, const spi::Completion& completion) {
  if (completion.id.chunk != 0) return;  // of a message in pieces, which is dealt with at its first
  for (WorkState* const work : claims_) {
    if (work->peer != source || work->tag != completion.id.stream || work->message != completion.id.seq) continue;
    work->announced = completion.bytes;
    if (!work->posts_when_announced) return;
    if (const Status status = post(*work); !status.ok()) comm_.message_failed(*work, status);
    return;
  }
  const std::uint32_t claimed = claimed_[Source(source, completion.id.stream)];
  if (completion.id.seq < claimed) return;  // its receive was posted while the announcement was on its way
  arrived_.push_back(Arrival{source, completion.id.stream, completion.id.seq, completion.bytes});
  match();
}

void PointToPoint::match() {
  for (std::size_t i = 0; i < waiting_.size();) {
    WorkState& work = *waiting_[i];
    int source = -1;
    if (work.peer != kAnySource && std::none_of(waiting_.begin(), waiting_.begin() + static_cast<std::ptrdiff_t>(i),
                                                [&](const WorkState* each) { return each->tag == work.tag; })) {
      source = work.peer;  // nobody before it could take a message of its source
    }
    for (const Arrival& each : arrived_) {
      if (source >= 0) break;
      const bool wanted = each.tag == work.tag && (work.peer == kAnySource || work.peer == each.source);
      if (wanted && each.number == claimed_[Source(each.source, each.tag)]) source = each.source;
    }
    if (source < 0) {
      ++i;
      continue;
    }
    waiting_.erase(waiting_.begin() + static_cast<std::ptrdiff_t>(i));
    claim(work, source);
    if (const Status status = post(work); !status.ok()) comm_.report(status, source);
    i = 0;  // what was behind it may be first now
  }
}

void PointToPoint::completed(WorkState& work, spi::Completion& completion) {
  if (!work.receives || completion.bytes > 0) {
    if (work.receives) work.bytes = completion.bytes;
    return comm_.finish(work, {});
  }
  // Nothing, or a message in pieces.
  const auto channel = channel_to(work);
  if (!channel.ok()) return comm_.report(channel.status(), work.peer);
  auto staged = std::make_unique<StagedReceive>(work, **channel, id_of(work), nullptr);
  StagedReceive& receives = *staged;
  work.staged = std::move(staged);
  receives.begin_pieces();
}

}  // namespace longspan::runtime
