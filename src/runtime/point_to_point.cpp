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
  const Peer& peer = comm_.members_.peers[static_cast<std::size_t>(work.peer)];
  const Tier tier = comm_.members_.cluster.tier_between(comm_.rank(), work.peer);
  const ChannelPlan use = comm_.point_to_point_channel(work.peer);
  LONGSPAN_ASSIGN(spi::Channel* channel, comm_.domain().channel(peer, tier, use, work.deadline));
  if (const int wan = comm_.wan_between(work.peer); wan >= 0 && use.rate_bytes_per_second > 0) {
    const auto link = static_cast<std::uint32_t>(wan);
    const LeasedFlow flow{channel, link, Claim{use.rate_bytes_per_second, comm_.domain().leases()->budget(link)}};
    comm_.lease(work, std::span(&flow, 1));
  }
  spi::SendRequest request;
  request.id = spi::MessageId{comm_.id() | kPointToPointBit, work.message, work.tag, 0};
  request.data = std::span<const std::byte>(work.data, work.bytes);
  request.context = tagged(work);
  channel->send(request);
  return {};
}

Status PointToPoint::recv(WorkState& work) {
  if (work.peer != kAnySource && !any_source_waits(work.tag)) return post(work, work.peer);
  waiting_.push_back(&work);
  match();
  return {};
}

bool PointToPoint::any_source_waits(std::uint32_t tag) const {
  return std::any_of(waiting_.begin(), waiting_.end(), [tag](const WorkState* work) { return work->tag == tag; });
}

Status PointToPoint::post(WorkState& work, int source) {
  work.peer = source;
  work.message = claimed_[Source(source, work.tag)]++;
  std::erase_if(arrived_, [&](const Arrival& each) {
    return each.source == source && each.tag == work.tag && each.number == work.message;
  });
  const Peer& peer = comm_.members_.peers[static_cast<std::size_t>(source)];
  const Tier tier = comm_.members_.cluster.tier_between(comm_.rank(), source);
  LONGSPAN_ASSIGN(spi::Channel * channel,
                  comm_.domain().channel(peer, tier, comm_.point_to_point_channel(source), work.deadline));
  spi::RecvRequest request;
  request.id = spi::MessageId{comm_.id() | kPointToPointBit, work.message, work.tag, 0};
  request.data = std::span<std::byte>(work.data, work.bytes);
  request.any_length = true;
  request.context = tagged(work);
  channel->post_recv(request);
  return {};
}

void PointToPoint::arrived(int source, const spi::Completion& completion) {
  const std::uint32_t claimed = claimed_[Source(source, completion.id.stream)];
  if (completion.id.seq < claimed) return;  // its receive was posted while the announcement was on its way
  arrived_.push_back(Arrival{source, completion.id.stream, completion.id.seq});
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
    if (Status status = post(work, source); !status.ok()) comm_.report(status, source);
    i = 0;  // what was behind it may be first now
  }
}

void PointToPoint::completed(WorkState& work, spi::Completion& completion) {
  if (work.receives && completion.status.ok()) work.bytes = completion.bytes;
  comm_.finish(work, std::move(completion.status));
}

}  // namespace longspan::runtime
