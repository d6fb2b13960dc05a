#include "runtime/lease_desk.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "base/log.hpp"
#include "longspan/topology.hpp"

namespace longspan::runtime {
namespace {

using namespace std::chrono_literals;

constexpr auto kPatience = 2ms;           // before a smaller claim is told
constexpr auto kDialTime = 10s;
constexpr auto kLook = 25ms;              // between looks at what a channel has delivered: a system call per connection
constexpr auto kReport = 100ms;
constexpr double kEnoughToTell = 0.05;    // s measured, when a queue grows fast
constexpr double kUrgent = 0.010;         // s in the queue
constexpr auto kRoundLonger = 100ms;      // for those that have not reported
constexpr auto kRound = 60ms;             // of the steward: a report of every rank, though they come at different times
constexpr double kNoticeable = 0.01;      // a rate that changes by less stays: setting it is a system call per connection

bool differ(double a, double b) {
  if (std::isinf(a) || std::isinf(b)) return a != b;
  return std::abs(a - b) > kNoticeable * std::max(std::abs(a), std::abs(b));
}

std::vector<std::uint32_t> links_of(std::span<const LeasedFlow> flows) {
  std::vector<std::uint32_t> links;
  for (const LeasedFlow& each : flows) {
    if (std::find(links.begin(), links.end(), each.link) == links.end()) links.push_back(each.link);
  }
  return links;
}

void* tagged(void* parcel) { return reinterpret_cast<void*>(reinterpret_cast<std::uintptr_t>(parcel) | 2U); }

}  // namespace

LeaseDesk::LeaseDesk(Domain& domain, const Cluster& cluster, std::span<const Peer> peers, int rank, std::vector<double> budgets,
                     Now now)
    : domain_(domain), now_(std::move(now)), rank_(rank) {
  const int region = cluster.region_of(rank);
  peers_.resize(peers.size());
  tiers_.resize(peers.size(), Tier::kWan);
  for (int r = 0; r < cluster.size(); ++r) {
    if (cluster.region_of(r) != region) continue;
    const auto at = static_cast<std::size_t>(r);
    members_.push_back(r);
    peers_[at] = peers[at];
    tiers_[at] = cluster.tier_between(rank, r);
    rank_of_peer_[peers[at].id] = r;
  }
  steward_ = members_.front();
  links_.resize(budgets.size());
  for (std::size_t w = 0; w < budgets.size(); ++w) {
    const WanLink& stated = cluster.topology.wan[w];
    const double rate = stated.bandwidth.bytes_per_second;
    const double buffer = stated.buffer_bytes && rate > 0 ? static_cast<double>(*stated.buffer_bytes) / rate : 0;
    links_[w].budget = budgets[w];
    links_[w].estimate = LinkEstimate({buffer, stated.loss});
  }
}

LeaseDesk::~LeaseDesk() = default;

void LeaseDesk::begin(std::span<const LeasedFlow> flows) {
  for (const LeasedFlow& each : flows) {
    Flow& flow = links_[each.link].flows[each.channel];
    flow.claims.push_back(each.claim);
    flow.idle_rate = each.claim.weight;
  }
  for (const std::uint32_t index : links_of(flows)) {
    Link& link = links_[index];
    apply(link);
    const Claim now = own_claim(link);
    if (now.weight > link.told.weight || now.cap > link.told.cap) {
      announce(index);
    } else if (differ(now.weight, link.told.weight)) {
      announce_at_ = std::min(announce_at_, now_() + kPatience);
    }
  }
  if (look_at_ == TimePoint::max() && !flows.empty()) look_at_ = now_() + kLook;
}

void LeaseDesk::end(std::span<const LeasedFlow> flows) {
  for (const LeasedFlow& each : flows) {
    auto& uses = links_[each.link].flows;
    const auto flow = uses.find(each.channel);
    if (flow == uses.end()) continue;  // its channel was lost
    auto& claims = flow->second.claims;
    const auto mine = std::find_if(claims.begin(), claims.end(), [&](const Claim& claim) {
      return claim.weight == each.claim.weight && claim.cap == each.claim.cap;
    });
    if (mine == claims.end()) continue;
    *mine = claims.back();
    claims.pop_back();
  }
  for (const std::uint32_t index : links_of(flows)) apply(links_[index]);
  if (!flows.empty()) announce_at_ = std::min(announce_at_, now_() + kPatience);
}

double LeaseDesk::leased(std::uint32_t link) const {
  double sum = 0;
  for (const auto& [channel, flow] : links_[link].flows) sum += flow.claims.empty() ? 0 : flow.rate;
  return sum;
}

Claim LeaseDesk::own_claim(const Link& link) const {
  Claim sum;
  for (const auto& [channel, flow] : link.flows) {
    for (const Claim& claim : flow.claims) {
      sum.weight += claim.weight;
      sum.cap += claim.cap;
    }
  }
  sum.cap = std::min(sum.cap, link.budget);
  return sum;
}

/// Gives each flow its share, and never more of a link than there is to what runs here.
void LeaseDesk::apply(Link& link) {
  std::vector<Claim> all;
  for (const auto& [channel, flow] : link.flows) all.insert(all.end(), flow.claims.begin(), flow.claims.end());
  const double fill = std::min(link.fill, fill_level(all, link.budget));
  for (auto& [channel, flow] : link.flows) {
    // What nobody uses may still be warming its connections, at the share that all may take at once. No slower: BBR would
    // take that for what the path can do, and the next operation would start at it (measured: 1 MiB in 74 ms instead of 30).
    double rate = flow.claims.empty() ? std::min(flow.rate, flow.idle_rate * link.share) : 0;
    for (const Claim& claim : flow.claims) rate += share_of(claim, fill) * link.share;
    if (!differ(rate, flow.rate)) continue;
    channel->set_rate(flow.rate = rate);
    flow.meter.paced(rate, rate / link.share, now_());
  }
}

void LeaseDesk::announce(std::uint32_t index) {
  Link& link = links_[index];
  const Claim now = own_claim(link);
  if (!differ(now.weight, link.told.weight) && !differ(now.cap, link.told.cap)) return;
  link.told = now;
  if (steward()) return take_claim(index, rank_, now);
  send(steward_, Message{Kind::kClaim, index, now.weight, now.cap});
}

void LeaseDesk::take_claim(std::uint32_t index, int rank, const Claim& claim) {
  Link& link = links_[index];
  link.claims.resize(members_.size());
  link.told_share.resize(members_.size());
  const std::size_t at = index_of(rank);
  const bool fresh = link.claims[at].weight <= 0;
  link.claims[at] = claim;
  if (link.told_share[at] == 0) link.told_share[at] = 1;  // what it takes for granted
  const double fill = fill_level(link.claims, link.budget);
  const bool changed = differ(fill, link.told_fill);
  if (changed) link.told_fill = fill;
  for (std::size_t m = 0; m < members_.size(); ++m) {
    const bool news = changed || (fresh && m == at && fill != kUnlimited) || link.told_share[m] != link.estimate.share();
    if (link.claims[m].weight > 0 && news) tell(index, m);
  }
  // Who claims nothing now hears nothing, and must not remember a level of the past when it comes back.
  if (link.claims[at].weight <= 0 && rank == rank_) link.fill = kUnlimited;
}

std::size_t LeaseDesk::index_of(int rank) const {
  return static_cast<std::size_t>(std::lower_bound(members_.begin(), members_.end(), rank) - members_.begin());
}

void LeaseDesk::tell(std::uint32_t index, std::size_t member) {
  Link& link = links_[index];
  const double share = link.told_share[member] = link.estimate.share();
  if (members_[member] != rank_) return send(members_[member], Message{Kind::kFill, index, link.told_fill, share});
  if (link.claims[member].weight > 0) link.fill = link.told_fill;
  link.share = share;
  apply(link);
}

/// All that use the link learn of a new share, also those that claim nothing just now: they start with it.
void LeaseDesk::take_sample(std::uint32_t index, int rank, const LinkSample& sample) {
  Link& link = links_[index];
  link.claims.resize(members_.size());
  link.told_share.resize(members_.size());
  link.reported.resize(members_.size());
  link.reported[index_of(rank)] = true;
  link.round.beside(sample);
  const TimePoint now = now_();
  if (now < link.round_ends) return;
  // One flow alone says little: what it does not get another may have got.
  bool all = true;
  for (std::size_t m = 0; m < members_.size(); ++m) all &= link.reported[m] || link.claims[m].weight <= 0;
  if (!all && now < link.round_ends + kRoundLonger) return;
  std::fill(link.reported.begin(), link.reported.end(), false);
  link.round_ends = now + std::max<Duration>(kRound, std::chrono::duration_cast<Duration>(std::chrono::duration<double>(sample.rtt)));
  const double before = link.estimate.share();
  const LinkSample round = std::exchange(link.round, {});
  link.estimate.observe(round, now);
  const double share = link.estimate.share();
  if (listener_) listener_(index, share);
  if (share == before) return;
  log::debug("leases: link {} carries {:.3f} of what is stated (was {:.3f}): {:.3f} of the pace arrives, {:.1f} ms in the queue", index,
             share, before, round.delivered / round.allowed, link.estimate.queue_seconds() * 1e3);
  for (std::size_t m = 0; m < members_.size(); ++m) {
    if (link.told_share[m] != 0 && differ(link.told_share[m], share)) tell(index, m);
  }
}

spi::Channel* LeaseDesk::channel_to(int rank) {
  const auto at = static_cast<std::size_t>(rank);
  auto channel = domain_.channel(peers_[at], tiers_[at], ChannelPlan{}, Clock::now() + kDialTime);
  if (channel.ok()) return *channel;
  log::debug("leases: {}", channel.status().to_string());
  return nullptr;
}

LeaseDesk::Parcel& LeaseDesk::keep(Parcel parcel) {
  auto kept = std::make_unique<Parcel>(parcel);
  Parcel& at = *kept;
  parcels_[&at] = std::move(kept);
  return at;
}

void LeaseDesk::send(int rank, const Message& message) {
  spi::Channel* const channel = channel_to(rank);
  if (channel == nullptr) return;
  Parcel& parcel = keep(Parcel{message, rank});
  spi::SendRequest request;
  request.id = spi::MessageId{kComm, sent_[rank]++, 0, 0};
  request.data = std::as_bytes(std::span(&parcel.message, 1));
  request.context = tagged(&parcel);
  channel->send(request);
}

void LeaseDesk::arrived(const spi::Completion& completion) {
  const auto known = rank_of_peer_.find(completion.peer);
  if (known == rank_of_peer_.end()) return log::debug("leases: a message from outside the region");
  spi::Channel* const channel = channel_to(known->second);
  if (channel == nullptr) return;
  Parcel& parcel = keep(Parcel{{}, known->second, true, completion.id.seq});
  spi::RecvRequest request;
  request.id = completion.id;
  request.data = std::as_writable_bytes(std::span(&parcel.message, 1));
  request.context = tagged(&parcel);
  channel->post_recv(request);
}

void LeaseDesk::completed(const spi::Completion& completion) {
  const auto raw = reinterpret_cast<std::uintptr_t>(completion.context) & ~std::uintptr_t{3};
  const auto found = parcels_.find(reinterpret_cast<Parcel*>(raw));
  if (found == parcels_.end()) return;
  const std::unique_ptr<Parcel> parcel = std::move(found->second);
  parcels_.erase(found);
  if (!parcel->incoming || !completion.status.ok()) return;
  // Messages may overtake each other; an older one says nothing new about a link, but may be the only one about another.
  const Message& message = parcel->message;
  // A rate of 0 would mean: not paced at all.
  if (message.link >= links_.size() || !sane(message)) return log::warn("leases: what rank {} says makes no sense", parcel->rank);
  auto& newest = heard_[(parcel->rank * static_cast<int>(links_.size()) + static_cast<int>(message.link)) * kKinds + static_cast<int>(message.kind)];
  if (parcel->number + 1 <= newest) return;
  newest = parcel->number + 1;
  handle(*parcel);
}

void LeaseDesk::handle(const Parcel& parcel) {
  const Message& message = parcel.message;
  if (message.kind == Kind::kClaim && steward()) {
    return take_claim(message.link, parcel.rank, Claim{message.weight, message.cap});
  }
  if (message.kind == Kind::kSample && steward()) return take_sample(message.link, parcel.rank, message.sample);
  if (message.kind != Kind::kFill || parcel.rank != steward_) return;
  Link& link = links_[message.link];
  if (link.told.weight > 0) link.fill = message.weight;
  link.share = message.cap;
  apply(link);
}

bool LeaseDesk::sane(const Message& message) {
  const LinkSample& s = message.sample;
  switch (message.kind) {
    case Kind::kClaim: return message.weight >= 0 && message.cap >= 0 && std::isfinite(message.weight + message.cap);
    case Kind::kFill: return message.weight > 0 && message.cap > 0 && message.cap <= 1;
    case Kind::kSample: {
      const std::array<double, 10> all{s.seconds, s.delivered, s.allowed, s.queued_delivered, s.queued_allowed, s.queued_stated, s.packets, s.retransmits, s.rtt, s.min_rtt};
      return std::all_of(all.begin(), all.end(), [](double each) { return each >= 0 && std::isfinite(each); });
    }
  }
  return false;
}

void LeaseDesk::lost(spi::PeerId peer) {
  for (std::uint32_t index = 0; index < links_.size(); ++index) {
    auto& flows = links_[index].flows;
    std::erase_if(flows, [peer](const auto& each) { return each.first->peer() == peer; });
  }
  left(peer);
}

void LeaseDesk::left(spi::PeerId peer) {
  const auto known = rank_of_peer_.find(peer);
  if (known == rank_of_peer_.end()) return;
  for (std::uint32_t index = 0; index < links_.size(); ++index) {
    Link& link = links_[index];
    if (steward()) {
      if (!link.claims.empty()) take_claim(index, known->second, {});
    } else if (known->second == steward_) {
      link.fill = kUnlimited;
      apply(link);
    }
  }
}

bool LeaseDesk::in_use() const {
  return std::any_of(links_.begin(), links_.end(), [](const Link& link) {
    return std::any_of(link.flows.begin(), link.flows.end(), [](const auto& each) { return !each.second.claims.empty(); });
  });
}

void LeaseDesk::look(TimePoint now) {
  look_at_ = in_use() ? now + kLook : TimePoint::max();
  for (std::uint32_t index = 0; index < links_.size(); ++index) {
    Link& link = links_[index];
    LinkSample seen;
    bool used = false;
    for (auto& [channel, flow] : link.flows) {
      if (flow.claims.empty()) {
        flow.meter.pause();
      } else {
        used = true;
        seen.beside(flow.meter.look(channel->stats(), now));
        link.arrived += flow.meter.arrived();
      }
    }
    if (!used || link.arrived_since == TimePoint::max()) {
      link.arrived_since = used ? now : TimePoint::max();
      link.arrived = 0;
    } else if (now - link.arrived_since >= kReport) {
      link.delivery_rate = std::exchange(link.arrived, 0) / std::chrono::duration<double>(now - link.arrived_since).count();
      link.arrived_since = now;
    }
    link.measured.then(seen);
    const LinkSample& measured = link.measured;
    const bool urgent = measured.seconds >= kEnoughToTell && measured.rtt > measured.min_rtt + std::max(kUrgent, measured.min_rtt / 4);
    if (measured.seconds > 0 && (now >= link.report_at || urgent)) report(index, now);
  }
}

void LeaseDesk::report(std::uint32_t index, TimePoint now) {
  Link& link = links_[index];
  link.report_at = now + kReport;
  const LinkSample sample = std::exchange(link.measured, {});
  if (steward()) return take_sample(index, rank_, sample);
  Message message{Kind::kSample, index};
  message.sample = sample;
  send(steward_, message);
}

void LeaseDesk::poll() {
  const TimePoint now = now_();
  if (now >= look_at_) look(now);
  if (now < announce_at_) return;
  announce_at_ = TimePoint::max();
  for (std::uint32_t index = 0; index < links_.size(); ++index) {
    Link& link = links_[index];
    if (link.flows.empty()) continue;
    announce(index);
    if (link.told.weight <= 0) link.fill = kUnlimited;
  }
}

}  // namespace longspan::runtime
