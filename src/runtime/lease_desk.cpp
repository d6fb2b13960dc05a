#include "runtime/lease_desk.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/log.hpp"
#include "longspan/topology.hpp"

namespace longspan::runtime {
namespace {

using namespace std::chrono_literals;

constexpr auto kPatience = 2ms;           // before a smaller claim is told
constexpr auto kDialTime = 10s;
constexpr auto kAsk = 25ms;               // between questions to a far end: a small message there and back
constexpr int kManyFlows = 4;             // more ask less often
constexpr std::size_t kOpenQuestions = 100;
constexpr auto kRateOver = 100ms;
// A rate that changes by less stays: setting it is a system call per connection.
constexpr double kNoticeable = 0.01;

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

LeaseDesk::LeaseDesk(Domain& domain, const Cluster& cluster, std::span<const Peer> peers, int rank,
                     std::vector<double> budgets, Now now)
    : domain_(domain), now_(std::move(now)), rank_(rank) {
  const int region = cluster.region_of(rank);
  peers_.resize(peers.size());
  tiers_.resize(peers.size(), Tier::kWan);
  for (int r = 0; r < cluster.size(); ++r) {
    const auto at = static_cast<std::size_t>(r);
    rank_of_peer_[peers[at].id] = r;
    if (cluster.region_of(r) != region) continue;
    members_.push_back(r);
    peers_[at] = peers[at];
    tiers_[at] = cluster.tier_between(rank, r);
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
  for (const LeasedFlow& each : flows) {
    Flow& flow = links_[each.link].flows[each.channel];
    // At once, so that what was counted before and what comes now are told apart.
    if (flow.ask_at == TimePoint::max() || flow.ask_at == TimePoint{}) ask(each.link, *each.channel, flow, now_());
  }
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
    if (claims.empty()) flow->second.ended = now_();
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
    // What nobody uses may still be warming its connections, at the share that all may take at once. No slower: BBR
    // would take that for what the path can do, and the next operation would start at it (measured: 1 MiB in 74 ms
    // instead of 30).
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
  send(steward_, LeaseMessage{Kind::kClaim, index, now.weight, now.cap});
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
    const bool news =
        changed || (fresh && m == at && fill != kUnlimited) || link.told_share[m] != link.estimate.share();
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
  if (members_[member] != rank_) return send(members_[member], LeaseMessage{Kind::kFill, index, link.told_fill, share});
  if (link.claims[member].weight > 0) link.fill = link.told_fill;
  link.share = share;
  apply(link);
}

/// All that use the link learn of a new share, also those that claim nothing just now: they start with it.
void LeaseDesk::take_report(int rank, const LeaseMessage& report) {
  Link& link = links_[report.link];
  link.claims.resize(members_.size());
  link.told_share.resize(members_.size());
  const TimePoint now = now_();
  link.meter.told(rank, report.peer, report.point, TimePoint(Duration(report.sent)), report.more != 0, now);
  std::optional<LinkSample> seen = link.meter.window([&](int each) { return link.claims[index_of(each)].weight > 0; });
  if (!seen) return;
  seen->stated = link.budget * seen->seconds;
  const double before = link.estimate.share();
  link.estimate.observe(*seen, now);
  const double share = link.estimate.share();
  log::trace(
      "leases: link {} carries {:.3f} of what is stated: {:.3f} arrives, {:.3f} of the pace, {:.1f} to {:.1f} ms in "
      "the queue",
      report.link, share, seen->counts.delivered / seen->stated,
      seen->counts.delivered / std::max(1.0, seen->counts.allowed), seen->least_queue * 1e3, seen->queue * 1e3);
  if (listener_) listener_(report.link, share);
  if (share == before) return;
  log::debug(
      "leases: link {} carries {:.3f} of what is stated (was {:.3f}): {:.3f} of the pace arrives, {:.1f} ms in the "
      "queue",
      report.link, share, before, seen->counts.delivered / std::max(1.0, seen->counts.allowed), seen->queue * 1e3);
  for (std::size_t m = 0; m < members_.size(); ++m) {
    if (link.told_share[m] != 0 && differ(link.told_share[m], share)) tell(report.link, m);
  }
}

spi::Channel* LeaseDesk::channel_to(int rank) {
  const auto at = static_cast<std::size_t>(rank);
  if (!in_region(rank)) return nullptr;
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

void LeaseDesk::send(int rank, const LeaseMessage& message) {
  if (spi::Channel* const channel = channel_to(rank)) send(*channel, rank, message);
}

void LeaseDesk::send(spi::Channel& channel, int rank, const LeaseMessage& message) {
  Parcel& parcel = keep(Parcel{message, rank});
  spi::SendRequest request;
  request.id = spi::MessageId{kComm, sent_[rank]++, 0, 0};
  request.data = std::as_bytes(std::span(&parcel.message, 1));
  request.context = tagged(&parcel);
  channel.send(request);
}

void LeaseDesk::arrived(const spi::Completion& completion) {
  const auto known = rank_of_peer_.find(completion.peer);
  if (known == rank_of_peer_.end()) return log::debug("leases: a message from nobody we know");
  spi::Channel* const channel =
      in_region(known->second) ? channel_to(known->second) : domain_.find_channel(completion.peer);
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
  // Messages may overtake each other; an older one says nothing new about a link, but may be the only one about
  // another.
  const LeaseMessage& message = parcel->message;
  if (message.link >= links_.size() || !sane(message)) {
    return log::warn("leases: what rank {} says makes no sense", parcel->rank);
  }
  auto& newest =
      heard_[(parcel->rank * static_cast<int>(links_.size()) + static_cast<int>(message.link)) * LeaseMessage::kKinds +
             static_cast<int>(message.kind)];
  // Each report of a rank may be about another flow.
  if (parcel->number + 1 <= newest && message.kind != Kind::kReport) return;
  newest = std::max(newest, parcel->number + 1);
  heard(parcel->rank, message);
}

void LeaseDesk::heard(int rank, const LeaseMessage& message) {
  if (message.kind == Kind::kAsk) return answer(rank, message);
  if (message.kind == Kind::kTold) return take_answer(rank, message);
  if (!in_region(rank)) return;
  if (message.kind == Kind::kClaim && steward()) {
    return take_claim(message.link, rank, Claim{message.weight, message.cap});
  }
  if (message.kind == Kind::kReport && steward()) return take_report(rank, message);
  if (message.kind != Kind::kFill || rank != steward_) return;
  Link& link = links_[message.link];
  if (link.told.weight > 0) link.fill = message.weight;
  link.share = message.cap;
  apply(link);
}

bool LeaseDesk::sane(const LeaseMessage& message) const {
  constexpr std::int64_t kMostTime = std::int64_t{1} << 60;  // ns, 36 years: sums of a few times must not overflow
  const auto possible = [](std::int64_t time) { return time >= -kMostTime && time <= kMostTime; };
  if (!possible(message.sent) || !possible(message.seen) || !possible(message.point.at.time_since_epoch().count())) {
    return false;
  }
  switch (message.kind) {
    case Kind::kClaim: return message.weight >= 0 && message.cap >= 0 && std::isfinite(message.weight + message.cap);
    // A rate of 0 would mean: not paced at all.
    case Kind::kFill: return message.weight > 0 && message.cap > 0 && message.cap <= 1;
    case Kind::kAsk: return true;
    case Kind::kTold:
      return message.bytes >= 0 && message.packets >= 0 && std::isfinite(message.bytes + message.packets);
    case Kind::kReport: {
      const LinkPoint& point = message.point;
      const bool known = message.peer >= 0 && message.peer < static_cast<int>(peers_.size());
      return known && point.queue >= 0 && point.rtt >= 0 && std::isfinite(point.queue + point.rtt) &&
             point.counts.sane();
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
  for (std::uint32_t index = 0; index < links_.size() && in_region(known->second); ++index) {
    Link& link = links_[index];
    if (steward()) {
      link.meter.left(known->second);
      if (!link.claims.empty()) take_claim(index, known->second, {});
    } else if (known->second == steward_) {
      link.fill = kUnlimited;
      apply(link);
    }
  }
}

// ---- what arrives ----

void LeaseDesk::look(TimePoint now) {
  look_at_ = TimePoint::max();
  for (std::uint32_t index = 0; index < links_.size(); ++index) {
    for (auto& [channel, flow] : links_[index].flows) {
      if (now >= flow.ask_at) ask(index, *channel, flow, now);
      look_at_ = std::min(look_at_, flow.ask_at);
    }
  }
}

/// The last question goes out when the flow has ended: what comes back with its answer is all that was sent.
void LeaseDesk::ask(std::uint32_t index, spi::Channel& channel, Flow& flow, TimePoint now) {
  const auto many = static_cast<int>(links_[index].flows.size()) / kManyFlows;
  flow.ask_at = flow.claims.empty() ? TimePoint::max() : now + (1 + many) * kAsk;
  look_at_ = std::min(look_at_, flow.ask_at);
  const auto far = rank_of_peer_.find(channel.peer());
  if (far == rank_of_peer_.end() || flow.meter.open() > kOpenQuestions) return;
  flow.meter.asks(channel.stats(), now);
  LeaseMessage question{Kind::kAsk, index};
  question.sent = now.time_since_epoch().count();
  send(channel, far->second, question);
}

void LeaseDesk::answer(int rank, const LeaseMessage& question) {
  const auto found = std::find_if(rank_of_peer_.begin(), rank_of_peer_.end(),
                                  [rank](const auto& each) { return each.second == rank; });
  spi::Channel* const channel = found == rank_of_peer_.end() ? nullptr : domain_.find_channel(found->first);
  if (channel == nullptr || in_region(rank)) return;
  const spi::ChannelStats stats = channel->stats();
  LeaseMessage told{Kind::kTold, question.link};
  told.sent = question.sent;
  told.seen = now_().time_since_epoch().count();
  told.bytes = static_cast<double>(stats.arrived_bytes);
  told.packets = static_cast<double>(stats.arrived_packets);
  send(*channel, rank, told);
}

void LeaseDesk::take_answer(int rank, const LeaseMessage& answer) {
  Link& link = links_[answer.link];
  const auto used = std::find_if(link.flows.begin(), link.flows.end(), [&](const auto& each) {
    const auto far = rank_of_peer_.find(each.first->peer());
    return far != rank_of_peer_.end() && far->second == rank;
  });
  if (used == link.flows.end()) return;
  auto& [channel, flow] = *used;
  const TimePoint now = now_();
  const TimePoint asked(Duration(answer.sent));
  const double before = flow.meter.delivered();
  const FarCount count{asked, TimePoint(Duration(answer.seen)), answer.bytes, answer.packets};
  const std::optional<LinkPoint> point = flow.meter.told(count, channel->stats(), now);
  if (!point) return;
  link.arrived += flow.meter.delivered() - before;
  if (now - link.arrived_since >= kRateOver) {
    const double passed = std::chrono::duration<double>(now - link.arrived_since).count();
    // After a pause it is only noted: nobody wants to know how slow nothing was.
    if (passed < 1) link.delivery_rate = (link.arrived - link.arrived_then) / passed;
    link.arrived_then = link.arrived;
    link.arrived_since = now;
  }
  LeaseMessage report{Kind::kReport, answer.link};
  report.peer = rank;
  report.more = flow.claims.empty() && asked >= flow.ended ? 0 : 1;
  report.sent = now.time_since_epoch().count();
  report.point = *point;
  if (steward()) return take_report(rank_, report);
  send(steward_, report);
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
