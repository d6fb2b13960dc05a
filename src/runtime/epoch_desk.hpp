#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/clock.hpp"
#include "runtime/domain.hpp"

namespace longspan::runtime {

/// What plans are made from after the links were measured: of each WAN link the share of its stated rate. Epoch 0:
/// all 1.
struct PlanningEpoch {
  std::vector<double> shares;  ///< by index into Topology::wan
};

/// Brings all ranks to plan from other link rates, each communicator from one agreed collective on.
///
/// Stewards tell rank 0 what a link lastingly carries. When that differs much from what plans are made from, rank 0
/// asks every rank how far each communicator is; a rank answers with a number that it will not reach before it hears
/// more
/// ("limit"), a few collectives ahead; rank 0 takes the largest limit of each communicator and tells all: from that
/// collective on, this epoch. So no rank has begun a collective with the old plans that another begins with the new
/// ones, and only a rank that makes many calls within one round trip has to wait, once.
///
/// Rank 0 gives up when some rank does not answer, and all go on with the old plans. Domain lock held throughout; no
/// I/O of its own.
class EpochDesk final : public Pollable {
 public:
  static constexpr std::uint32_t kNoLimit = std::numeric_limits<std::uint32_t>::max();
  using Position = std::pair<std::uint64_t, std::uint32_t>;  // a communicator, and the number of its next collective

  class Host {
   public:
    virtual ~Host() = default;
    /// Never to itself; to rank 0, or from it.
    virtual void send(int rank, std::string note) = 0;
    /// It has left or died: nothing is asked of it.
    virtual bool gone(int rank) const = 0;
    virtual std::vector<Position> positions() const = 0;
    virtual TimePoint now() const { return Clock::now(); }
    /// A limit or an epoch has changed: who waits for that looks again.
    virtual void changed() = 0;
  };

  EpochDesk(Host& host, int rank, int size, std::size_t links);

  /// From this region's steward: what a link carries now; called about every 100 ms while it is used.
  void measured(std::uint32_t link, double share);
  void handle(int from, std::string_view note);

  /// Changes whenever the answers below may.
  std::uint64_t version() const noexcept { return version_; }
  /// The first collective of a communicator that may not start yet.
  std::uint32_t limit(std::uint64_t comm) const;
  /// From which epoch a communicator plans collective `seq`; `birth`: the epoch it began with.
  std::size_t epoch_of(std::uint64_t comm, std::uint32_t seq, std::size_t birth) const;
  /// The first collective after `seq` for which that changes; kNoLimit: none known.
  std::uint32_t next_change(std::uint64_t comm, std::uint32_t seq) const;
  const PlanningEpoch& epoch(std::size_t number) const { return epochs_[number]; }
  std::size_t latest() const noexcept { return epochs_.size() - 1; }

  int wait_fd() const noexcept override { return -1; }
  void poll() override;
  TimePoint next_deadline() const override { return give_up_at_; }

 private:
  enum class Kind : std::uint8_t { kShare = 1, kPrepare, kReady, kCommit };
  struct Smoothed {
    double share = 1;
    TimePoint at{};
    TimePoint since{};  // it differs much from what is planned with
    TimePoint told{};
  };

  bool differs(std::uint32_t link, double share) const;
  void take_share(std::uint32_t link, double share);
  void propose();
  void prepare(std::uint32_t number);
  void take_ready(int from, std::uint32_t number, const std::vector<Position>& limits);
  void decide();
  void commit(std::uint32_t number, std::vector<double> shares, const std::vector<Position>& from);
  void broadcast(const std::string& note);

  Host& host_;
  int rank_;
  int size_;
  std::vector<PlanningEpoch> epochs_;
  std::vector<Smoothed> smoothed_;  // at a steward
  std::map<std::uint64_t, std::vector<std::pair<std::uint32_t, std::size_t>>> switches_;  // first collective, epoch
  std::uint64_t version_ = 0;
  bool preparing_ = false;          // there are limits
  std::uint32_t preparing_number_ = 0;
  std::map<std::uint64_t, std::uint32_t> limits_;

  // At rank 0:
  std::vector<double> wanted_;      // shares as the stewards tell them
  bool proposing_ = false;
  std::uint32_t proposal_ = 0;
  std::vector<bool> answered_;
  std::map<std::uint64_t, std::uint32_t> from_;
  TimePoint give_up_at_ = TimePoint::max();
  TimePoint not_before_{};          // the next proposal
};

}  // namespace longspan::runtime
