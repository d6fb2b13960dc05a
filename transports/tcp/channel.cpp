// What users ask of a channel, and how data moves. Connections: channel_connections.cpp; the end: channel_end.cpp.
#include "tcp/channel.hpp"

#include <fmt/format.h>
#include <sys/epoll.h>

#include <algorithm>
#include <cstring>

#include "tcp/endpoint.hpp"

namespace longspan::tcp {
namespace {

using std::chrono::milliseconds;

/// Without pacing: large enough that headers and system calls cost nothing.
constexpr std::size_t kLargestFragment = std::size_t{256} << 10;
constexpr std::size_t kSmallestFragment = std::size_t{16} << 10;
/// What the express lane may send at once beside bulk data, and how much of the rate in the long run: little enough for
/// the margin that plans leave. More than that goes over the other lanes, within their rate.
constexpr double kExpressBurst = 64 << 10;
constexpr double kExpressShare = 1.0 / 32;
/// How much a lane sends before it asks for an acknowledgement: often enough to keep little, too rare to cost.
constexpr std::size_t kAckEvery = std::size_t{1} << 20;
/// Copies of what waits for acknowledgements, per channel. Beyond it sends complete when they are acknowledged.
constexpr std::size_t kCopiedAtMost = std::size_t{64} << 20;
/// How long after its first goodbye a peer's other lanes are waited for.
constexpr milliseconds kLeavingTime{5000};
/// How long a peer that we cannot dial may stay away.
constexpr milliseconds kUnknownPeerPatience{3000};
/// Rounds over the lanes before reading gets its turn again.
constexpr std::size_t kFlushRounds = 8;
constexpr int kMostLanes = 128;

}  // namespace

TcpChannel::TcpChannel(TcpEndpoint& endpoint, spi::PeerId peer)
    : endpoint_(endpoint),
      peer_(peer),
      patience_(kUnknownPeerPatience),
      fragment_bytes_(kLargestFragment),
      ack_every_(kAckEvery),
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
  if (joined_lanes_ == 0) expect_lanes();
}

double TcpChannel::lane_rate(const Lane& lane) const noexcept {
  // The express lane has an allowance instead (express_has_room): pacing would delay each message by the one before.
  if (&lane == express_) return options_.rate_bytes_per_second;
  return options_.rate_bytes_per_second / std::max(1, is_repair(lane) ? repair_lanes_ : options_.lanes);
}

