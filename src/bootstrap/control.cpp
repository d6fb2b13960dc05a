#include "bootstrap/control.hpp"

#include <fmt/format.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>

#include "base/log.hpp"

namespace longspan::bootstrap {
namespace {

using std::chrono::milliseconds;

// Keys of the epoll set: ranks by number, then these.
constexpr std::uint64_t kListenerKey = std::uint64_t{1} << 40;
constexpr std::uint64_t kFirstStranger = kListenerKey + 1;
constexpr std::chrono::seconds kStrangerLimit{10};
// Longer than the standby takes to decide on a death, so that all ranks have it from one mouth.
constexpr milliseconds kHubGrace{700};
// A hub that is stopped or cut off asks nothing; the standby then does. Together with what that one takes to collect,
// this is less than a rank waits for a verdict before it reports what it knows itself.
constexpr milliseconds kHubAnswer{450};
constexpr std::size_t kMaxNotes = 4096;  // that nobody took
constexpr std::size_t kUnread = 1U << 20;  // a peer that reads nothing gets no more heartbeats

ControlMessage of_type(ControlType type) {
  ControlMessage m;
  m.type = type;
  return m;
}

}  // namespace

ControlPlane::ControlPlane(Rendezvous met, ControlOptions options)
    : rank_(met.rank),
      size_(met.size),
      job_(met.job),
      standby_(met.links.standby),
      standby_at_(std::move(met.links.standby_at)),
      standby_listener_(std::move(met.links.standby_listener)),
      guard_(std::move(met.links.guard)),
      options_(std::move(options)),
      next_stranger_(kFirstStranger) {
  const TimePoint now = Clock::now();
  if (!options_.hub.describe) {
    options_.hub.describe = [hosts = met.hosts](int rank) {
      return fmt::format("rank {} (host {})", rank, hosts[static_cast<std::size_t>(rank)]);
    };
  }
  hub_ =
      std::make_unique<Hub>(rank_, size_, rank_ == 0, size_ > 2, options_.hub, static_cast<Hub::Outlet&>(*this), now);
  next_heartbeat_ = size_ > 1 ? now + options_.heartbeat : TimePoint::max();
  for (std::size_t i = 0; i < met.links.to_rank.size(); ++i) {
    if (!met.links.to_rank[i].valid()) continue;
    Link& link = links_[static_cast<int>(i)];
    link.stream = std::move(met.links.to_rank[i]);
    link.last_sent = now;
  }
}

ControlPlane::~ControlPlane() { close(); }

Result<std::unique_ptr<ControlPlane>> ControlPlane::create(Rendezvous met, ControlOptions options) {
  std::unique_ptr<ControlPlane> control(new ControlPlane(std::move(met), std::move(options)));
  LONGSPAN_TRY(control->start());
  return control;
}

Status ControlPlane::start() {
  epoll_ = Fd(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll_.valid()) return system_error("epoll_create1", errno);
  for (auto& [rank, link] : links_) {
    if (!watch(static_cast<std::uint64_t>(rank), link.stream.fd(), false, true)) {
      return system_error("epoll_ctl", errno);
    }
  }
  if (standby_listener_.valid() && !watch(kListenerKey, standby_listener_.get(), false, true)) {
    return system_error("epoll_ctl", errno);
  }
  if (!is_hub() && standby_ >= 0) connect_standby();
  return {};
}

bool ControlPlane::watch(std::uint64_t key, int fd, bool write, bool fresh) {
  epoll_event event = {};
  event.events = write ? EPOLLIN | EPOLLOUT : EPOLLIN;
  event.data.u64 = key;
  return ::epoll_ctl(epoll_.get(), fresh ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, fd, &event) == 0;
}

TimePoint ControlPlane::next_deadline() const {
  if (closed_) return TimePoint::max();
  TimePoint next = std::min({next_heartbeat_, retry_standby_, hub_->next_deadline()});
  for (const OpenFault& open : open_faults_) next = std::min(next, open.answer_due);
  if (hub_lost_at_ != TimePoint::max()) next = std::min(next, hub_lost_at_ + kHubGrace);
  return next;
}

void ControlPlane::poll() {
  if (closed_) return;
  std::array<epoll_event, 64> events;
  while (true) {
    const int n = ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), 0);
    for (int i = 0; i < n; ++i) {
      dispatch(events[static_cast<std::size_t>(i)].data.u64, events[static_cast<std::size_t>(i)].events);
    }
    if (n < static_cast<int>(events.size())) break;
  }
  timers(Clock::now());
}

