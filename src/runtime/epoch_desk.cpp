#include "runtime/epoch_desk.hpp"

#include <algorithm>
#include <bit>
#include <cmath>

#include "base/log.hpp"
#include "bootstrap/wire.hpp"

namespace longspan::runtime {
namespace {

using namespace std::chrono_literals;
using bootstrap::Reader;
using bootstrap::Writer;

constexpr double kMuch = 0.15;           // by which a link must differ from what plans are made from
constexpr Duration kSmoothing = 300ms;
constexpr Duration kLasting = 1s;
constexpr Duration kTellAgain = 1s;
constexpr Duration kBetweenEpochs = 10s;
constexpr Duration kPatience = 5s;       // of rank 0 with ranks that do not answer
constexpr std::uint32_t kAhead = 4;      // collectives that may start before all have agreed
constexpr std::size_t kMaxCommunicators = 3000;  // what a note has room for

std::uint64_t bits(double value) { return std::bit_cast<std::uint64_t>(value); }

bool sane(double share) { return share > 0 && share <= 1; }

void put(Writer& to, const std::vector<EpochDesk::Position>& positions) {
  to.u32(static_cast<std::uint32_t>(positions.size()));
  for (const auto& [comm, seq] : positions) {
    to.u64(comm);
    to.u32(seq);
  }
}

std::vector<EpochDesk::Position> get_positions(Reader& from) {
  std::vector<EpochDesk::Position> positions(from.count(12));
  for (auto& [comm, seq] : positions) {
    comm = from.u64();
    seq = from.u32();
  }
  return positions;
}

}  // namespace

EpochDesk::EpochDesk(Host& host, int rank, int size, std::size_t links)
    : host_(host), rank_(rank), size_(size), epochs_{PlanningEpoch{std::vector<double>(links, 1.0)}}, smoothed_(links),
      wanted_(links, 1.0) {}

bool EpochDesk::differs(std::uint32_t link, double share) const {
  const double planned = epochs_.back().shares[link];
  return std::abs(share - planned) > kMuch * planned || (share >= 1 && planned < 1);
}

void EpochDesk::measured(std::uint32_t link, double share) {
  Smoothed& seen = smoothed_[link];
  const TimePoint now = host_.now();
  const double passed = std::chrono::duration<double>(now - seen.at) / std::chrono::duration<double>(kSmoothing);
  seen.at = now;
  seen.share += (share - seen.share) * std::min(1.0, passed);
  if (share >= 1 && seen.share > 0.99) seen.share = 1;
  if (!differs(link, seen.share)) {
    seen.since = TimePoint::max();
    return;
  }
  if (seen.since == TimePoint::max() || seen.since == TimePoint{}) seen.since = now;
  if (now - seen.since < kLasting || now - seen.told < kTellAgain) return;
  seen.told = now;
  if (rank_ == 0) return take_share(link, seen.share);
  Writer note;
  note.u8(static_cast<std::uint8_t>(Kind::kShare));
  note.u32(link);
  note.u64(bits(seen.share));
  host_.send(0, std::move(note).take());
}

void EpochDesk::handle(int from, std::string_view bytes) {
  Reader in(bytes);
  const auto kind = static_cast<Kind>(in.u8());
  const std::uint32_t number = in.u32();  // of the epoch; of a share: its link
  if (kind == Kind::kShare) {
    const double share = std::bit_cast<double>(in.u64());
    if (rank_ == 0 && in.ok() && number < wanted_.size() && sane(share)) take_share(number, share);
  } else if (kind == Kind::kPrepare && from == 0) {
    if (in.ok()) prepare(number);
  } else if (kind == Kind::kReady && rank_ == 0) {
    const std::vector<Position> limits = get_positions(in);
    if (in.ok()) take_ready(from, number, limits);
  } else if (kind == Kind::kCommit && from == 0) {
    std::vector<double> shares(in.count(8));
    for (double& share : shares) share = std::bit_cast<double>(in.u64());
    const std::vector<Position> positions = get_positions(in);
    const bool whole =
        shares.empty() || (shares.size() == smoothed_.size() && std::all_of(shares.begin(), shares.end(), sane));
    if (in.ok() && whole) commit(number, std::move(shares), positions);
  }
}

// ---- rank 0 ----

void EpochDesk::take_share(std::uint32_t link, double share) {
  wanted_[link] = share;
  if (proposing_ || host_.now() < not_before_ || !differs(link, share)) return;
  propose();
}

void EpochDesk::propose() {
  proposing_ = true;
  ++proposal_;
  give_up_at_ = host_.now() + kPatience;
  not_before_ = host_.now() + kBetweenEpochs;
  answered_.assign(static_cast<std::size_t>(size_), false);
  from_.clear();
  Writer note;
  note.u8(static_cast<std::uint8_t>(Kind::kPrepare));
  note.u32(proposal_);
  broadcast(std::move(note).take());
  prepare(proposal_);
}

void EpochDesk::broadcast(const std::string& note) {
  for (int rank = 1; rank < size_; ++rank) {
    if (!host_.gone(rank)) host_.send(rank, note);
  }
}

void EpochDesk::take_ready(int from, std::uint32_t number, const std::vector<Position>& limits) {
  if (!proposing_ || number != proposal_) return;
  for (const auto& [comm, limit] : limits) from_[comm] = std::max(from_[comm], limit);
  answered_[static_cast<std::size_t>(from)] = true;
  for (int rank = 0; rank < size_; ++rank) {
    if (!answered_[static_cast<std::size_t>(rank)] && !host_.gone(rank)) return;
  }
  decide();
}

void EpochDesk::decide() {
  proposing_ = false;
  give_up_at_ = TimePoint::max();
  const std::vector<Position> from(from_.begin(), from_.end());
  const bool fits = from.size() <= kMaxCommunicators;
  if (!fits) {
    log::warn("{} communicators are too many to plan again from measured rates; they keep their plans", from.size());
  }
  Writer note;
  note.u8(static_cast<std::uint8_t>(Kind::kCommit));
  note.u32(proposal_);
  note.u32(static_cast<std::uint32_t>(fits ? wanted_.size() : 0));
  for (std::size_t i = 0; fits && i < wanted_.size(); ++i) note.u64(bits(wanted_[i]));
  put(note, fits ? from : std::vector<Position>{});
  broadcast(std::move(note).take());
  commit(proposal_, fits ? wanted_ : std::vector<double>{}, from);
}

void EpochDesk::poll() {
  if (!proposing_ || host_.now() < give_up_at_) return;
  proposing_ = false;
  give_up_at_ = TimePoint::max();
  log::debug("epochs: not every rank answered; plans stay as they are");
  Writer note;
  note.u8(static_cast<std::uint8_t>(Kind::kCommit));
  note.u32(proposal_);
  note.u32(0);
  put(note, {});
  broadcast(std::move(note).take());
  commit(proposal_, {}, {});
}

// ---- every rank ----

void EpochDesk::prepare(std::uint32_t number) {
  std::vector<Position> limits = host_.positions();
  for (auto& [comm, seq] : limits) seq += kAhead;
  limits_ = std::map(limits.begin(), limits.end());
  preparing_ = true;
  preparing_number_ = number;
  ++version_;
  if (rank_ == 0) return take_ready(0, number, limits);
  Writer note;
  note.u8(static_cast<std::uint8_t>(Kind::kReady));
  note.u32(number);
  if (limits.size() > kMaxCommunicators) limits.resize(kMaxCommunicators + 1);  // too many: rank 0 sees it
  put(note, limits);
  host_.send(0, std::move(note).take());
}

/// No shares: all stays as it is.
void EpochDesk::commit(std::uint32_t number, std::vector<double> shares, const std::vector<Position>& from) {
  if (!preparing_ || number != preparing_number_) return;
  preparing_ = false;
  limits_.clear();
  ++version_;
  if (!shares.empty()) {
    epochs_.push_back(PlanningEpoch{std::move(shares)});
    for (const auto& [comm, first] : from) switches_[comm].emplace_back(first, latest());
    for (Smoothed& each : smoothed_) each.since = TimePoint::max();
    log::debug("epochs: {} begins, for {} communicators", latest(), from.size());
  }
  host_.changed();
}

std::uint32_t EpochDesk::limit(std::uint64_t comm) const {
  // Without rank 0 nobody hears more.
  if (!preparing_ || (rank_ != 0 && host_.gone(0))) return kNoLimit;
  const auto found = limits_.find(comm);
  return found == limits_.end() ? kAhead : found->second;
}

std::size_t EpochDesk::epoch_of(std::uint64_t comm, std::uint32_t seq, std::size_t birth) const {
  const auto found = switches_.find(comm);
  if (found == switches_.end()) return birth;
  std::size_t epoch = birth;
  for (const auto& [first, number] : found->second) {
    if (first <= seq) epoch = std::max(epoch, number);
  }
  return epoch;
}

std::uint32_t EpochDesk::next_change(std::uint64_t comm, std::uint32_t seq) const {
  std::uint32_t next = kNoLimit;
  const auto found = switches_.find(comm);
  if (found == switches_.end()) return next;
  for (const auto& [first, number] : found->second) {
    if (first > seq) next = std::min(next, first);
  }
  return next;
}

}  // namespace longspan::runtime