void TcpChannel::set_rate(double bytes_per_second) {
  options_.rate_bytes_per_second = bytes_per_second;
  // A fragment is what a slow lane may hold back at the end of a message: about 2 ms of its rate.
  const double lane_share = bytes_per_second / std::max(1, options_.lanes);
  fragment_bytes_ = bytes_per_second <= 0 ? kLargestFragment
                                          : std::clamp(static_cast<std::size_t>(lane_share * 2e-3) & ~std::size_t{4095},
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
  stats.reconnects = reconnects_;
  stats.observed_loss = losses_.loss();
  stats.lanes = lanes_up(false);
  stats.repair_lanes = lanes_up(true);
  if (outbox_.has_large()) stats.unsent_bytes = 1;  // at least
  stats.warming = gets_warm();
  for (const auto& lane : lanes_) {
    if (!lane->up()) continue;
    if (lane->kernel_encrypts()) ++stats.kernel_encrypted;
    const LaneInfo info = endpoint_.sample(lane->fd());
    stats.arrived_bytes += lane->dialed() ? 0 : info.arrived_packet_bytes;
    stats.arrived_packets += lane->dialed() ? 0 : info.arrived_packets;
    if (!lane->dialed()) continue;
    stats.retransmits += info.retransmits;
    stats.delivery_rate_bytes_per_second += info.delivery_rate_bytes_per_second;
    stats.packets_sent += info.packets_sent;
    stats.drops += info.retransmits - std::min(info.retransmits, info.spurious_retransmits);
    stats.delivered_bytes += info.delivered_packet_bytes;
    stats.unsent_bytes += info.unsent_bytes;
    stats.rtt = std::max(stats.rtt, info.rtt);
    // An express lane that was idle for long remembers an old queue, or none: only what carries data tells.
    if (lane.get() != express_ && info.rtt.count() > 0 &&
        (stats.least_rtt.count() == 0 || info.rtt < stats.least_rtt)) {
      stats.least_rtt = info.rtt;
    }
    stats.min_rtt = stats.min_rtt.count() == 0 ? info.min_rtt : std::min(stats.min_rtt, info.min_rtt);
  }
  return stats;
}

void TcpChannel::forget(std::uint64_t comm) {
  for (const auto& lane : lanes_) lane->forget(comm);
  outbox_.forget(comm);
  inbox_.forget(comm);
}

void TcpChannel::start(std::vector<SocketAddress> addresses, const spi::ChannelOptions& options, TimePoint deadline) {
  started_ = true;
  options_ = options;
  if (options_.lanes <= 0) options_.lanes = std::max(1, endpoint_.options().default_lanes);
  plan_path();
  // Every network card of both sides gets a part.
  options_.lanes =
      std::max({options_.lanes, static_cast<int>(addresses.size()), static_cast<int>(endpoint_.nics().size())});
  options_.lanes = std::min(options_.lanes, kMostLanes);
  addresses_ = std::move(addresses);
  deadline_ = deadline;
  dialing_since_ = Clock::now();
  patience_ = std::max(Duration(0), deadline_ - dialing_since_);
  inbox_.set_peer_name(who());
  if (over()) return;
  outbox_.set_credit_bytes(static_cast<std::int64_t>(
      std::max(endpoint_.options().eager_credit_bytes, (options_.tier == Tier::kWan ? 4 : 2) * options_.window_bytes)));
  if (options_.window_bytes > 0) ack_every_ = std::clamp(options_.window_bytes / 4, kSmallestFragment, kAckEvery);
  set_rate(options_.rate_bytes_per_second);
  for (const auto& lane : lanes_) {  // that the peer dialed before
    if (lane->up()) set_silence_limit(lane->fd(), std::chrono::duration_cast<milliseconds>(patience_), options_.rtt);
  }
  const bool with_express = options_.lanes > 1 || options_.tier == Tier::kWan;
  first_repair_ = options_.lanes;
  add_lanes(options_.lanes + repair_lanes_ + (with_express ? 1 : 0));
  if (with_express) express_ = lanes_.back().get();
  for (const auto& dialer : dialers_) dialer->start();
  endpoint_.request_timer(endpoint_.unreachable() ? dialing_since_ : deadline_);
  if (inbox_.expects()) expect_lanes();
}

void TcpChannel::add_lanes(int count) {
  for (int i = 0; i < count; ++i) {
    lanes_.push_back(std::make_unique<Lane>(*this, true, static_cast<std::uint16_t>(dialers_.size())));
    dialers_.push_back(std::make_unique<Dialer>(*this, *lanes_.back()));
  }
}

std::uint32_t TcpChannel::lanes_up(bool repair) const noexcept {
  return static_cast<std::uint32_t>(std::count_if(lanes_.begin(), lanes_.end(), [&](const auto& lane) {
    return lane->dialed() && lane->up() && lane.get() != express_ && is_repair(*lane) == repair;
  }));
}

// ---- moving data ----

void TcpChannel::has_something_to_read(Lane& lane) { endpoint_.mark_readable(lane); }

void TcpChannel::has_something_to_write() { endpoint_.mark_dirty(*this); }

void TcpChannel::on_lane_events(Lane& lane, std::uint32_t events) {
  if (!lane.up()) return;
  constexpr std::uint32_t kHangUp = EPOLLRDHUP | EPOLLHUP | EPOLLERR;
  if ((events & (EPOLLIN | kHangUp)) != 0) {
    lane.hung_up = lane.hung_up || (events & kHangUp) != 0;
    endpoint_.mark_readable(lane);
  }
  if ((events & EPOLLOUT) != 0) {
    lane.writable = true;
    endpoint_.mark_dirty(*this);
  }
}

void TcpChannel::taken(Lane& lane, std::size_t bytes) {
  const double rate = lane_rate(lane);
  if (rate <= 0 || !lane.dialed()) return;
  const auto time = std::chrono::duration<double>(static_cast<double>(bytes) / rate);
  lane.sends_until = std::max(Clock::now(), lane.sends_until) + std::chrono::duration_cast<Duration>(time);
}

/// The lane that will have sent what it has the soonest: when a message ends, none has much more left than another.
/// Small messages spread over the lanes that are equally idle.
Lane* TcpChannel::next_to_write(TimePoint now) noexcept {
  Lane* best = nullptr;
  for (std::size_t i = 0; i < lanes_.size(); ++i) {
    Lane& lane = *lanes_[(next_lane_ + i) % lanes_.size()];
    if (!lane.up() || !lane.writable || lane.passed_over) continue;
    if (best == nullptr || std::max(now, lane.sends_until) < std::max(now, best->sends_until)) best = &lane;
  }
  return best;
}

/// Lanes pull and write until they have nothing or no room. True: some might go on.
bool TcpChannel::write_lanes() {
  for (const auto& lane : lanes_) lane->passed_over = false;
  ++next_lane_;
  const TimePoint now = Clock::now();
  for (std::size_t i = 0; i < kFlushRounds * lanes_.size(); ++i) {
    Lane* const lane = next_to_write(now);
    if (lane == nullptr) return false;
    const Lane::Outcome outcome = lane->write();
    lane->passed_over = outcome != Lane::Outcome::kMore;
    if (outcome != Lane::Outcome::kFailed) continue;
    // The peer's last words, maybe a goodbye, can still be there to read: reading decides what happened.
    lane->writable = false;
    lane->hung_up = true;
    endpoint_.mark_readable(*lane);
  }
  return true;
}

bool TcpChannel::flush() {
  if (over()) return true;
  refresh_models();
  watch_loss();
  bool more = true;
  for (std::size_t round = 0; more && round < kFlushRounds; ++round) {
    if (write_lanes()) break;
    // What came up after the express lane had its turn.
    more = outbox_.has_urgent() && express_has_room() && bulk_on_its_way();
    if (!more) more = settle_written();
  }
  start_vigil();
  plan_repeats();
  return !more;
}

/// When nothing more is to be sent, somebody may wait for the sends that are written. Over a long link what is not
/// acknowledged is copied, because an answer takes a round trip; elsewhere the answer is asked for. True: asked.
bool TcpChannel::settle_written() {
  if (outbox_.waiting() == 0 || outbox_.may_have_work()) return false;
  if (options_.tier == Tier::kWan) {
    std::size_t budget = kCopiedAtMost - std::min(kCopiedAtMost, copied_bytes_);
    for (const auto& lane : lanes_) {
      if (lane->dialed()) lane->copy_waiting(budget);
    }
    if (outbox_.waiting() == 0) return false;
  }
  bool asked = false;
  for (const auto& lane : lanes_) {
    if (!lane->dialed() || !lane->up() || !lane->should_ask()) continue;
    lane->ask();
    asked = true;
  }
  return asked;
}

void TcpChannel::written(OutFrame& frame) {
  SendMessage& message = *frame.message;
  outbox_.written(message);
  // The copy costs less than an acknowledgement, and lets the send complete now.
  if (message.small()) copy(frame);
}

void TcpChannel::copy(OutFrame& frame) {
  if (frame.payload_bytes > 0) {
    frame.owned = endpoint_.shared().buffers.take(frame.payload_bytes);
    std::memcpy(frame.owned.get(), frame.payload, frame.payload_bytes);
    frame.payload = frame.owned.get();
    copied_bytes_ += frame.payload_bytes;
  }
  outbox_.let_go(*std::exchange(frame.message, nullptr));
}

void TcpChannel::give_back(OutFrame& frame) {
  copied_bytes_ -= frame.payload_bytes;
  endpoint_.shared().buffers.give_back(std::move(frame.owned), frame.payload_bytes);
}

bool TcpChannel::express_has_room() noexcept {
  if (express_ == nullptr || !express_->up() || !express_->writable) return false;
  const double rate = options_.rate_bytes_per_second;
  if (rate <= 0) return true;
  const TimePoint now = Clock::now();
  const double seconds = std::chrono::duration<double>(now - std::exchange(express_refilled_, now)).count();
  express_allowance_ = std::min(kExpressBurst, express_allowance_ + seconds * rate * kExpressShare);
  return express_allowance_ > 0;
}

bool TcpChannel::bulk_on_its_way() const noexcept {
  return outbox_.has_large() ||
         std::any_of(lanes_.begin(), lanes_.end(), [](const auto& lane) { return lane->carries_bulk(); });
}

/// Not all of it was written yet.
bool TcpChannel::sends_bulk() const noexcept {
  return outbox_.has_large() || std::any_of(lanes_.begin(), lanes_.end(), [this](const auto& lane) {
           return !lane->warming && lane.get() != express_ && !is_repair(*lane) && lane->log().unwritten() > 0;
         });
}

/// While large messages are on their way, small ones and announcements are left to the express lane, as far as that
/// may.
bool TcpChannel::next_frame(Lane& lane, wire::Frame& frame, OutFrame& out) {
  if (!lane.dialed()) return inbox_.next_reply(frame);
  if (is_repair(lane)) return next_repeat(lane, frame, out) || next_pad(lane, frame, out);
  Pull pull = &lane == express_ ? Pull::kSmall : Pull::kAny;
  const bool busy = express_ != nullptr && outbox_.has_urgent() && bulk_on_its_way();
  if (busy) {
    const bool room = express_has_room();
    if (&lane == express_ && !room) return false;
    if (&lane != express_ && room) pull = Pull::kLarge;
  }
  Fragment fragment;
  if (pull != Pull::kLarge && outbox_.next_announcement(frame)) return true;
  if (!outbox_.next(fragment_bytes_, fragment, pull)) {
    return (pull != Pull::kLarge && outbox_.next_announcement(frame)) || next_pad(lane, frame, out);
  }
  if (busy && &lane == express_) express_allowance_ -= static_cast<double>(fragment.bytes + wire::kHeaderBytes);
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
    case wire::FrameType::kResume: return refusal_of(frame);
    default: break;
  }
  return {};
}

}  // namespace longspan::tcp
