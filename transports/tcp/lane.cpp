#include "tcp/lane.hpp"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "tcp/channel.hpp"

namespace longspan::tcp {
namespace {

/// One write takes about this much: enough to make the system call cheap, little enough that lanes share fairly.
constexpr std::size_t kWriteBatch = std::size_t{256} << 10;
/// From here on a payload is worth its own system call rather than a copy through the staging buffer.
constexpr std::size_t kBulk = std::size_t{16} << 10;

}  // namespace

void Lane::adopt(TcpChannel* channel, std::uint16_t index) noexcept {
  channel_ = channel;
  index_ = index;
  state_ = State::kUp;
}

void Lane::close() noexcept {
  fd_.reset();
  state_ = State::kClosed;
  readable = writable = false;
  warming = false;
  while (count_ > 0) {
    out_[head_] = OutFrame{};
    head_ = (head_ + 1) % kFrames;
    --count_;
  }
  front_written_ = queued_bytes_ = 0;
  if (landing_active_) channel_->abandon(landing_);
  landing_active_ = false;
  payload_left_ = 0;
}

Lane::Outcome Lane::fail(Status status) {
  failure_ = std::move(status);
  return Outcome::kFailed;
}

Lane::Outcome Lane::fail_errno(const char* what, int error) {
  return fail(Status(StatusCode::kPeerLost, fmt::format("{}: {}", what, std::strerror(error))));
}

// ---- writing ----

void Lane::queue_hello(const wire::Hello& hello) noexcept {
  wire::encode(hello, hello_);
  hello_queued_ = true;
}

bool Lane::add_frame() {
  OutFrame& frame = out_[(head_ + count_) % kFrames];
  frame.payload = nullptr;
  frame.payload_bytes = 0;
  frame.message = nullptr;
  if (hello_queued_) {
    frame.header = hello_;
    hello_queued_ = false;
  } else if (goodbye_ == Goodbye::kFramed) {
    return false;  // nothing follows a goodbye
  } else if (!channel_->next_frame(*this, frame)) {
    if (goodbye_ != Goodbye::kQueued) return false;
    wire::Frame goodbye;
    goodbye.type = wire::FrameType::kGoodbye;
    goodbye.message_bytes = channel_->lanes_up();
    wire::encode(goodbye, frame.header);
    goodbye_ = Goodbye::kFramed;
  }
  ++count_;
  queued_bytes_ += frame.bytes();
  return true;
}

void Lane::fill() {
  while (count_ < kFrames && queued_bytes_ < kWriteBatch && add_frame()) {
  }
}

Lane::Outcome Lane::write() {
  fill();
  if (count_ == 0) return Outcome::kIdle;
  std::array<iovec, 2 * kFrames> vectors;
  std::size_t used = 0;
  std::size_t skip = front_written_;
  for (std::size_t i = 0; i < count_; ++i) {
    OutFrame& frame = out_[(head_ + i) % kFrames];
    if (skip < wire::kHeaderBytes) {
      vectors[used++] = {frame.header.data() + skip, wire::kHeaderBytes - skip};
      skip = wire::kHeaderBytes;
    }
    const std::size_t payload_skip = skip - wire::kHeaderBytes;
    if (frame.payload_bytes > payload_skip) {
      vectors[used++] = {const_cast<std::byte*>(frame.payload) + payload_skip, frame.payload_bytes - payload_skip};
    }
    skip = 0;
  }
  msghdr message{};
  message.msg_iov = vectors.data();
  message.msg_iovlen = used;
  const std::size_t total = queued_bytes_;
  const ssize_t written = ::sendmsg(fd_.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
  if (written < 0) {
    if (errno == EINTR) return Outcome::kMore;
    if (errno != EAGAIN && errno != EWOULDBLOCK && errno != ENOBUFS) return fail_errno("sending failed", errno);
    writable = false;
    return Outcome::kBlocked;
  }
  retire(static_cast<std::size_t>(written));
  if (static_cast<std::size_t>(written) == total) return Outcome::kMore;
  writable = false;  // a short write: the kernel tells when there is room
  return Outcome::kBlocked;
}

void Lane::retire(std::size_t written) {
  queued_bytes_ -= written;
  while (count_ > 0) {
    OutFrame& frame = out_[head_];
    const std::size_t left = frame.bytes() - front_written_;
    if (written < left) {
      front_written_ += written;
      return;
    }
    written -= left;
    front_written_ = 0;
    head_ = (head_ + 1) % kFrames;
    --count_;
    frame.owned.reset();
    channel_->count_sent(frame.payload_bytes);
    if (SendMessage* message = std::exchange(frame.message, nullptr)) channel_->written(*message);
  }
}

// ---- reading ----

Lane::Outcome Lane::read_hello(wire::Hello& hello, wire::WireError& error) {
  error = wire::WireError::kNone;
  const ssize_t got = ::recv(fd_.get(), partial_.data() + partial_bytes_, partial_.size() - partial_bytes_, MSG_DONTWAIT);
  if (got == 0) return Outcome::kEnd;
  if (got < 0) {
    if (errno == EINTR) return Outcome::kBlocked;
    if (errno == EAGAIN || errno == EWOULDBLOCK) return Outcome::kBlocked;
    return fail_errno("receiving failed", errno);
  }
  partial_bytes_ += static_cast<std::size_t>(got);
  if (partial_bytes_ < partial_.size()) return Outcome::kBlocked;
  partial_bytes_ = 0;
  error = wire::decode(partial_, hello);
  return error == wire::WireError::kNone ? Outcome::kMore : Outcome::kFailed;
}

std::size_t Lane::read_vectors(std::span<std::byte> staging, void* vectors, int& count) noexcept {
  auto* const vector = static_cast<iovec*>(vectors);
  if (payload_left_ > 0 && target_ == nullptr) {  // to be dropped: the staging buffer is as good as any
    vector[0] = {staging.data(), std::min(payload_left_, staging.size())};
    count = 1;
    return vector[0].iov_len;
  }
  count = 0;
  if (payload_left_ > 0) vector[count++] = {target_, payload_left_};
  const std::size_t room = bulk_ ? wire::kHeaderBytes : staging.size();
  vector[count++] = {staging.data() + partial_bytes_, room - partial_bytes_};
  return payload_left_ + room - partial_bytes_;
}

Lane::Outcome Lane::read(std::span<std::byte> staging, std::size_t budget) {
  std::size_t total = 0;
  while (total < budget) {
    std::array<iovec, 2> vectors;
    int count = 0;
    std::memcpy(staging.data(), partial_.data(), partial_bytes_);
    const std::size_t wanted = read_vectors(staging, vectors.data(), count);
    const ssize_t result = ::readv(fd_.get(), vectors.data(), count);
    if (result == 0) return Outcome::kEnd;
    if (result < 0) {
      if (errno == EINTR) continue;
      if (errno != EAGAIN && errno != EWOULDBLOCK) return fail_errno("receiving failed", errno);
      readable = false;
      return Outcome::kBlocked;
    }
    const auto got = static_cast<std::size_t>(result);
    total += got;
    if (payload_left_ > 0 && target_ == nullptr) {
      land(got);
      if (payload_left_ == 0) finish_payload();
    } else {
      const std::size_t direct = std::min(got, payload_left_);
      if (payload_left_ > 0) {
        land(direct);
        if (payload_left_ == 0) finish_payload();
      }
      if (payload_left_ == 0 && !consume(staging, partial_bytes_ + got - direct)) return Outcome::kFailed;
    }
    // Less than asked for means that the socket is empty; only an end of stream may still be behind it.
    if (got < wanted && !hung_up) {
      readable = false;
      return Outcome::kBlocked;
    }
  }
  return Outcome::kMore;
}

void Lane::land(std::size_t bytes) noexcept {
  payload_left_ -= bytes;
  if (target_ != nullptr) target_ += bytes;
}

void Lane::finish_payload() {
  if (!std::exchange(landing_active_, false)) return;
  channel_->landed(landing_);
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
  const bool data_side = frame.type == wire::FrameType::kData || frame.type == wire::FrameType::kRts || frame.type == wire::FrameType::kPad;
  const bool reply_side = frame.type == wire::FrameType::kCts || frame.type == wire::FrameType::kCredit;
  if (dialed_ ? data_side : reply_side) {
    fail(Status(StatusCode::kInternal, "received a frame that belongs to the other direction"));
    return false;
  }
  payload_left_ = frame.payload_bytes;
  target_ = nullptr;
  if (frame.type == wire::FrameType::kData) {
    if (Status status = channel_->begin(frame, landing_); !status.ok()) {
      fail(std::move(status));
      return false;
    }
    landing_active_ = true;
    target_ = landing_.target;
    bulk_ = frame.payload_bytes >= kBulk;
    if (payload_left_ == 0) finish_payload();
    return true;
  }
  if (Status status = channel_->on_control(*this, frame); !status.ok()) {
    fail(std::move(status));
    return false;
  }
  return true;
}

void Lane::forget(std::uint64_t comm) {
  for (std::size_t i = 0; i < count_; ++i) {
    OutFrame& frame = out_[(head_ + i) % kFrames];
    if (frame.message == nullptr || frame.message->id.comm != comm) continue;
    // The header is promised to the peer, or may be: what it announces must follow, from memory that stays.
    frame.owned = std::make_unique<std::byte[]>(frame.payload_bytes);
    if (frame.payload_bytes > 0) std::memcpy(frame.owned.get(), frame.payload, frame.payload_bytes);
    frame.payload = frame.owned.get();
    frame.message = nullptr;
  }
  if (landing_active_ && landing_.comm == comm && landing_.message != nullptr) {
    channel_->abandon(landing_);
    target_ = nullptr;
  }
}

}  // namespace longspan::tcp
