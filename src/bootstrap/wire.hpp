#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <string_view>

#include "bootstrap/stream.hpp"

namespace longspan::bootstrap {

/// Every message between ranks is a frame: "LSPN", version, type, length of the body. Little-endian.
inline constexpr char kMagic[4] = {'L', 'S', 'P', 'N'};
inline constexpr std::uint16_t kProtocolVersion = 1;
inline constexpr std::size_t kFrameHeaderBytes = 12;

/// Builds the body of a message.
class Writer {
 public:
  void u8(std::uint8_t v) { number(v, 1); }
  void u16(std::uint16_t v) { number(v, 2); }
  void u32(std::uint32_t v) { number(v, 4); }
  void u64(std::uint64_t v) { number(v, 8); }
  void i32(std::int32_t v) { u32(static_cast<std::uint32_t>(v)); }
  void text(std::string_view v);
  std::string take() && { return std::move(out_); }

 private:
  void number(std::uint64_t v, int bytes);
  std::string out_;
};

/// Reads what Writer wrote, from hostile bytes: after the first violation every value is 0 or empty, and ok() is false.
class Reader {
 public:
  explicit Reader(std::string_view bytes) : left_(bytes) {}
  std::uint8_t u8() { return static_cast<std::uint8_t>(number(1)); }
  std::uint16_t u16() { return static_cast<std::uint16_t>(number(2)); }
  std::uint32_t u32() { return static_cast<std::uint32_t>(number(4)); }
  std::uint64_t u64() { return number(8); }
  std::int32_t i32() { return static_cast<std::int32_t>(u32()); }
  /// A string of at most `max` bytes.
  std::string text(std::size_t max);
  /// A count of items that take at least `item_bytes` each: bounded by what is left to read.
  std::uint32_t count(std::size_t item_bytes);
  bool ok() const noexcept { return ok_; }

 private:
  std::uint64_t number(std::size_t bytes);
  std::string_view left_;
  bool ok_ = true;
};

struct Frame {
  std::uint16_t version = 0;
  std::uint16_t type = 0;
  std::string body;
};

std::string make_frame(std::uint16_t type, std::string_view body);

/// Reads frames from a stream. Never reads past the end of a frame, so the stream can change hands between two of them.
class FrameReader {
 public:
  explicit FrameReader(std::uint32_t max_body) : max_body_(max_body) {}
  enum class State { kNeedMore, kFrame, kClosed, kMalformed };
  /// Reads until a frame is complete or nothing more is there.
  State read(Stream& stream);
  /// The frame that read() completed.
  Frame take();
  /// errno of a kClosed that was an error; 0 for an orderly end.
  int error() const noexcept { return error_; }
  void set_max_body(std::uint32_t max_body) noexcept { max_body_ = max_body; }

 private:
  State parse_header();
  std::uint32_t max_body_;
  std::size_t have_ = 0;
  char header_[kFrameHeaderBytes] = {};
  Frame frame_;
  std::uint32_t length_ = 0;
  bool in_body_ = false;
  int error_ = 0;
};

/// Frames on their way into a stream.
class FrameWriter {
 public:
  using Bytes = std::shared_ptr<const std::string>;  // shared by all receivers of one broadcast
  void push(std::string frame) { push(std::make_shared<const std::string>(std::move(frame))); }
  void push(Bytes frame) {
    waiting_ += frame->size();
    queue_.push_back(std::move(frame));
  }
  /// Sends what the stream takes; false when the connection is broken.
  bool flush(Stream& stream);
  bool empty() const noexcept { return queue_.empty(); }
  std::size_t waiting_bytes() const noexcept { return waiting_; }

 private:
  std::deque<Bytes> queue_;
  std::size_t sent_ = 0;  // of the first
  std::size_t waiting_ = 0;
};

}  // namespace longspan::bootstrap
