#include "bootstrap/root_cause.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

namespace longspan::bootstrap {
namespace {

constexpr std::size_t kNamedAtMost = 4;  // ranks that a message spells out

/// One failure with what the rules need of it at hand.
class Inquest {
 public:
  explicit Inquest(const Case& c) : case_(c) {
    for (const Fault& f : c.faults) {
      if (f.seq != kNoSeq) seq_ = seq_ ? std::min(*seq_, f.seq) : f.seq;
    }
    for (const RankState& r : c.ranks) {
      if (r.report && r.report->member && r.report->call && !call_) call_ = r.report->call;
    }
  }

  Verdict decide() const {
    using Rule = std::optional<Verdict> (Inquest::*)() const;
    for (const Rule rule :
         {&Inquest::gone, &Inquest::aborted, &Inquest::mismatch, &Inquest::own_error, &Inquest::silent,
          &Inquest::broken_link, &Inquest::not_entered, &Inquest::silent_bystander, &Inquest::chain_of_waits}) {
      if (auto verdict = (this->*rule)()) return *verdict;
    }
    const Fault& first = case_.faults.front();
    return make(first.blamed >= 0 ? first.blamed : first.reporter, first.code, first.text);
  }

 private:
  Verdict make(int root, StatusCode code, std::string text) const {
    return Verdict{case_.comm, seq_.value_or(kNoSeq), root, code, std::move(text)};
  }

  std::string name(int rank) const { return case_.describe ? case_.describe(rank) : fmt::format("rank {}", rank); }

  std::string names(const std::vector<int>& ranks) const {
    std::string out;
    for (std::size_t i = 0; i < ranks.size() && i < kNamedAtMost; ++i) {
      out += fmt::format("{}{}", i == 0 ? "" : i + 1 == ranks.size() ? " and " : ", ", name(ranks[i]));
    }
    if (ranks.size() > kNamedAtMost) out += fmt::format(" and {} more", ranks.size() - kNamedAtMost);
    return out;
  }

  /// "allreduce #7".
  std::string operation() const {
    if (!seq_) return "an operation";
    return fmt::format("{} #{}", call_ ? name_of(call_->kind) : "collective", *seq_);
  }

  bool exists(int rank) const { return rank >= 0 && static_cast<std::size_t>(rank) < case_.ranks.size(); }
  const RankState& state(int rank) const { return case_.ranks[static_cast<std::size_t>(rank)]; }
  int size() const { return static_cast<int>(case_.ranks.size()); }
  const WaitReport* report(int rank) const {
    const auto& r = state(rank).report;
    return r && r->member ? &*r : nullptr;
  }

  /// Who waits for `rank` or blames it; -1: nobody.
  int who_needs(int rank) const {
    for (const Fault& f : case_.faults) {
      if (f.blamed == rank && f.reporter != rank) return f.reporter;
    }
    for (int i = 0; i < size(); ++i) {
      const WaitReport* r = report(i);
      if (r && std::find(r->waiting_on.begin(), r->waiting_on.end(), rank) != r->waiting_on.end()) return i;
    }
    return -1;
  }

  std::optional<Verdict> gone() const {
    for (int i = 0; i < size(); ++i) {
      const Life life = state(i).life;
      if (life == Life::kAlive || who_needs(i) < 0) continue;
      if (life != Life::kLeft) {
        Verdict v = death_verdict({i}, life == Life::kDead, case_.describe);
        v.comm = case_.comm;
        v.seq = seq_.value_or(kNoSeq);
        return v;
      }
      return make(i, StatusCode::kPeerLost,
                  fmt::format("{} closed its communicator and left, while {} waits for it in {}", name(i),
                              name(who_needs(i)), operation()));
    }
    return std::nullopt;
  }

  const Fault* first_with(StatusCode code) const {
    const auto found =
        std::find_if(case_.faults.begin(), case_.faults.end(), [&](const Fault& f) { return f.code == code; });
    return found == case_.faults.end() ? nullptr : &*found;
  }

