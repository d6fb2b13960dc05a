#include "shm/channel.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <vector>

#include "base/log.hpp"
#include "shm/endpoint.hpp"
#include "shm/sockets.hpp"

namespace longspan::shm {
namespace {

constexpr int kRecordsPerPoll = 64;  // then other peers get their turn
// Room is given back by the quarter of a ring: each time costs a cache line that both sides write. A writer never waits
// for less than that, since no record needs more than the other three quarters.
constexpr std::size_t kCommitShare = 4;
constexpr auto kRedialAfter = std::chrono::milliseconds(2);

}  // namespace

ShmChannel::ShmChannel(spi::PeerId peer, ShmEndpoint& endpoint, Shared& shared)
    : peer_(peer),
      endpoint_(endpoint),
      peer_name_(fmt::format("peer {}", peer)),
      outbox_(peer, shared),
      inbox_(peer, shared) {
  inbox_.set_peer_name(peer_name_);
}

spi::ChannelStats ShmChannel::stats() const {
  spi::ChannelStats stats;
  stats.bytes_sent = outbox_.bytes_sent();
  stats.bytes_received = inbox_.bytes_received();
  stats.messages_sent = outbox_.messages_sent();
  stats.messages_received = inbox_.messages_received();
  stats.eager_bytes = inbox_.eager_bytes();
  return stats;
}

// ---- setting up ----

Status ShmChannel::start(std::string name, const spi::ChannelOptions& options, TimePoint deadline) {
  if (!options.peer_name.empty()) peer_name_ = options.peer_name;
  inbox_.set_peer_name(peer_name_);
  dial_name_ = std::move(name);
  deadline_ = deadline;
  LONGSPAN_ASSIGN(out_, OutLink::create());
  outbox_.attach(&*out_);
  dial();
  return {};
}

void ShmChannel::dial() {
  next_dial_.reset();
  Result<std::optional<Fd>> dialed = shm::dial(dial_name_);
  if (!dialed) {
    const int error = errno;
    if (error != ECONNREFUSED) return break_down(dialed.status());
    return break_down(
        Status(StatusCode::kPeerLost,
               fmt::format("nobody listens at {}: the process has ended, or it is in another network namespace "
                           "(then the topology must not place it on this host)",
                           dial_name_)));
  }
  if (!dialed->has_value()) {
    next_dial_ = Clock::now() + kRedialAfter;
    return;
  }
  out_->socket = *std::move(*dialed);
  probe_value_ = reinterpret_cast<std::uint64_t>(this) ^ 0x9e3779b97f4a7c15ULL;
  Hello hello;
  endpoint_.describe_self(hello);
  hello.probe_address = reinterpret_cast<std::uint64_t>(&probe_value_);
  hello.probe_value = probe_value_;
  hello.segment_address = reinterpret_cast<std::uint64_t>(out_->segment.data());
  const std::array<int, 4> fds{out_->segment.fd(), endpoint_.bell().page_fd(), endpoint_.bell().fd(),
                               endpoint_.heap_fd()};
  if (Status sent = send_packet(out_->socket, std::as_bytes(std::span(&hello, 1)), fds); !sent.ok()) {
    hung_up_ = true;
    return;
  }
  out_->said_hello = true;
  endpoint_.watch(out_->socket, *this, ShmEndpoint::Watched::kOut);
  watch_peer(out_->socket);
}

void ShmChannel::watch_peer(const Fd& socket) {
  if (process_) return;
  const Process process = process_behind(socket);
  if (process.pid == ::getpid()) return;
  process_ = watch_process(process.pid);
  if (process_) endpoint_.watch(process_, *this, ShmEndpoint::Watched::kProcess);
}

void ShmChannel::join(InLink link, const Hello& hello) {
  in_.emplace(std::move(link));
  inbox_.attach(&*in_, hello.credit);
  endpoint_.watch(in_->socket, *this, ShmEndpoint::Watched::kIn);
  watch_peer(in_->socket);
}

void ShmChannel::on_out_socket() {
  Welcome welcome;
  std::size_t length = 0;
  std::vector<Fd> fds;
  switch (receive_packet(out_->socket, std::as_writable_bytes(std::span(&welcome, 1)), length, fds)) {
    case Received::kNothing: return;
    case Received::kEnd: hung_up_ = true; return;
    case Received::kPacket: break;
  }
  if (length != sizeof(welcome) || welcome.magic != Welcome{}.magic) return;
  switch (welcome.verdict) {
    case Verdict::kWelcome: break;
    case Verdict::kOtherJob:
      return break_down(Status(StatusCode::kInvalidArgument, fmt::format("{} belongs to another job", dial_name_)));
    case Verdict::kOtherVersion:
      return break_down(Status(StatusCode::kInvalidArgument,
                               "speaks another version of this transport: all ranks must run the same build"));
    case Verdict::kAlreadyConnected:
      return break_down(
          Status(StatusCode::kInvalidArgument, fmt::format("already has a connection from peer {}", endpoint_.self())));
  }
  if (fds.size() != 2) return break_down(Status(StatusCode::kInternal, "shm: a welcome without its two descriptors"));
  Result<PeerBell> bell = PeerBell::attach(std::move(fds[0]), std::move(fds[1]));
  if (!bell) return break_down(bell.status());
  out_->bell = *std::move(bell);
  out_->reach = welcome.reach;
  out_->segment.close_fd();
}

void ShmChannel::on_in_socket() {
  if (!in_->socket) return;
  for (;;) {
    Handover handover;
    std::size_t length = 0;
    std::vector<Fd> fds;
    switch (receive_packet(in_->socket, std::as_writable_bytes(std::span(&handover, 1)), length, fds)) {
      case Received::kNothing: return;
      case Received::kEnd: hung_up_ = true; return;
      case Received::kPacket: break;
    }
    if (length != sizeof(handover) || fds.size() != 1) continue;  // only a wake-up
    if (handover.region != 0) {
      in_->take_region(std::move(fds[0]), handover);
      continue;
    }
    Result<SharedMemory> memory = SharedMemory::attach(std::move(fds[0]), static_cast<std::size_t>(handover.bytes));
    if (!memory) continue;
    inheritance_ = *std::move(memory);
    inherited_count_ = handover.count;
  }
}

std::optional<TimePoint> ShmChannel::on_timer(TimePoint now) {
  if (!settling()) return std::nullopt;
  if (now >= deadline_) {
    break_down(
        Status(StatusCode::kPeerLost,
               fmt::format("has not answered at {} in time: its process is there but does not run", dial_name_)));
    return std::nullopt;
  }
  if (next_dial_ && now >= *next_dial_) dial();
  return next_dial_ && *next_dial_ < deadline_ ? *next_dial_ : deadline_;
}

// ---- moving data ----

bool ShmChannel::progress(std::size_t& budget) {
  if (state_ != State::kOpen) return false;
  bool any = false;
  if (in_) {
    any |= drain_forward();
    any |= inbox_.fetch(budget);
    any |= inbox_.flush();
  }
  if (out_) {
    any |= drain_backward();
    any |= outbox_.flush();
  }
  if (forward_goodbye_ || backward_goodbye_ || hung_up_) decide_end();
  return any;
}

bool ShmChannel::drain_forward() {
  RingReader& ring = in_->forward;
  int count = 0;
  bool sane = true;
  for (; count < kRecordsPerPoll && sane; ++count) {
    const Record* record = ring.front();
    if (record == nullptr) break;
    switch (record->kind) {
      case RecordKind::kEager: sane = inbox_.on_eager(*record); break;
      case RecordKind::kOffer:
        if (inbox_.asks_for_unknown_region(*record)) on_in_socket();  // it was handed over before
        sane = inbox_.on_offer(*record);
        break;
      case RecordKind::kGone: in_->regions.erase(record->offer); break;
      case RecordKind::kSegment: sane = inbox_.on_segment(*record); break;
      case RecordKind::kGoodbye: forward_goodbye_ = true; break;
      default: break;
    }
    ring.pop(record);
    if (ring.uncommitted() >= kForwardBytes / kCommitShare && ring.commit()) in_->bell.ring();
  }
  if (ring.corrupt() || !sane) break_down(Status(StatusCode::kInternal, "shm: its ring is corrupt"));
  return count > 0;
}

bool ShmChannel::drain_backward() {
  RingReader& ring = out_->backward;
  int count = 0;
  for (; count < kRecordsPerPoll; ++count) {
    const Record* record = ring.front();
    if (record == nullptr) break;
    switch (record->kind) {
      case RecordKind::kDone: outbox_.on_done(record->offer); break;
      case RecordKind::kStage: outbox_.on_stage(record->offer, record->digest); break;
      case RecordKind::kCredit: outbox_.on_credit(record->comm, record->digest); break;
      case RecordKind::kGoodbye:
        backward_goodbye_ = true;
        peer_dials_too_ = record->offer != 0;
        break;
      default: break;
    }
    ring.pop(record);
    if (ring.uncommitted() >= kBackwardBytes / kCommitShare && ring.commit()) out_->wake();
  }
  if (ring.corrupt()) break_down(Status(StatusCode::kInternal, "shm: its ring is corrupt"));
  return count > 0;
}

bool ShmChannel::arm() {
  if (state_ != State::kOpen) return true;
  if (in_ && (in_->forward.ready() || inbox_.can_fetch() || !inbox_.arm())) return false;
  return !(out_ && (out_->backward.ready() || !outbox_.arm()));
}

void ShmChannel::forget(std::uint64_t comm) {
  inbox_.forget(comm);
  outbox_.forget(comm);
}

// ---- ends ----

bool ShmChannel::say_goodbye() {
  if (state_ != State::kOpen) return true;
  if (in_ && !said_in_) {
    inbox_.flush();  // first of all: a view released just now completes a send over there
    if (inbox_.unanswered()) return false;
  }
  if (out_ && !said_out_) {
    Record* record = out_->forward.reserve(0);
    if (record == nullptr) return false;
    record->kind = RecordKind::kGoodbye;
    out_->publish(record);
    said_out_ = true;
  }
  if (in_ && !said_in_) {
    Record* record = in_->backward.reserve(0);
    if (record == nullptr) return false;
    record->kind = RecordKind::kGoodbye;
    record->offer = out_.has_value() ? 1 : 0;
    in_->publish(record);
    said_in_ = true;
  }
  return true;
}

void ShmChannel::bequeath(std::size_t limit) {
  if (state_ != State::kOpen || !out_ || !out_->said_hello) return;
  const std::vector<spi::SendRequest> requests = outbox_.take_back(limit);
  if (requests.empty()) return;
  std::size_t bytes = requests.size() * sizeof(BequestEntry);
  for (const auto& request : requests) bytes += request.data.size();
  Result<SharedMemory> memory = SharedMemory::create(bytes, "longspan-bequest");
  if (!memory) return log::warn("{}", memory.status().to_string());
  std::size_t offset = requests.size() * sizeof(BequestEntry);
  for (std::size_t i = 0; i < requests.size(); ++i) {
    const spi::SendRequest& request = requests[i];
    const BequestEntry entry{request.id.comm, request.id.seq, request.id.stream,  request.id.chunk, 0,
                             request.digest,  offset,         request.data.size()};
    std::memcpy(memory->data() + i * sizeof(entry), &entry, sizeof(entry));
    if (!request.data.empty()) std::memcpy(memory->data() + offset, request.data.data(), request.data.size());
    offset += request.data.size();
  }
  const Handover bequest{bytes, 0, static_cast<std::uint32_t>(requests.size())};
  const std::array<int, 1> fds{memory->fd()};
  if (send_packet(out_->socket, std::as_bytes(std::span(&bequest, 1)), fds).ok()) outbox_.bequeathed();
}

void ShmChannel::inherit() {
  if (in_) on_in_socket();
  if (!inheritance_.valid() || inherited_count_ > inheritance_.size() / sizeof(BequestEntry)) return;
  for (std::uint64_t i = 0; i < inherited_count_; ++i) {
    BequestEntry entry;
    std::memcpy(&entry, inheritance_.data() + i * sizeof(entry), sizeof(entry));
    if (entry.offset > inheritance_.size() || entry.length > inheritance_.size() - entry.offset) continue;
    inbox_.inherit(entry, inheritance_.data() + entry.offset);
  }
  inheritance_ = SharedMemory();
}

void ShmChannel::decide_end() {
  if (state_ != State::kOpen) return;
  const bool all_said = in_ ? forward_goodbye_ : backward_goodbye_ && !peer_dials_too_;
  if (all_said && !leaving_) {
    leaving_ = true;
    inherit();
    inbox_.peer_leaves();
    if (in_) inbox_.flush();
  }
  if (leaving_ && (inbox_.quiet() || hung_up_)) {
    return end(State::kClosed, Status(StatusCode::kPeerLost, fmt::format("{} has said goodbye", peer_name_)), false);
  }
  if (!hung_up_) return;
  endpoint_.accept_waiting();  // its own connection may still wait to be taken
  const bool unread = (in_ && in_->forward.ready()) || (out_ && out_->backward.ready());
  if (unread || (in_ && inbox_.can_fetch() && in_->memory.mode() == FetchMode::kDirect)) return;
  break_down(
      Status(StatusCode::kPeerLost, "its end closed without a goodbye: the process died, or refused this connection"));
}

void ShmChannel::break_down(Status status) {
  if (state_ != State::kOpen) return;
  status = status.with_context(peer_name_);
  log::debug("shm: {}", status.to_string());
  end(State::kBroken, status, !hung_up_);
}

void ShmChannel::end(State state, const Status& status, bool peer_may_read) {
  state_ = state;
  over_status_ = status;
  inbox_.finish_mapped();
  inbox_.stop_fetching();
  if (state == State::kBroken) endpoint_.report(spi::CompletionKind::kBroken, peer_, status);
  outbox_.fail_all(status, peer_may_read);
  inbox_.fail_all(status);
  if (state == State::kClosed) endpoint_.report(spi::CompletionKind::kClosed, peer_, {});
  close_sockets();
}

void ShmChannel::abandon(const Status& status) {
  if (state_ != State::kOpen) return;
  state_ = State::kClosed;
  over_status_ = status;
  inbox_.stop_fetching();
  outbox_.fail_all(status, !hung_up_);
  inbox_.fail_all(status);
  close_sockets();
}

void ShmChannel::close_sockets() {
  for (Fd* fd : {out_ ? &out_->socket : nullptr, in_ ? &in_->socket : nullptr, &process_}) {
    if (fd == nullptr || !fd->valid()) continue;
    endpoint_.unwatch(*fd);
    fd->reset();
  }
}

}  // namespace longspan::shm
