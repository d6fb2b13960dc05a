#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "runtime/domain.hpp"
#include "runtime/flow_meter.hpp"
#include "runtime/lease_message.hpp"
#include "runtime/link_estimate.hpp"
#include "runtime/link_meter.hpp"
#include "runtime/link_shares.hpp"

namespace longspan {
struct Cluster;
}

namespace longspan::runtime {

/// One operation's use of a channel over a WAN link.
struct LeasedFlow {
  spi::Channel* channel = nullptr;
  std::uint32_t link = 0;  ///< index into Topology::wan
  Claim claim;
};

/// Leases the rates of the WAN links that leave this rank's region: what all operations of all communicators and ranks
/// use at one time stays within each link's budget, in proportion to what their plans gave them, and what one leaves
/// the others get. The region's lowest rank is the steward: ranks tell it what they use, it answers with the level to
/// which the budget fills everybody's claim (see fill_level). Until the answer comes a flow runs at its plan's rate:
/// right when nobody else uses the link, and wrong for one round trip inside the region otherwise, which any buffer
/// holds.
///
/// A claim that shrinks is told a moment later: most often the next operation takes it again.
///
/// What a link really carries is measured: ranks that send over it ask the far ends what has arrived (see FlowMeter)
/// and tell the steward, which brings that together (see LinkMeter) and tells all that use the link which share of the
/// stated budget it carries (see LinkEstimate). Every rate is multiplied with it, at once and also inside a collective;
/// plans are not changed by this.
///
/// Domain lock held throughout.
class LeaseDesk final : public Pollable {
 public:
  /// Marks the messages of desks; no communicator has this id.
  static constexpr std::uint64_t kComm = 2;

  using Now = std::function<TimePoint()>;
  /// `budgets`: bytes/s of IP packets by index into Topology::wan. `now`: for tests.
  LeaseDesk(Domain& domain, const Cluster& cluster, std::span<const Peer> peers, int rank, std::vector<double> budgets,
            Now now = Clock::now);
  ~LeaseDesk() override;

  /// Called at a steward with what a link carries, about every 50 ms while it is used; empty: nobody listens.
  void on_measured(std::function<void(std::uint32_t link, double share)> listener) { listener_ = std::move(listener); }

  void begin(std::span<const LeasedFlow> flows);
  void end(std::span<const LeasedFlow> flows);
  /// What this rank's flows over a link may send now, together.
  double leased(std::uint32_t link) const;
  double budget(std::uint32_t link) const { return links_[link].budget; }
  /// Of what is stated of a link, the share that it really carries, as far as this rank knows.
  double share(std::uint32_t link) const { return links_[link].share; }
  /// What arrived of this rank's data over a link when it was last used, bytes/s of IP packets.
  double delivery_rate(std::uint32_t link) const { return links_[link].delivery_rate; }

  /// From the Domain: a message of another desk, and the end of our own sends and receives.
  void arrived(const spi::Completion& completion);
  static bool owns(const void* context) noexcept { return (reinterpret_cast<std::uintptr_t>(context) & 2U) != 0; }
  void completed(const spi::Completion& completion);
  /// What another desk said.
  void heard(int rank, const LeaseMessage& message);
  /// The channel to a peer is gone, and all that pointed to it.
  void lost(spi::PeerId peer);
  /// A peer has said goodbye: what it claimed is free, and from a steward nothing more will be heard.
  void left(spi::PeerId peer);

  int wait_fd() const noexcept override { return -1; }
  void poll() override;
  TimePoint next_deadline() const override { return std::min(announce_at_, look_at_); }

 private:
  using Kind = LeaseMessage::Kind;
  /// A message under way, found again by its completion.
  struct Parcel {
    LeaseMessage message;
    int rank = 0;
    bool incoming = false;
    std::uint32_t number = 0;
  };
  struct Flow {
    std::vector<Claim> claims;  // of the operations that use it now
    double rate = 0;            // as last set
    FlowMeter meter;
    TimePoint ask_at{};         // the next time; max: when somebody uses it again
    TimePoint ended{};          // since then nobody uses it
    double idle_rate = 0;       // what the last operation's plan gave it
  };
  struct Link {
    double budget = 0;
    std::unordered_map<spi::Channel*, Flow> flows;
    Claim told;                // what the steward knows of us
    double fill = kUnlimited;  // as the steward answered
    double share = 1;          // as the steward answered
    double arrived = 0;        // bytes, of all flows
    double arrived_then = 0;   // when its rate was last reckoned
    TimePoint arrived_since{};
    double delivery_rate = 0;
    // At the steward:
    std::vector<Claim> claims;       // by rank of the region
    std::vector<double> told_share;  // by rank of the region; 0: has not used the link
    double told_fill = kUnlimited;
    LinkEstimate estimate;
    LinkMeter meter;
  };

  bool steward() const noexcept { return rank_ == steward_; }
  Claim own_claim(const Link& link) const;
  void apply(Link& link);
  void announce(std::uint32_t index);
  void take_claim(std::uint32_t index, int rank, const Claim& claim);
  void take_report(int rank, const LeaseMessage& report);
  void take_answer(int rank, const LeaseMessage& answer);
  void answer(int rank, const LeaseMessage& question);
  void ask(std::uint32_t index, spi::Channel& channel, Flow& flow, TimePoint now);
  std::size_t index_of(int rank) const;
  void tell(std::uint32_t index, std::size_t member);
  bool sane(const LeaseMessage& message) const;
  void look(TimePoint now);
  spi::Channel* channel_to(int rank);  // nullptr: it cannot be reached
  Parcel& keep(Parcel parcel);
  void send(int rank, const LeaseMessage& message);
  void send(spi::Channel& channel, int rank, const LeaseMessage& message);
  bool in_region(int rank) const { return peers_[static_cast<std::size_t>(rank)].id != 0; }

  Domain& domain_;
  Now now_;
  int rank_ = 0;
  int steward_ = 0;
  std::vector<int> members_;  // ranks of the region, ascending
  std::unordered_map<spi::PeerId, int> rank_of_peer_;  // of all regions
  std::vector<Peer> peers_;   // by rank; id 0: of another region
  std::vector<Tier> tiers_;   // by rank
  std::vector<Link> links_;
  std::unordered_map<Parcel*, std::unique_ptr<Parcel>> parcels_;
  std::unordered_map<int, std::uint32_t> sent_;      // messages, by rank
  std::unordered_map<int, std::uint32_t> heard_;     // number of the newest message, by rank
  std::function<void(std::uint32_t, double)> listener_;
  TimePoint announce_at_ = TimePoint::max();
  TimePoint look_at_ = TimePoint::max();  // at the channels in use
};

}  // namespace longspan::runtime