void ControlPlane::dispatch(std::uint64_t key, std::uint32_t events) {
  if (key == kListenerKey) return accept_strangers();
  if (key >= kFirstStranger) return read_stranger(key);
  const auto found = links_.find(static_cast<int>(key));
  if (found == links_.end()) return;  // ended by an earlier event of this round
  if (found->second.connecting) return standby_connected();
  if (!found->second.writer.empty()) flush(key, found->second);
  if ((events & ~std::uint32_t{EPOLLOUT}) != 0) read_link(static_cast<int>(key));
}

void ControlPlane::read_link(int rank) {
  while (true) {
    const auto found = links_.find(rank);  // a message may end the link
    if (found == links_.end()) return;
    Link& link = found->second;
    switch (link.reader.read(link.stream)) {
      case FrameReader::State::kNeedMore: return;
      case FrameReader::State::kClosed: return link_ended(rank);
      case FrameReader::State::kMalformed:
        log::warn("control plane: {} sent what is not a message", options_.hub.describe(rank));
        return link_ended(rank);
      case FrameReader::State::kFrame: break;
    }
    hub_->heard(rank, Clock::now());
    auto message = decode_control(link.reader.take());
    if (!message.ok()) {
      log::warn("control plane: {} sent {}", options_.hub.describe(rank), message.status().message());
      return link_ended(rank);
    }
    handle(rank, *message);
  }
}

void ControlPlane::handle(int rank, const ControlMessage& m) {
  const TimePoint now = Clock::now();
  switch (m.type) {
    case ControlType::kGoodbye:
      links_.at(rank).goodbye = true;
      hub_->left(rank);
      if (rank == 0) hub_ended();
      break;
    case ControlType::kFault:
      if (!is_hub()) break;
      hub_->activate();  // on the standby: the sender has no rank 0 that answers
      hub_->fault(rank, m.fault, now);
      break;
    case ControlType::kQuery: {
      if (rank == 0) hub_asked_ = {m.report.comm, now};
      ControlMessage answer = of_type(ControlType::kReport);
      answer.inquiry = m.inquiry;
      answer.report = own_report(m.report.comm, m.report.seq);
      send(rank, answer);
      break;
    }
    case ControlType::kReport:
      if (is_hub()) hub_->report(rank, m.inquiry, m.report, now);
      break;
    case ControlType::kVerdict:
      if (rank == 0 || rank == standby_) deliver(m.verdict);
      break;
    case ControlType::kWitness: hub_->witnessed(m.rank, now); break;
    case ControlType::kNote:
      if (notes_.size() < kMaxNotes) notes_.push_back(Note{rank, m.note});
      break;
    case ControlType::kHello:
    case ControlType::kHeartbeat:
    case ControlType::kUnknown: break;
  }
}

void ControlPlane::link_ended(int rank) {
  const bool orderly = links_.at(rank).goodbye;
  links_.erase(rank);
  const TimePoint now = Clock::now();
  if (orderly) {
    hub_->left(rank);
    return;
  }
  hub_->lost(rank, now);
  ControlMessage seen = of_type(ControlType::kWitness);
  seen.rank = rank;
  if (rank_ == 0) return;
  if (rank == 0) {
    if (!is_hub()) hub_lost_at_ = links_.contains(standby_) ? now : now - kHubGrace;
    send(standby_, seen);
    hub_ended();
  } else {
    send(0, seen);
  }
}

/// Rank 0 no longer decides.
void ControlPlane::hub_ended() {
  if (rank_ == standby_) {
    hub_->activate();
    for (const OpenFault& open : std::exchange(open_faults_, {})) hub_->fault(rank_, open.fault, Clock::now());
    return;
  }
  if (const int hub = current_hub(); hub >= 0) {
    for (OpenFault& open : open_faults_) tell(hub, open);
  }
}