  std::optional<Verdict> aborted() const {
    const Fault* f = first_with(StatusCode::kAborted);
    return f ? std::optional(make(f->reporter, f->code, f->text)) : std::nullopt;
  }

  /// What differs first between two calls: "count 1000" and "count 1024".
  static std::pair<std::string, std::string> difference(const CallDescriptor& a, const CallDescriptor& b) {
    if (a.kind != b.kind) return {std::string(name_of(a.kind)), std::string(name_of(b.kind))};
    if (a.count != b.count) return {fmt::format("count {}", a.count), fmt::format("count {}", b.count)};
    if (a.type != b.type) return {fmt::format("type {}", name_of(a.type)), fmt::format("type {}", name_of(b.type))};
    if (a.op != b.op) return {fmt::format("op {}", name_of(a.op)), fmt::format("op {}", name_of(b.op))};
    if (a.root != b.root) return {fmt::format("root {}", a.root), fmt::format("root {}", b.root)};
    if (a.algorithm != b.algorithm) {
      return {fmt::format("algorithm {}", a.algorithm), fmt::format("algorithm {}", b.algorithm)};
    }
    return {fmt::format("plan {:016x}", a.digest), fmt::format("plan {:016x}", b.digest)};
  }

  std::optional<Verdict> mismatch() const {
    // Groups of equal calls; the largest is what was meant, or the one with the lowest rank.
    std::vector<std::pair<CallDescriptor, std::vector<int>>> groups;
    for (int i = 0; i < size(); ++i) {
      const WaitReport* r = report(i);
      if (!r || !r->call || !seq_ || r->seq != *seq_) continue;
      auto same = std::find_if(groups.begin(), groups.end(), [&](const auto& g) { return g.first == *r->call; });
      if (same == groups.end()) same = groups.insert(groups.end(), {*r->call, {}});
      same->second.push_back(i);
    }
    if (groups.size() < 2) {
      const Fault* f = first_with(StatusCode::kMismatch);
      return f ? std::optional(make(f->blamed >= 0 ? f->blamed : f->reporter, f->code, f->text)) : std::nullopt;
    }
    std::sort(groups.begin(), groups.end(), [](const auto& a, const auto& b) {
      return a.second.size() != b.second.size() ? a.second.size() > b.second.size()
                                                : a.second.front() < b.second.front();
    });
    const auto& [meant, many] = groups[0];
    const auto& [other, few] = groups[1];
    const auto [theirs, ours] = difference(other, meant);
    const std::string rest = many.size() == 1 ? name(many[0])
                             : groups.size() == 2 ? fmt::format("the other {} ranks", many.size())
                                                  : fmt::format("{} ranks", many.size());
    const bool other_kind = other.kind != meant.kind;
    std::string text = other_kind
                           ? fmt::format("collective #{}: {} called {}, {} {}", *seq_, names(few), theirs, rest, ours)
                           : fmt::format("{} called {} #{} with {}, {} with {}", names(few), name_of(meant.kind), *seq_,
                                         theirs, rest, ours);
    if (groups.size() > 2) text += fmt::format("; {} different calls in all", groups.size());
    return make(few.front(), StatusCode::kMismatch, std::move(text));
  }

  std::optional<Verdict> own_error() const {
    for (const Fault& f : case_.faults) {
      if (f.code == StatusCode::kTimeout || f.code == StatusCode::kPeerLost || f.code == StatusCode::kMismatch) {
        continue;
      }
      return make(f.reporter, f.code, f.text);
    }
    return std::nullopt;
  }

  std::optional<Verdict> silent() const {
    for (int i = 0; i < size(); ++i) {
      if (mute(i) && who_needs(i) >= 0) return does_not_answer(i);
    }
    return std::nullopt;
  }

  /// Nobody says that it waits for that rank, which may not even be a member: worth naming only when nothing else is.
  std::optional<Verdict> silent_bystander() const {
    for (int i = 0; i < size(); ++i) {
      if (mute(i)) return does_not_answer(i);
    }
    return std::nullopt;
  }

