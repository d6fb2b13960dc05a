#include "bootstrap/wire.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace longspan::bootstrap {

void Writer::number(std::uint64_t v, int bytes) {
  for (int i = 0; i < bytes; ++i) out_.push_back(static_cast<char>((v >> (8 * i)) & 0xff));
}

void Writer::text(std::string_view v) {
  u32(static_cast<std::uint32_t>(v.size()));
  out_.append(v);
}

std::uint64_t Reader::number(std::size_t bytes) {
  if (!ok_ || left_.size() < bytes) {
    ok_ = false;
    return 0;
  }
  std::uint64_t v = 0;
  for (std::size_t i = 0; i < bytes; ++i) v |= std::uint64_t{static_cast<unsigned char>(left_[i])} << (8 * i);
  left_.remove_prefix(bytes);
  return v;
}

std::string Reader::text(std::size_t max) {
  const std::size_t length = u32();
  if (!ok_ || length > max || length > left_.size()) {
    ok_ = false;
    return {};
  }
  std::string v(left_.substr(0, length));
  left_.remove_prefix(length);
  return v;
}

std::uint32_t Reader::count(std::size_t item_bytes) {
  const std::uint32_t n = u32();
  if (!ok_ || n > left_.size() / item_bytes) {
    ok_ = false;
    return 0;
  }
  return n;
}

std::string make_frame(std::uint16_t type, std::string_view body) {
  Writer w;
  w.u16(kProtocolVersion);
  w.u16(type);
  w.u32(static_cast<std::uint32_t>(body.size()));
  std::string frame(kMagic, sizeof kMagic);
  frame += std::move(w).take();
  frame += body;
  return frame;
}

FrameReader::State FrameReader::parse_header() {
  if (std::memcmp(header_, kMagic, sizeof kMagic) != 0) return State::kMalformed;
  Reader r(std::string_view(header_, sizeof header_).substr(sizeof kMagic));
  frame_.version = r.u16();
  frame_.type = r.u16();
  length_ = r.u32();
  if (length_ > max_body_) return State::kMalformed;
  frame_.body.clear();
  in_body_ = true;
  have_ = 0;
  return State::kNeedMore;
}

FrameReader::State FrameReader::read(Stream& stream) {
  while (true) {
    if (in_body_ && have_ == length_) return State::kFrame;
    char* to = nullptr;
    std::size_t want = 0;
    if (!in_body_) {
      to = header_ + have_;
      want = kFrameHeaderBytes - have_;
    } else {
      // Grows with what arrives, so that a stranger's length field alone reserves no memory.
      constexpr std::size_t kStep = 64 * 1024;
      want = std::min<std::size_t>(length_ - have_, kStep);
      frame_.body.resize(have_ + want);
      to = frame_.body.data() + have_;
    }
    const ssize_t got = stream.receive(to, want);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return State::kNeedMore;
    if (got <= 0) {
      error_ = got < 0 ? errno : 0;
      return State::kClosed;
    }
    have_ += static_cast<std::size_t>(got);
    if (!in_body_ && have_ >= sizeof kMagic && std::memcmp(header_, kMagic, sizeof kMagic) != 0) {
      return State::kMalformed;
    }
    if (!in_body_ && have_ == kFrameHeaderBytes && parse_header() == State::kMalformed) return State::kMalformed;
  }
}

Frame FrameReader::take() {
  frame_.body.resize(length_);
  in_body_ = false;
  have_ = 0;
  return std::move(frame_);
}

bool FrameWriter::flush(Stream& stream) {
  while (!queue_.empty()) {
    const std::string& first = *queue_.front();
    const ssize_t put = stream.send(first.data() + sent_, first.size() - sent_);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return errno == EAGAIN || errno == EWOULDBLOCK;
    sent_ += static_cast<std::size_t>(put);
    waiting_ -= static_cast<std::size_t>(put);
    if (sent_ < first.size()) continue;
    queue_.pop_front();
    sent_ = 0;
  }
  return true;
}

}  // namespace longspan::bootstrap