/// About what rank 0 has not answered.
void ControlPlane::ask_standby(TimePoint now) {
  std::vector<OpenFault> due;
  std::erase_if(open_faults_, [&](OpenFault& open) {
    if (now < open.answer_due) return false;
    // It is at work.
    if (hub_asked_.comm == open.fault.comm && now < hub_asked_.at + options_.hub.collect + kHubAnswer) {
      open.answer_due = hub_asked_.at + options_.hub.collect + kHubAnswer;
      return false;
    }
    due.push_back(std::move(open));
    return true;
  });
  for (OpenFault& open : due) {
    open.answer_due = TimePoint::max();
    if (rank_ == standby_ || links_.contains(standby_)) tell(standby_, open);
    if (rank_ != standby_) open_faults_.push_back(std::move(open));
  }
}

void ControlPlane::tell(int hub, OpenFault& open) {
  ControlMessage m = of_type(ControlType::kFault);
  m.fault = open.fault;
  open.answer_due = hub == standby_ ? TimePoint::max() : Clock::now() + kHubAnswer;
  if (hub != rank_) return send(hub, m);
  hub_->activate();
  hub_->fault(rank_, open.fault, Clock::now());
}

int ControlPlane::current_hub() const {
  const auto reachable = [&](int rank) {
    const auto found = links_.find(rank);
    return found != links_.end() && !found->second.goodbye;
  };
  const TimePoint now = Clock::now();
  const bool second = standby_ >= 0 && (rank_ == standby_ || reachable(standby_));
  if (rank_ == 0) return 0;
  if (!reachable(0)) return second ? standby_ : -1;
  if (hub_->silence(0, now) <= options_.hub.silence) return 0;
  // Cut off from both, as by an outage between regions: nobody will answer.
  if (second && rank_ != standby_ && hub_->silence(standby_, now) > options_.hub.silence) return -1;
  return second ? standby_ : 0;
}

void ControlPlane::send_fault(const Fault& fault) {
  const int hub = current_hub();
  if (hub < 0) return decide_alone(fault);
  OpenFault open{fault, TimePoint::max()};
  tell(hub, open);
  if (hub == rank_) return hub_->tick(Clock::now());
  open_faults_.push_back(std::move(open));
}

/// Nobody is left to ask.
void ControlPlane::decide_alone(const Fault& fault) {
  Case facts;
  facts.comm = fault.comm;
  facts.describe = options_.hub.describe;
  facts.faults.push_back(fault);
  facts.faults.back().reporter = rank_;
  facts.ranks.resize(static_cast<std::size_t>(size_));
  for (int i = 0; i < size_; ++i) facts.ranks[static_cast<std::size_t>(i)].life = hub_->life(i);
  facts.ranks[static_cast<std::size_t>(rank_)].report = own_report(fault.comm, fault.seq);
  Verdict verdict = find_root_cause(facts);
  const bool knows_who = fault.blamed >= 0 && fault.blamed < size_ && hub_->life(fault.blamed) != Life::kAlive;
  if (fault.code == StatusCode::kTimeout && !knows_who) {
    // Without reports the rules know less than the rank itself.
    verdict.text = fault.text;
    verdict.root = fault.blamed;
  }
  deliver(verdict);
}

void ControlPlane::send(int rank, const ControlMessage& message) {
  const auto found = links_.find(rank);
  if (found != links_.end()) push(static_cast<std::uint64_t>(rank), found->second, message);
}

void ControlPlane::decided(const Verdict& verdict) {
  ControlMessage m = of_type(ControlType::kVerdict);
  m.verdict = verdict;
  for (auto& [rank, link] : links_) push(static_cast<std::uint64_t>(rank), link, m);
  deliver(verdict);
}

WaitReport ControlPlane::own_report(std::uint64_t comm, std::uint64_t seq) {
  WaitReport report;
  if (options_.wait_report) report = options_.wait_report(comm, seq);
  report.comm = comm;
  report.seq = seq;
  return report;
}

