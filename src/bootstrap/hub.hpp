#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <string>
#include <vector>

#include "base/clock.hpp"
#include "bootstrap/messages.hpp"
#include "bootstrap/root_cause.hpp"

namespace longspan::bootstrap {

struct HubOptions {
  Duration collect = std::chrono::milliseconds(350);  ///< how long ranks may take to answer a question
  Duration silence = std::chrono::milliseconds(2500);  ///< who has not been heard for so long is not waited for
  Duration settle = std::chrono::milliseconds(50);    ///< deaths within this time share one verdict
  Duration witness = std::chrono::milliseconds(300);  ///< how long to wait for a second rank that saw a death
  std::function<std::string(int rank)> describe;
};

/// Decides for all ranks what went wrong. Lives on rank 0 and on the standby; that one is passive until rank 0 is gone.
/// No sockets and no clock: events come in with their time, and what is to be sent goes out through `Outlet`.
class Hub {
 public:
  class Outlet {
   public:
    virtual ~Outlet() = default;
    virtual void send(int rank, const ControlMessage& message) = 0;  ///< never to the hub itself
    virtual void decided(const Verdict& verdict) = 0;                ///< to be told to all ranks
    virtual WaitReport own_report(std::uint64_t comm, std::uint64_t seq) = 0;
  };

  /// `witnesses`: another rank may confirm that a rank ended.
  Hub(int self, int size, bool active, bool witnesses, HubOptions options, Outlet& outlet, TimePoint now);

  void fault(int reporter, Fault fault, TimePoint now);
  void report(int from, std::uint32_t inquiry, WaitReport report, TimePoint now);
  void heard(int rank, TimePoint now) { ranks_[static_cast<std::size_t>(rank)].heard = now; }
  void left(int rank);
  void lost(int rank, TimePoint now);
  void witnessed(int rank, TimePoint now);
  /// Its death is known to all.
  void announced(int rank);
  /// From passive to active: rank 0 is gone, or does not answer.
  void activate() { active_ = true; }
  bool active() const noexcept { return active_; }
  Duration silence(int rank, TimePoint now) const { return now - ranks_[static_cast<std::size_t>(rank)].heard; }
  Life life(int rank) const { return ranks_[static_cast<std::size_t>(rank)].life; }

  /// Decides what is due.
  void tick(TimePoint now);
  TimePoint next_deadline() const;

 private:
  struct Rank {
    Life life = Life::kAlive;
    TimePoint heard;
    TimePoint lost_at;
    bool seen_by_other = false;
    bool announced = false;  // its death
  };
  /// A failure under investigation.
  struct Inquiry {
    std::uint32_t id = 0;
    std::uint64_t seq = kNoSeq;
    Case facts;
    TimePoint not_before;  // a broken connection may be the first sign of a death that shows itself later
    TimePoint due;
  };

  void open(Fault fault, TimePoint now);
  TimePoint due(const Inquiry& inquiry) const;
  void announce_deaths(TimePoint now);
  void decide(const Verdict& verdict);
  const Verdict* decided_for(std::uint64_t comm) const;
  TimePoint death_due(const Rank& rank) const;

  int self_;
  bool active_;
  bool witnesses_;
  HubOptions options_;
  Outlet& outlet_;
  std::vector<Rank> ranks_;
  std::vector<Inquiry> inquiries_;
  std::deque<Verdict> decided_;
  std::uint32_t next_inquiry_ = 1;
};

}  // namespace longspan::bootstrap