  bool mute(int rank) const { return state(rank).life == Life::kAlive && !state(rank).report; }

  Verdict does_not_answer(int rank) const {
    return make(
        rank, StatusCode::kTimeout,
        fmt::format("{} does not answer and is silent since {:.1f} s: it is stopped, overloaded, or cut off from the "
                    "network; {} cannot finish",
                    name(rank), state(rank).silent_seconds, operation()));
  }

  std::optional<Verdict> broken_link() const {
    const Fault* f = first_with(StatusCode::kPeerLost);
    if (!f) return std::nullopt;
    const std::string peer = exists(f->blamed) ? name(f->blamed) : "a peer";
    return make(f->blamed, f->code,
                fmt::format("the connection from {} to {} broke in {} while both run ({})", name(f->reporter), peer,
                            operation(), f->text));
  }

  std::optional<Verdict> not_entered() const {
    if (!seq_) return std::nullopt;
    std::vector<int> late;
    for (int i = 0; i < size(); ++i) {
      const WaitReport* r = report(i);
      if (!r || r->next_seq > *seq_) continue;
      if (!late.empty() && r->next_seq > report(late.front())->next_seq) continue;
      if (!late.empty() && r->next_seq < report(late.front())->next_seq) late.clear();
      late.push_back(i);
    }
    if (late.empty()) return std::nullopt;
    const WaitReport& r = *report(late.front());
    const std::string at = r.next_seq == 0 ? std::string("it has called no collective yet")
                           : r.busy ? fmt::format("still in #{}", r.next_seq - 1)
                                    : fmt::format("its last was #{}, and it runs none", r.next_seq - 1);
    return make(late.front(), StatusCode::kTimeout,
                fmt::format("{} did not finish in time: {} {} not entered it ({})", operation(), names(late),
                            late.size() == 1 ? "has" : "have", at));
  }

  std::optional<Verdict> chain_of_waits() const {
    if (!seq_) return std::nullopt;
    int at = case_.faults.front().reporter;
    std::vector<bool> seen(case_.ranks.size(), false);
    std::string chain;
    int root = -1;
    while (exists(at) && !seen[static_cast<std::size_t>(at)]) {
      seen[static_cast<std::size_t>(at)] = true;
      root = at;
      const WaitReport* r = report(at);
      if (!r || r->waiting_on.empty() || !exists(r->waiting_on.front())) break;
      const int next = r->waiting_on.front();
      chain += fmt::format("{}{} waits for {}{}", chain.empty() ? "" : ", ", name(at), name(next),
                           r->step >= 0 ? fmt::format(" at step {}", r->step) : "");
      at = next;
    }
    if (chain.empty()) return std::nullopt;
    return make(
        root, StatusCode::kTimeout,
        fmt::format("{} did not finish in time though all ranks are in it: {}; a link may be slower than planned, or "
                    "the deadline too short",
                    operation(), chain));
  }

  const Case& case_;
  std::optional<std::uint64_t> seq_;
  std::optional<CallDescriptor> call_;
};

}  // namespace

Verdict find_root_cause(const Case& c) { return Inquest(c).decide(); }

Verdict death_verdict(const std::vector<int>& ranks, bool witnessed,
                      const std::function<std::string(int rank)>& describe) {
  std::string who;
  for (std::size_t i = 0; i < ranks.size() && i < kNamedAtMost; ++i) {
    who += fmt::format("{}{}", i == 0 ? "" : i + 1 == ranks.size() ? " and " : ", ",
                       describe ? describe(ranks[i]) : fmt::format("rank {}", ranks[i]));
  }
  if (ranks.size() > kNamedAtMost) who += fmt::format(" and {} more", ranks.size() - kNamedAtMost);
  const char* how = witnessed ? "died: the process ended without saying goodbye"
                              : "died or was cut off: the connection ended without a goodbye";
  return Verdict{kEveryCommunicator, kNoSeq, ranks.empty() ? -1 : ranks.front(), StatusCode::kPeerLost,
                 fmt::format("{} {}", who, how)};
}

}  // namespace longspan::bootstrap
