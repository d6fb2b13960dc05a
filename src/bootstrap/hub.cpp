#include "bootstrap/hub.hpp"

#include <algorithm>

namespace longspan::bootstrap {
namespace {

constexpr std::size_t kMaxInquiries = 256;  // at a time; a rank gone mad must not fill the memory
constexpr std::size_t kMaxFaults = 64;      // kept of one inquiry
constexpr std::size_t kMaxDecided = 1024;   // verdicts remembered for late reporters

}  // namespace

Hub::Hub(int self, int size, bool active, bool witnesses, HubOptions options, Outlet& outlet, TimePoint now)
    : self_(self), active_(active), witnesses_(witnesses), options_(std::move(options)), outlet_(outlet),
      ranks_(static_cast<std::size_t>(size)) {
  for (Rank& rank : ranks_) rank.heard = now;
}

const Verdict* Hub::decided_for(std::uint64_t comm) const {
  const auto found = std::find_if(decided_.begin(), decided_.end(), [&](const Verdict& v) { return v.comm == comm; });
  return found == decided_.end() ? nullptr : &*found;
}

void Hub::decide(const Verdict& verdict) {
  decided_.push_back(verdict);
  if (decided_.size() > kMaxDecided) decided_.pop_front();
  outlet_.decided(verdict);
}

void Hub::fault(int reporter, Fault fault, TimePoint now) {
  fault.reporter = reporter;
  const int size = static_cast<int>(ranks_.size());
  if (fault.blamed < 0 || fault.blamed >= size) fault.blamed = -1;
  if (const Verdict* known = decided_for(fault.comm)) {
    ControlMessage again;
    again.type = ControlType::kVerdict;
    again.verdict = *known;
    if (reporter != self_) outlet_.send(reporter, again);
    return;
  }
  if (fault.code == StatusCode::kAborted) {
    // Needs no inquiry, and abort() is to return promptly everywhere.
    decide(Verdict{fault.comm, fault.seq, reporter, fault.code, fault.text});
    std::erase_if(inquiries_, [&](const Inquiry& i) { return i.facts.comm == fault.comm; });
    return;
  }
  const auto open_one =
      std::find_if(inquiries_.begin(), inquiries_.end(), [&](const Inquiry& i) { return i.facts.comm == fault.comm; });
  if (open_one == inquiries_.end()) return open(std::move(fault), now);
  if (open_one->facts.faults.size() < kMaxFaults) open_one->facts.faults.push_back(std::move(fault));
}

void Hub::open(Fault fault, TimePoint now) {
  if (inquiries_.size() >= kMaxInquiries) return;
  Inquiry inquiry;
  inquiry.id = next_inquiry_++;
  inquiry.seq = fault.seq;
  inquiry.due = now + options_.collect;
  inquiry.not_before = fault.code == StatusCode::kPeerLost ? std::min(inquiry.due, now + options_.witness) : now;
  inquiry.facts.comm = fault.comm;
  inquiry.facts.describe = options_.describe;
  inquiry.facts.ranks.resize(ranks_.size());
  ControlMessage query;
  query.type = ControlType::kQuery;
  query.inquiry = inquiry.id;
  query.report.comm = fault.comm;
  query.report.seq = fault.seq;
  inquiry.facts.faults.push_back(std::move(fault));
  for (std::size_t i = 0; i < ranks_.size(); ++i) {
    if (static_cast<int>(i) == self_) {
      inquiry.facts.ranks[i].report = outlet_.own_report(query.report.comm, query.report.seq);
    } else if (ranks_[i].life == Life::kAlive) {
      outlet_.send(static_cast<int>(i), query);
    }
  }
  inquiries_.push_back(std::move(inquiry));
}

void Hub::report(int from, std::uint32_t inquiry, WaitReport report, TimePoint) {
  const auto found =
      std::find_if(inquiries_.begin(), inquiries_.end(), [&](const Inquiry& i) { return i.id == inquiry; });
  if (found == inquiries_.end() || report.comm != found->facts.comm) return;
  found->facts.ranks[static_cast<std::size_t>(from)].report = std::move(report);
}

void Hub::left(int rank) {
  Rank& r = ranks_[static_cast<std::size_t>(rank)];
  if (r.life == Life::kAlive) r.life = Life::kLeft;
}

void Hub::lost(int rank, TimePoint now) {
  Rank& r = ranks_[static_cast<std::size_t>(rank)];
  if (r.life != Life::kAlive) return;
  r.life = r.seen_by_other ? Life::kDead : Life::kLost;
  r.lost_at = now;
}

void Hub::witnessed(int rank, TimePoint) {
  if (rank < 0 || static_cast<std::size_t>(rank) >= ranks_.size()) return;
  Rank& r = ranks_[static_cast<std::size_t>(rank)];
  r.seen_by_other = true;
  if (r.life == Life::kLost) r.life = Life::kDead;
}

void Hub::announced(int rank) {
  if (rank >= 0 && static_cast<std::size_t>(rank) < ranks_.size()) {
    ranks_[static_cast<std::size_t>(rank)].announced = true;
  }
}

TimePoint Hub::death_due(const Rank& rank) const {
  return rank.lost_at + (rank.life == Life::kLost && witnesses_ ? options_.witness : options_.settle);
}

void Hub::announce_deaths(TimePoint now) {
  const auto pending = [](const Rank& r) { return (r.life == Life::kLost || r.life == Life::kDead) && !r.announced; };
  if (std::none_of(ranks_.begin(), ranks_.end(), [&](const Rank& r) { return pending(r) && now >= death_due(r); })) {
    return;
  }
  std::vector<int> dead;
  bool all_witnessed = true;
  for (std::size_t i = 0; i < ranks_.size(); ++i) {
    if (!pending(ranks_[i])) continue;
    dead.push_back(static_cast<int>(i));
    ranks_[i].announced = true;
    all_witnessed = all_witnessed && ranks_[i].life == Life::kDead;
  }
  decide(death_verdict(dead, all_witnessed, options_.describe));
}

/// When it is decided, unless more is heard: what silent ranks would say is not waited for.
TimePoint Hub::due(const Inquiry& inquiry) const {
  TimePoint last = inquiry.not_before;
  for (std::size_t i = 0; i < ranks_.size(); ++i) {
    if (ranks_[i].life == Life::kAlive && !inquiry.facts.ranks[i].report) {
      last = std::max(last, ranks_[i].heard + options_.silence);
    }
  }
  return std::min(last, inquiry.due);
}

void Hub::tick(TimePoint now) {
  if (!active_) return;
  announce_deaths(now);
  for (std::size_t i = 0; i < inquiries_.size();) {
    Inquiry& inquiry = inquiries_[i];
    if (now < due(inquiry)) {
      ++i;
      continue;
    }
    for (std::size_t r = 0; r < ranks_.size(); ++r) {
      inquiry.facts.ranks[r].life = ranks_[r].life;
      inquiry.facts.ranks[r].silent_seconds = std::chrono::duration<double>(now - ranks_[r].heard).count();
    }
    const Verdict verdict = find_root_cause(inquiry.facts);
    inquiries_.erase(inquiries_.begin() + static_cast<std::ptrdiff_t>(i));
    decide(verdict);
  }
}

TimePoint Hub::next_deadline() const {
  TimePoint next = TimePoint::max();
  if (!active_) return next;
  for (const Inquiry& inquiry : inquiries_) next = std::min(next, due(inquiry));
  for (const Rank& rank : ranks_) {
    if ((rank.life == Life::kLost || rank.life == Life::kDead) && !rank.announced) {
      next = std::min(next, death_due(rank));
    }
  }
  return next;
}

}  // namespace longspan::bootstrap
