#include "tcp/lane.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "tcp/channel.hpp"
#include "tcp/socket_options.hpp"

namespace longspan::tcp {
namespace {

/// One write takes about this much: enough to make the system call cheap, little enough that lanes share fairly.
constexpr std::size_t kWriteBatch = std::size_t{256} << 10;
/// Frames of one write, two vectors each: a burst of small messages costs one system call.
constexpr std::size_t kFramesPerWrite = 32;
/// From here on a payload is worth its own system call rather than a copy through the staging buffer.
constexpr std::size_t kBulk = std::size_t{16} << 10;
/// Small frames that are kept before the other side is asked to acknowledge them, and replies.
constexpr std::size_t kUnaskedFrames = 64;
/// Repeats of one lane's frames that come before them.
constexpr std::size_t kMostRepeats = 65536;

}  // namespace

bool Lane::attach(Connection connection, std::uint64_t peer_received, std::span<const std::byte> greeting) {
  lose();
  if (!acknowledge(peer_received)) return false;
  log_.rewind([this](OutFrame& frame) { let_go(frame); });
  connection_ = std::move(connection);
  state_ = State::kUp;
  writable = true;
  std::copy(greeting.begin(), greeting.end(), greeting_.begin());
  greeting_bytes_ = greeting.size();
  told_ = received_;  // HELLO and RESUME say it
  asked_ = log_.acknowledged();
  if (connection_.buffered()) channel_.has_something_to_read(*this);
  return true;
}

void Lane::lose() noexcept {
  connection_.close();
  if (state_ == State::kUp) state_ = State::kDown;
  readable = writable = hung_up = warming = false;
  ack_due_ = heartbeat_due_ = false;
  greeting_bytes_ = greeting_written_ = front_written_ = 0;
  drop_landing();
  payload_ = Payload::kPadding;
  bulk_ = false;
  payload_left_ = partial_bytes_ = 0;
}

void Lane::end() noexcept {
  lose();
  state_ = State::kEnded;
  log_.clear([this](OutFrame& frame) {
    frame.message = nullptr;  // the outbox tells its messages
    let_go(frame);
  });
}

void Lane::on_events(std::uint32_t events) { channel_.on_lane_events(*this, events); }

Lane::Outcome Lane::fail(Status status) {
  failure_ = std::move(status);
  failed_by_network_ = false;
  return Outcome::kFailed;
}

Lane::Outcome Lane::fail_errno(const char* what, int error) {
  fail(Status(StatusCode::kPeerLost, fmt::format("{}: {}", what, std::strerror(error))));
  failed_by_network_ = true;
  return Outcome::kFailed;
}

// ---- writing ----

bool Lane::next_frame(wire::Frame& frame, OutFrame& out) {
  if (ack_due_ || (goodbye_ == Goodbye::kQueued && told_ != received_)) {
    ack_due_ = false;
    told_ = received_;
    frame.type = wire::FrameType::kAck;
    frame.message_bytes = received_;
    return true;
  }
  if (goodbye_ == Goodbye::kFramed) return false;
  if (heartbeat_due_) {
    heartbeat_due_ = false;
    asked_ = log_.next_number();
    frame.type = wire::FrameType::kHeartbeat;
    return true;
  }
  if (channel_.next_frame(*this, frame, out)) return true;
  if (goodbye_ != Goodbye::kQueued) return false;
  goodbye_ = Goodbye::kFramed;
  frame.type = wire::FrameType::kGoodbye;
  frame.message_bytes = channel_.lanes_up();
  return true;
}

/// Acknowledgements are asked for by the sender, who knows what waits for them.
void Lane::want_ack(wire::Frame& frame, const OutFrame& out) noexcept {
  const bool held = out.message != nullptr && !out.message->small();
  unasked_bytes_ += frame.payload_bytes;
  ++unasked_frames_;
  if (held) last_held_ = log_.next_number() + 1;
  if (unasked_bytes_ < channel_.ack_every() && unasked_frames_ < kUnaskedFrames && !(held && channel_.last_to_send())) {
    return;
  }
  frame.flags |= wire::kAckWanted;
  asked_ = log_.next_number() + 1;
  unasked_bytes_ = unasked_frames_ = 0;
}

bool Lane::add_frame() {
  OutFrame& out = log_.append();
  out.payload = nullptr;
  out.payload_bytes = 0;
  out.message = nullptr;
  out.written = out.repeated = false;
  if (channel_.repeats()) out.written_at = Clock::now();
  wire::Frame frame;
  if (!next_frame(frame, out)) return false;
  out.counted = wire::is_counted(frame.type);
  if (out.counted) frame.number = static_cast<std::uint32_t>(log_.next_number());
  if (frame.type == wire::FrameType::kData) want_ack(frame, out);
  wire::encode(frame, out.header);
  log_.ready(out);
  return true;
}

void Lane::fill() {
  // No more than it can send soon: what it has taken, no other lane can take.
  const std::size_t batch = std::min(kWriteBatch, channel_.batch_bytes());
  while (log_.unwritten() < kFramesPerWrite && log_.unwritten_bytes() < batch && add_frame()) {
  }
}

std::size_t Lane::gather(std::span<iovec> vectors, std::size_t& used) noexcept {
  std::size_t total = 0;
  const auto add = [&](const std::byte* at, std::size_t bytes) {
    vectors[used++] = {const_cast<std::byte*>(at), bytes};
    total += bytes;
  };
  if (greeting_written_ < greeting_bytes_) {
    add(greeting_.data() + greeting_written_, greeting_bytes_ - greeting_written_);
  }
  std::size_t skip = front_written_;
  const std::size_t frames = std::min(log_.unwritten(), kFramesPerWrite);
  for (std::size_t i = 0; i < frames; ++i) {
    const OutFrame& frame = log_[log_.next_to_write() + i];
    if (skip < wire::kHeaderBytes) {
      add(frame.header.data() + skip, wire::kHeaderBytes - skip);
      skip = wire::kHeaderBytes;
    }
    const std::size_t payload_skip = skip - wire::kHeaderBytes;
    if (frame.payload_bytes > payload_skip) add(frame.payload + payload_skip, frame.payload_bytes - payload_skip);
    skip = 0;
  }
  return total;
}

Lane::Outcome Lane::write() {
  if (writing_finished_) return Outcome::kIdle;
  fill();
  std::array<iovec, 2 * kFramesPerWrite + 1> vectors;
  std::size_t used = 0;
  const std::size_t total = gather(vectors, used);
  if (used == 0) return Outcome::kIdle;
  const Connection::Moved moved = connection_.write(std::span(vectors).first(used));
  if (moved.result == Connection::Result::kFailed) return fail_errno("sending failed", moved.error);
  if (moved.result == Connection::Result::kDone) {
    retire(moved.bytes);
    channel_.taken(*this, moved.bytes);
  }
  if (moved.result == Connection::Result::kDone && moved.bytes == total) return Outcome::kMore;
  writable = false;  // a short write: the kernel tells when there is room
  return Outcome::kBlocked;
}

void Lane::retire(std::size_t written) {
  const std::size_t greeted = std::min(written, greeting_bytes_ - greeting_written_);
  greeting_written_ += greeted;
  written -= greeted;
  while (log_.unwritten() > 0) {
    const std::size_t left = log_[log_.next_to_write()].bytes() - front_written_;
    if (written < left) {
      front_written_ += written;
      return;
    }
    written -= left;
    front_written_ = 0;
    OutFrame& frame = log_.wrote();
    if (channel_.repeats()) frame.written_at = Clock::now();
    channel_.count_sent(frame.payload_bytes);
    const bool first = !std::exchange(frame.written, true);
    if (first && frame.message != nullptr) channel_.written(frame);
    if (!frame.counted) acknowledge(log_.acknowledged());  // lets it go, if nothing before it is kept
  }
}

bool Lane::acknowledge(std::uint64_t count) {
  return log_.acknowledge(count, [this](OutFrame& frame) { let_go(frame); });
}

void Lane::let_go(OutFrame& frame) {
  if (SendMessage* message = std::exchange(frame.message, nullptr)) channel_.let_go(*message);
  if (frame.owned != nullptr) channel_.give_back(frame);
}

void Lane::copy_waiting(std::size_t& budget) {
  for (std::size_t i = 0; i < log_.next_to_write(); ++i) {
    OutFrame& frame = log_[i];
    if (frame.message == nullptr || !frame.message->waits) continue;
    if (frame.payload_bytes > budget) return;
    budget -= frame.payload_bytes;
    channel_.copy(frame);
  }
}

void Lane::finish_writing() noexcept {
  // The end would overtake what the kernel has yet to encrypt or send: there, the acknowledgement of the goodbye, which
  // is the last frame, tells that all came.
  if (connection_.kernel_encrypts()) return;
  writing_finished_ = true;
  connection_.finish_writing();
}

bool Lane::delivered() const noexcept {
  return unacknowledged_bytes(fd()) == 0 && (!connection_.kernel_encrypts() || log_.all_acknowledged());
}

// ---- reading ----

std::size_t Lane::read_vectors(std::span<std::byte> staging, std::span<iovec> vectors, std::size_t& count) noexcept {
  if (payload_left_ > 0 && target_ == nullptr) {  // to be dropped: the staging buffer is as good as any
    vectors[0] = {staging.data(), std::min(payload_left_, staging.size())};
    count = 1;
    return vectors[0].iov_len;
  }
  count = 0;
  if (payload_left_ > 0) vectors[count++] = {target_, payload_left_};
  const std::size_t room = bulk_ ? wire::kHeaderBytes : staging.size();
  vectors[count++] = {staging.data() + partial_bytes_, room - partial_bytes_};
  return payload_left_ + room - partial_bytes_;
}

Lane::Outcome Lane::read(std::span<std::byte> staging, std::size_t budget) {
  std::size_t total = 0;
  while (total < budget) {
    std::array<iovec, 2> vectors;
    std::size_t count = 0;
    std::memcpy(staging.data(), partial_.data(), partial_bytes_);
    const std::size_t wanted = read_vectors(staging, vectors, count);
    const Connection::Moved moved = connection_.read(std::span(vectors).first(count));
    if (moved.result == Connection::Result::kEnd) return Outcome::kEnd;
    if (moved.result == Connection::Result::kFailed) return fail_errno("receiving failed", moved.error);
    if (moved.result == Connection::Result::kBlocked) return drained();
    total += moved.bytes;
    if (payload_left_ > 0 && target_ == nullptr) {
      land(moved.bytes);
      if (payload_left_ == 0) finish_payload();
    } else {
      const std::size_t direct = std::min(moved.bytes, payload_left_);
      if (payload_left_ > 0) {
        land(direct);
        if (payload_left_ == 0) finish_payload();
      }
      if (payload_left_ == 0 && !consume(staging, partial_bytes_ + moved.bytes - direct)) return Outcome::kFailed;
    }
    // Less than asked for means that the socket is empty; only an end of stream may still be behind it.
    if (moved.bytes < wanted && !hung_up) return drained();
  }
  return Outcome::kMore;
}

Lane::Outcome Lane::drained() noexcept {
  readable = false;
  // A payload is of use when all of it is here: until then there is nothing to wake for, of which a WAN's train of
  // packets would make several for each fragment.
  connection_.expect(payload_left_);
  return Outcome::kBlocked;
}

void Lane::land(std::size_t bytes) noexcept {
  payload_left_ -= bytes;
  if (target_ != nullptr) target_ += bytes;
}

void Lane::finish_payload() {
  switch (std::exchange(payload_, Payload::kPadding)) {
    case Payload::kPadding: return;
    case Payload::kRepeat: return finish_repeat();
    case Payload::kCame: came_otherwise_.erase(received_); break;
    case Payload::kData:
      if (channel_.repeats_in_progress()) channel_.drop_repeats(index_, received_);
      channel_.landed(landing_);
      break;
  }
  counted_frame_came();
}

// ---- repeats ----

/// What is read into landing_ is no longer wanted there.
void Lane::drop_landing() noexcept {
  if (payload_ == Payload::kRepeat) channel_.repeat_ended();
  if (payload_ == Payload::kData || payload_ == Payload::kRepeat) channel_.abandon(landing_);
  target_ = nullptr;
}

void Lane::finish_repeat() {
  channel_.repeat_ended();
  Lane* const original = channel_.accepted_lane(repeated_lane_);
  if (original == nullptr || original->has_come(repeated_number_)) return channel_.abandon(landing_);
  original->came_otherwise(repeated_number_);
  if (channel_.repeats_in_progress()) channel_.drop_repeats(repeated_lane_, repeated_number_);
  channel_.landed(landing_);
}

void Lane::came_otherwise(std::uint64_t number) {
  came_otherwise_.insert(number);
  if (number != received_ || payload_ != Payload::kData) return;
  drop_landing();
  payload_ = Payload::kCame;
}

void Lane::drop_repeat(std::uint16_t lane, std::uint64_t number) noexcept {
  if (payload_ != Payload::kRepeat || repeated_lane_ != lane || repeated_number_ != number) return;
  drop_landing();
  payload_ = Payload::kPadding;
}

OutFrame* Lane::latest_unrepeated(TimePoint since, std::uint64_t& number) noexcept {
  number = log_.next_number();
  for (std::size_t i = log_.size(); i-- > 0;) {
    OutFrame& frame = log_[i];
    if (frame.counted) --number;
    if (frame.written_at < since) return nullptr;
    if (frame.counted && !frame.repeated && frame.payload_bytes > 0) return &frame;
  }
  return nullptr;
}

/// A counted frame has had its effect, all of it: from now on a replay would be a duplicate.
void Lane::counted_frame_came() {
  ++received_;
  if (!std::exchange(ack_wanted_, false) && received_ - told_ < kUnaskedFrames) return;
  if (!std::exchange(ack_due_, true)) channel_.has_something_to_write();
}

/// Parses `bytes` of staging; keeps the start of an incomplete header.
bool Lane::consume(std::span<std::byte> staging, std::size_t bytes) {
  partial_bytes_ = 0;
  const std::byte* at = staging.data();
  while (true) {
    if (payload_left_ > 0) {
      const std::size_t part = std::min(bytes, payload_left_);
      if (target_ != nullptr) std::memcpy(target_, at, part);
      land(part);
      at += part;
      bytes -= part;
      if (payload_left_ > 0) return true;
      finish_payload();
    }
    if (bytes < wire::kHeaderBytes) break;
    if (!on_header(std::span<const std::byte, wire::kHeaderBytes>(at, wire::kHeaderBytes))) return false;
    at += wire::kHeaderBytes;
    bytes -= wire::kHeaderBytes;
  }
  std::memcpy(partial_.data(), at, bytes);
  partial_bytes_ = bytes;
  return true;
}

bool Lane::on_header(std::span<const std::byte, wire::kHeaderBytes> header) {
  wire::Frame frame;
  if (const wire::WireError error = wire::decode(header, frame); error != wire::WireError::kNone) {
    fail(Status(StatusCode::kInternal, fmt::format("received {}", wire::describe(error))));
    return false;
  }
  const bool data_side =
      wire::brings_data(frame.type) || frame.type == wire::FrameType::kRts || frame.type == wire::FrameType::kPad;
  const bool reply_side = frame.type == wire::FrameType::kCts || frame.type == wire::FrameType::kCredit;
  if (dialed_ ? data_side : reply_side) {
    fail(Status(StatusCode::kInternal, "received a frame that belongs to the other direction"));
    return false;
  }
  if (wire::is_counted(frame.type) && frame.number != static_cast<std::uint32_t>(received_)) {
    fail(Status(StatusCode::kInternal, fmt::format("received frame {} where {} should be", frame.number,
                                                   static_cast<std::uint32_t>(received_))));
    return false;
  }
  ++heard_;
  ack_wanted_ = (frame.flags & wire::kAckWanted) != 0;
  payload_left_ = frame.payload_bytes;
  target_ = nullptr;
  return on_frame(frame);
}

bool Lane::on_frame(const wire::Frame& frame) {
  Status status;
  switch (frame.type) {
    case wire::FrameType::kRepeat: {
      repeated_lane_ = wire::lane_of_repeated(frame.number);
      const Lane* original = channel_.accepted_lane(repeated_lane_);
      if (original == nullptr || payload_left_ == 0) return true;
      repeated_number_ = wire::number_of_repeated(frame.number, original->received_);
      if (original->has_come(repeated_number_) || original->came_otherwise_.size() >= kMostRepeats) return true;
      status = channel_.begin(frame, landing_);
      if (!status.ok()) break;
      payload_ = Payload::kRepeat;
      channel_.repeat_began();
      target_ = landing_.target;
      bulk_ = frame.payload_bytes >= kBulk;
      return true;
    }
    case wire::FrameType::kData:
      if (came_otherwise_.contains(received_)) {
        payload_ = Payload::kCame;
        if (payload_left_ == 0) finish_payload();
        return true;
      }
      status = channel_.begin(frame, landing_);
      if (!status.ok()) break;
      payload_ = Payload::kData;
      target_ = landing_.target;
      bulk_ = frame.payload_bytes >= kBulk;
      if (payload_left_ == 0) finish_payload();
      return true;
    case wire::FrameType::kPad: return true;
    case wire::FrameType::kHeartbeat:
      if (!std::exchange(ack_due_, true)) channel_.has_something_to_write();
      return true;
    case wire::FrameType::kAck:
      if (acknowledge(frame.message_bytes)) return true;
      status = Status(StatusCode::kInternal, "received an acknowledgement of what was never sent");
      break;
    default:
      status = channel_.on_control(*this, frame);
      if (!status.ok()) break;
      if (wire::is_counted(frame.type)) counted_frame_came();
      if (frame.type == wire::FrameType::kGoodbye) {
        // At once: nobody may be here to do it later, and who says goodbye would dial again to say it once more.
        ack_due_ = true;
        if (writable) write();
      }
      return true;
  }
  fail(std::move(status));
  return false;
}

void Lane::forget(std::uint64_t comm) {
  for (std::size_t i = 0; i < log_.size(); ++i) {
    OutFrame& frame = log_[i];
    // The header is promised to the peer, or may be: what it announces must follow, from memory that stays.
    if (frame.message != nullptr && frame.message->id.comm == comm) channel_.copy(frame);
  }
  const bool lands = payload_ == Payload::kData || payload_ == Payload::kRepeat;
  if (lands && landing_.comm == comm && landing_.message != nullptr) {
    channel_.abandon(landing_);
    target_ = nullptr;
  }
}

}  // namespace longspan::tcp