void ControlPlane::deliver(const Verdict& verdict) {
  if (verdict.code == StatusCode::kOk) return;
  if (verdict.code == StatusCode::kPeerLost && verdict.root == 0) hub_lost_at_ = TimePoint::max();
  std::erase_if(open_faults_, [&](const OpenFault& open) { return open.fault.comm == verdict.comm; });
  const bool for_all = verdict.comm == kEveryCommunicator;
  if (for_all) hub_->announced(verdict.root);
  if (!for_all && std::find(delivered_.begin(), delivered_.end(), verdict.comm) != delivered_.end()) return;
  if (!for_all) delivered_.push_back(verdict.comm);
  log::debug("control plane: verdict {}", verdict.status().to_string());
  verdicts_.push_back(verdict);
}

void ControlPlane::send_note(int rank, std::string text) {
  ControlMessage message = of_type(ControlType::kNote);
  message.note = std::move(text);
  send(rank, message);
}

std::optional<ControlPlane::Note> ControlPlane::next_note() {
  if (notes_.empty()) return std::nullopt;
  Note note = std::move(notes_.front());
  notes_.pop_front();
  return note;
}

std::optional<Verdict> ControlPlane::next_verdict() {
  if (verdicts_.empty()) return std::nullopt;
  Verdict v = std::move(verdicts_.front());
  verdicts_.pop_front();
  return v;
}

void ControlPlane::push(std::uint64_t key, Link& link, const ControlMessage& message) {
  if (message.type == ControlType::kHeartbeat && link.writer.waiting_bytes() > 0) return;
  if (link.writer.waiting_bytes() > kUnread) return;
  link.writer.push(encode(message));
  link.last_sent = Clock::now();
  if (!link.connecting) flush(key, link);
}

void ControlPlane::flush(std::uint64_t key, Link& link) {
  // A broken connection shows itself when it is read.
  if (!link.writer.flush(link.stream)) link.writer = FrameWriter();
  // In a handshake it may be the other side's turn; what it says brings us here again.
  const bool want = !link.writer.empty() && link.stream.wait_to_send() == POLLOUT;
  if (want == link.waits_to_write) return;
  link.waits_to_write = want;
  watch(key, link.stream.fd(), want, false);
}

void ControlPlane::timers(TimePoint now) {
  hub_->tick(now);
  if (now >= retry_standby_) connect_standby();
  if (hub_lost_at_ != TimePoint::max() && now >= hub_lost_at_ + kHubGrace) {
    deliver(death_verdict({0}, false, options_.hub.describe));
    hub_lost_at_ = TimePoint::max();
    if (current_hub() < 0) {
      for (const OpenFault& open : std::exchange(open_faults_, {})) decide_alone(open.fault);
    }
  }
  ask_standby(now);
  if (now < next_heartbeat_) return;
  next_heartbeat_ = now + options_.heartbeat;
  const ControlMessage heartbeat = of_type(ControlType::kHeartbeat);
  for (auto& [rank, link] : links_) {
    if (now - link.last_sent >= options_.heartbeat / 2) push(static_cast<std::uint64_t>(rank), link, heartbeat);
  }
  std::erase_if(strangers_, [&](const auto& s) { return now - s.second.since > kStrangerLimit; });
}

void ControlPlane::close(Duration limit) {
  if (closed_) return;
  closed_ = true;
  const TimePoint until = Clock::now() + limit;
  for (auto& [rank, link] : links_) push(static_cast<std::uint64_t>(rank), link, of_type(ControlType::kGoodbye));
  for (auto& [rank, link] : links_) {
    while (!link.connecting && !link.writer.empty() && wait_ready(link.stream.fd(), POLLOUT, until)) {
      flush(static_cast<std::uint64_t>(rank), link);
    }
    ::shutdown(link.stream.fd(), SHUT_WR);
    // Unread bytes would turn the close into a reset, which may overtake the goodbye.
    std::array<char, 4096> unread;
    while (::recv(link.stream.fd(), unread.data(), unread.size(), MSG_DONTWAIT) > 0) {
    }
  }
  links_.clear();
  strangers_.clear();
  standby_listener_.reset();
  epoll_.reset();
}

}  // namespace longspan::bootstrap
