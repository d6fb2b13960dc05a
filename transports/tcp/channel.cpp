#include "tcp/channel.hpp"

#include <fmt/format.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "base/log.hpp"
#include "tcp/endpoint.hpp"

namespace longspan::tcp {
namespace {

using std::chrono::milliseconds;

/// Without pacing: large enough that headers and system calls cost nothing.
constexpr std::size_t kLargestFragment = std::size_t{256} << 10;
constexpr std::size_t kSmallestFragment = std::size_t{32} << 10;
/// How long after its first goodbye a peer's other lanes are waited for.
constexpr milliseconds kLeavingTime{5000};
constexpr milliseconds kFirstBackoff{2};
constexpr milliseconds kLongestBackoff{200};
constexpr milliseconds kWarmingTime{3000};
/// Rounds over the lanes before reading gets its turn again.
constexpr int kFlushRounds = 8;

std::array<std::byte, std::size_t{64} << 10> padding{};

}  // namespace

TcpChannel::TcpChannel(TcpEndpoint& endpoint, spi::PeerId peer)
    : endpoint_(endpoint),
      peer_(peer),
      fragment_bytes_(kLargestFragment),
      inbox_(peer, endpoint.shared()),
      outbox_(peer, static_cast<std::int64_t>(endpoint.options().eager_credit_bytes), endpoint.shared().completions) {
  inbox_.set_peer_name(who());
}

std::string TcpChannel::who() const {
  return options_.peer_name.empty() ? fmt::format("peer {:x}", peer_) : options_.peer_name;
}

// ---- what users ask for ----

void TcpChannel::send(const spi::SendRequest& request) {
  endpoint_.remember(request.id.comm);
  outbox_.push(request);
  if (over()) return outbox_.fail_all(over_status_);
  endpoint_.mark_dirty(*this);
}

void TcpChannel::post_recv(const spi::RecvRequest& request) {
  endpoint_.remember(request.id.comm);
  inbox_.post(request);
  if (inbox_.has_replies()) endpoint_.mark_dirty(*this);
}

double TcpChannel::lane_rate() const noexcept {
  return options_.rate_bytes_per_second / std::max(1, options_.lanes);
}

void TcpChannel::set_rate(double bytes_per_second) {
  options_.rate_bytes_per_second = bytes_per_second;
  // A fragment is what a slow lane may hold back at the end of a message: about 2 ms of its rate.
  fragment_bytes_ = bytes_per_second <= 0 ? kLargestFragment
                                          : std::clamp(static_cast<std::size_t>(lane_rate() * 2e-3) & ~std::size_t{4095},
                                                       kSmallestFragment, kLargestFragment);
  for (const auto& lane : lanes_) {
    if (lane->dialed() && lane->up()) tune(*lane);
  }
}

spi::ChannelStats TcpChannel::stats() const {
  spi::ChannelStats stats;
  stats.bytes_sent = bytes_sent_;
  stats.bytes_received = bytes_received_;
  stats.messages_sent = outbox_.messages_sent();
  stats.messages_received = inbox_.messages_received();
  stats.eager_bytes = inbox_.eager_bytes();
  for (const auto& lane : lanes_) {
    if (!lane->dialed() || !lane->up()) continue;
    const LaneInfo info = lane_info(lane->fd());
    stats.retransmits += info.retransmits;
    stats.delivery_rate_bytes_per_second += info.delivery_rate_bytes_per_second;
    stats.rtt = std::max(stats.rtt, info.rtt);
    stats.min_rtt = stats.min_rtt.count() == 0 ? info.min_rtt : std::min(stats.min_rtt, info.min_rtt);
  }
  return stats;
}

void TcpChannel::forget(std::uint64_t comm) {
  for (const auto& lane : lanes_) lane->forget(comm);
  outbox_.forget(comm);
  inbox_.forget(comm);
}

// ---- connections ----

void TcpChannel::start(const SocketAddress& address, const spi::ChannelOptions& options, TimePoint deadline) {
  started_ = true;
  options_ = options;
  if (options_.lanes <= 0) options_.lanes = std::max(1, endpoint_.options().default_lanes);
  options_.lanes = std::min(options_.lanes, static_cast<int>(wire::kMaxLanes));
  address_ = address;
  deadline_ = deadline;
  inbox_.set_peer_name(who());
  if (over()) return;
  outbox_.set_credit_bytes(
      static_cast<std::int64_t>(std::max(endpoint_.options().eager_credit_bytes, 2 * options_.window_bytes)));
  set_rate(options_.rate_bytes_per_second);
  dialing_since_ = Clock::now();
  for (int i = 0; i < options_.lanes; ++i) {
    lanes_.push_back(std::make_unique<Lane>(this, true, static_cast<std::uint16_t>(i)));
    lanes_.back()->backoff = kFirstBackoff;
    dial(*lanes_.back());
    if (over()) return;
  }
  endpoint_.request_timer(deadline_);
}

void TcpChannel::configure(Lane& lane) {
  const int fd = lane.fd();
  set_no_delay(fd);
  set_send_window(fd, options_.window_bytes);
  set_silence_limit(fd, std::chrono::duration_cast<milliseconds>(deadline_ - Clock::now()));
  std::string wanted = endpoint_.options().congestion_control;
  const bool asked = !wanted.empty();
  // Random loss on long links: CUBIC takes it for congestion and gets a few per cent of the link, BBR does not.
  if (!asked && options_.tier == Tier::kWan) wanted = "bbr";
  if (!wanted.empty() && !set_congestion_control(fd, wanted)) endpoint_.warn_congestion_control(wanted, asked);
}

/// Options that depend on the rate, for a connected lane.
void TcpChannel::tune(Lane& lane) {
  set_pacing(lane.fd(), lane_rate());
  if (!lane.warming) set_unsent_limit(lane.fd(), 2 * fragment_bytes_);
}

void TcpChannel::dial(Lane& lane) {
  Fd fd(::socket(address_.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return break_down(system_error("no socket", errno));
  ++lane.attempts;
  lane.attach(std::move(fd));
  configure(lane);
  lane.set_state(Lane::State::kConnecting);
  if (::connect(lane.fd(), address_.get(), address_.length) != 0 && errno != EINPROGRESS) {
    return dial_failed(lane, errno);
  }
  endpoint_.watch(lane);
}

void TcpChannel::dial_failed(Lane& lane, int error) {
  last_dial_error_ = error;
  endpoint_.unwatch(lane);
  lane.attach(Fd());
  lane.set_state(Lane::State::kIdle);
  // Ranks start at different times: a refusal now means little.
  lane.next_attempt = Clock::now() + lane.backoff;
  lane.backoff = std::min<Duration>(2 * lane.backoff, kLongestBackoff);
  endpoint_.request_timer(lane.next_attempt);
}

void TcpChannel::on_connected(Lane& lane) {
  int error = 0;
  socklen_t length = sizeof error;
  ::getsockopt(lane.fd(), SOL_SOCKET, SO_ERROR, &error, &length);
  if (error != 0) return dial_failed(lane, error);
  SocketAddress local;
  local.length = sizeof local.storage;
  // Dialing a free port of this machine can meet its own source port and connect to itself.
  if (::getsockname(lane.fd(), local.get(), &local.length) == 0 && local.length == address_.length &&
      local.to_string() == address_.to_string()) {
    return dial_failed(lane, ECONNREFUSED);
  }
  lane.set_state(Lane::State::kUp);
  lane.writable = true;
  wire::Hello hello;
  hello.job = endpoint_.options().job;
  hello.from = endpoint_.options().self;
  hello.to = peer_;
  hello.lane = lane.index();
  hello.lanes = static_cast<std::uint16_t>(options_.lanes);
  hello.credit_bytes = static_cast<std::uint64_t>(outbox_.credit_bytes());
  hello.window_bytes = options_.window_bytes;
  lane.queue_hello(hello);
  if (options_.tier == Tier::kWan && options_.window_bytes > 0) start_warming(lane);
  tune(lane);
  endpoint_.mark_dirty(*this);
}

bool TcpChannel::accepts(const wire::Hello& hello) const {
  if (over()) return false;
  return std::none_of(lanes_.begin(), lanes_.end(), [&](const auto& lane) {
    return !lane->dialed() && lane->index() == hello.lane;
  });
}

Lane& TcpChannel::join(std::unique_ptr<Lane> lane, const wire::Hello& hello) {
  inbox_.set_credit_bytes(hello.credit_bytes);
  set_receive_window(lane->fd(), static_cast<std::size_t>(hello.window_bytes));
  set_silence_limit(lane->fd(), started_ ? std::chrono::duration_cast<milliseconds>(deadline_ - Clock::now())
                                         : std::chrono::minutes(5));
  ++joined_lanes_;
  lane->adopt(this, hello.lane);
  lane->writable = true;
  lanes_.push_back(std::move(lane));
  return *lanes_.back();
}

std::optional<TimePoint> TcpChannel::on_timer(TimePoint now) {
  if (over()) return std::nullopt;
  if (peer_leaving_ && now >= leaving_deadline_) {
    close_lanes();
    finish_if_left();
    return std::nullopt;
  }
  std::optional<TimePoint> next;
  const auto at = [&next](TimePoint when) { next = next ? std::min(*next, when) : when; };
  if (peer_leaving_) at(leaving_deadline_);
  for (std::size_t i = 0; i < lanes_.size(); ++i) {
    Lane& lane = *lanes_[i];
    if (lane.state() != Lane::State::kIdle && lane.state() != Lane::State::kConnecting) continue;
    if (now >= deadline_) {
      break_down(Status(
          StatusCode::kPeerLost,
          fmt::format("cannot be reached at {}: {} ({} attempts in {:.1f} s)", address_.to_string(),
                      last_dial_error_ != 0 ? std::strerror(last_dial_error_) : "no answer", lane.attempts,
                      std::chrono::duration<double>(now - dialing_since_).count())));
      return std::nullopt;
    }
    if (lane.state() == Lane::State::kIdle && now >= lane.next_attempt) dial(lane);
    if (over()) return std::nullopt;
    if (lane.state() == Lane::State::kIdle) at(lane.next_attempt);
    at(deadline_);
  }
  return next;
}

// ---- moving data ----

bool TcpChannel::flush() {
  if (over()) return true;
  bool more = true;
  const std::size_t start = next_lane_++;  // small messages spread over the lanes that are equally idle
  for (int round = 0; more && round < kFlushRounds; ++round) {
    more = false;
    for (std::size_t i = 0; i < lanes_.size(); ++i) {
      Lane& lane = *lanes_[(start + i) % lanes_.size()];
      if (!lane.up() || !lane.writable) continue;
      const Lane::Outcome outcome = lane.write();
      if (outcome == Lane::Outcome::kMore) more = true;
      if (outcome != Lane::Outcome::kFailed) continue;
      // The peer's last words, maybe a goodbye, can still be there to read: reading decides what happened.
      lane.writable = false;
      lane.hung_up = true;
      endpoint_.mark_readable(lane);
    }
  }
  return !more;
}

bool TcpChannel::next_frame(Lane& lane, OutFrame& out) {
  wire::Frame frame;
  if (!lane.dialed()) {
    if (!inbox_.next_reply(frame)) return false;
    wire::encode(frame, out.header);
    return true;
  }
  Fragment fragment;
  if (!outbox_.next_announcement(frame)) {
    if (!outbox_.next(fragment_bytes_, fragment) && !outbox_.next_announcement(frame)) return next_pad(lane, out);
  }
  if (fragment.message != nullptr) {
    const SendMessage& message = *fragment.message;
    frame.type = wire::FrameType::kData;
    frame.flags = static_cast<std::uint8_t>((fragment.counted ? wire::kCounted : 0) |
                                            (message.announced ? wire::kAnnounced : 0));
    frame.payload_bytes = static_cast<std::uint32_t>(fragment.bytes);
    frame.id = message.id;
    frame.digest = message.digest;
    frame.message_bytes = message.bytes;
    frame.offset = fragment.offset;
    out.payload = message.data + fragment.offset;
    out.payload_bytes = fragment.bytes;
    out.message = fragment.message;
  }
  wire::encode(frame, out.header);
  return true;
}

void TcpChannel::landed(Landing& landing) {
  bytes_received_ += landing.bytes;
  inbox_.end(landing);
  if (inbox_.has_replies()) endpoint_.mark_dirty(*this);
}

Status TcpChannel::on_control(Lane& lane, const wire::Frame& frame) {
  switch (frame.type) {
    case wire::FrameType::kRts:
      LONGSPAN_TRY(inbox_.on_announcement(frame));
      if (inbox_.has_replies()) endpoint_.mark_dirty(*this);
      break;
    case wire::FrameType::kCts:
      outbox_.on_clear_to_send(frame.id);
      endpoint_.mark_dirty(*this);
      break;
    case wire::FrameType::kCredit:
      outbox_.on_credit(frame.id.comm, frame.message_bytes);
      endpoint_.mark_dirty(*this);
      break;
    case wire::FrameType::kGoodbye:
      lane.goodbye_received = true;
      if (!peer_leaving_) {
        peer_leaving_ = true;
        expected_lanes_ = frame.message_bytes;
        leaving_deadline_ = Clock::now() + kLeavingTime;
        endpoint_.request_timer(leaving_deadline_);
      }
      break;
    case wire::FrameType::kData:
    case wire::FrameType::kPad:
    case wire::FrameType::kHeartbeat:
    case wire::FrameType::kAck: break;
  }
  return {};
}

// ---- warming ----

void TcpChannel::start_warming(Lane& lane) {
  lane.warming = true;
  warm_until_ = Clock::now() + kWarmingTime;
}

/// A discardable frame, when nothing else is to be sent and the congestion window is still small: slow start over a
/// long link costs the first messages several round trips (1 MiB at 40 ms: 64 % of the link cold, 90 % warm).
bool TcpChannel::next_pad(Lane& lane, OutFrame& out) {
  if (!lane.warming || lane.has_queued()) return false;
  const LaneInfo info = lane_info(lane.fd());
  const double rtt = std::chrono::duration<double>(options_.rtt.count() > 0 ? options_.rtt : info.rtt).count();
  const double window = static_cast<double>(options_.window_bytes) / options_.lanes;
  const double target = lane_rate() > 0 ? 2 * lane_rate() * rtt : 2 * window;
  if (static_cast<double>(info.congestion_window_bytes) >= target ||
      static_cast<double>(lane.warmed_bytes) >= 2 * std::max(window, target) || Clock::now() >= warm_until_) {
    lane.warming = false;
    tune(lane);
    return false;
  }
  // Half a millisecond of the lane's rate: real data, which goes first, never waits longer than that twice.
  const std::size_t bytes =
      lane_rate() > 0 ? std::clamp<std::size_t>(static_cast<std::size_t>(lane_rate() * 0.5e-3), 4096, padding.size())
                      : padding.size();
  if (lane.warmed_bytes == 0) set_unsent_limit(lane.fd(), bytes);
  lane.warmed_bytes += bytes;
  wire::Frame frame;
  frame.type = wire::FrameType::kPad;
  frame.payload_bytes = static_cast<std::uint32_t>(bytes);
  wire::encode(frame, out.header);
  out.payload = padding.data();
  out.payload_bytes = bytes;
  return true;
}

// ---- ends ----

void TcpChannel::after_read(Lane& lane, Lane::Outcome outcome) {
  const bool failed = outcome == Lane::Outcome::kFailed;
  if (!failed && outcome != Lane::Outcome::kEnd) return;
  const bool lost = !failed || lane.failure().code() == StatusCode::kPeerLost;
  if (lost && (peer_leaving_ || endpoint_.closing())) return end_lane(lane);
  if (!failed && lane.failure().ok()) {
    return break_down(Status(StatusCode::kPeerLost, "the connection ended without a goodbye: the process died, or it "
                                                    "refused this connection (another job?)"));
  }
  break_down(lane.failure());
}

void TcpChannel::end_lane(Lane& lane) {
  endpoint_.unwatch(lane);
  lane.close();
  finish_if_left();
}

void TcpChannel::finish_if_left() {
  if (over() || !peer_leaving_) return;
  if (Clock::now() < leaving_deadline_) {
    if (joined_lanes_ < expected_lanes_) return;
    if (lanes_up() > 0) return;
    if (std::any_of(lanes_.begin(), lanes_.end(), [](const auto& lane) { return lane->up(); })) return;
  }
  state_ = State::kClosed;
  peer_gone(spi::CompletionKind::kClosed, Status(StatusCode::kPeerLost, fmt::format("{} has said goodbye", who())));
}

void TcpChannel::break_down(Status status) {
  if (over()) return;
  state_ = State::kBroken;
  status = status.with_context(who());
  log::debug("tcp: {}", status.to_string());
  peer_gone(spi::CompletionKind::kBroken, status);
}

void TcpChannel::peer_gone(spi::CompletionKind kind, const Status& status) {
  over_status_ = status;
  close_lanes();
  spi::Completion completion;
  completion.kind = kind;
  completion.peer = peer_;
  if (kind == spi::CompletionKind::kBroken) {
    completion.status = status;
    endpoint_.shared().completions.push_back(completion);
  }
  outbox_.fail_all(status);
  inbox_.fail_all(status);
  if (kind == spi::CompletionKind::kClosed) endpoint_.shared().completions.push_back(std::move(completion));
}

void TcpChannel::close_lanes() {
  for (const auto& lane : lanes_) {
    endpoint_.unwatch(*lane);
    lane->close();
  }
}

std::uint64_t TcpChannel::lanes_up() const {
  return static_cast<std::uint64_t>(std::count_if(
      lanes_.begin(), lanes_.end(), [](const auto& lane) { return lane->dialed() && lane->up(); }));
}

void TcpChannel::say_goodbye() {
  for (const auto& lane : lanes_) {
    lane->warming = false;
    if (lane->up()) {
      lane->queue_goodbye();
    } else {
      endpoint_.unwatch(*lane);
      lane->close();
    }
  }
  if (!over()) endpoint_.mark_dirty(*this);
}

bool TcpChannel::goodbye_flushed() const {
  return over() || std::all_of(lanes_.begin(), lanes_.end(), [](const auto& lane) {
           return !lane->up() || lane->goodbye_written();
         });
}

void TcpChannel::shut_down() {
  for (const auto& lane : lanes_) {
    if (lane->up()) ::shutdown(lane->fd(), SHUT_WR);
  }
}

bool TcpChannel::acknowledged() const {
  return std::all_of(lanes_.begin(), lanes_.end(),
                     [](const auto& lane) { return !lane->up() || unacknowledged_bytes(lane->fd()) == 0; });
}

void TcpChannel::abort_operations(const Status& status) {
  if (over()) return;
  state_ = State::kClosed;
  over_status_ = status;
  close_lanes();
  outbox_.fail_all(status);
  inbox_.fail_all(status);
}

}  // namespace longspan::tcp
