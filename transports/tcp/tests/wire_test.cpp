#include "tcp/wire.hpp"

#include <rapidcheck.h>

#include <algorithm>

#include "support/catch.hpp"

using namespace longspan;
using namespace longspan::tcp;
using wire::FrameType;
using wire::WireError;

namespace {

wire::Frame data_frame(std::uint32_t payload, std::uint64_t message, std::uint64_t offset) {
  wire::Frame frame;
  frame.payload_bytes = payload;
  frame.message_bytes = message;
  frame.offset = offset;
  return frame;
}

WireError decoded(const wire::Frame& frame) {
  wire::Header header;
  wire::encode(frame, header);
  wire::Frame again;
  return wire::decode(header, again);
}

WireError decoded(const wire::Hello& hello) {
  wire::HelloHeader header;
  wire::encode(hello, header);
  wire::Hello again;
  return wire::decode(header, again);
}

}  // namespace

TEST_CASE("a frame is decoded to what was encoded", "[tcp]") {
  CHECK(rc::check("round trip", [] {
    wire::Frame frame;
    frame.flags = static_cast<std::uint8_t>(*rc::gen::inRange(0, 16));
    frame.number = *rc::gen::arbitrary<std::uint32_t>();
    frame.payload_bytes = *rc::gen::inRange<std::uint32_t>(1, wire::kMaxFragment + 1);
    frame.id = {*rc::gen::arbitrary<std::uint64_t>(), *rc::gen::arbitrary<std::uint32_t>(),
                *rc::gen::arbitrary<std::uint32_t>(), *rc::gen::arbitrary<std::uint32_t>()};
    frame.digest = *rc::gen::arbitrary<std::uint64_t>();
    frame.offset = *rc::gen::inRange<std::uint64_t>(0, wire::kMaxMessage - wire::kMaxFragment);
    frame.message_bytes = frame.offset + frame.payload_bytes;
    wire::Header header;
    wire::encode(frame, header);
    wire::Frame again;
    RC_ASSERT(wire::decode(header, again) == WireError::kNone);
    RC_ASSERT(again.id == frame.id);
    RC_ASSERT(again.flags == frame.flags);
    RC_ASSERT(again.number == frame.number);
    RC_ASSERT(again.digest == frame.digest);
    RC_ASSERT(again.offset == frame.offset);
    RC_ASSERT(again.message_bytes == frame.message_bytes);
    RC_ASSERT(again.payload_bytes == frame.payload_bytes);
  }));
}

TEST_CASE("the layout on the wire is fixed", "[tcp]") {
  wire::Frame frame = data_frame(0x01020304, 0, 0);
  frame.type = FrameType::kPad;
  frame.id = {0x1112131415161718, 0x21222324, 0x31323334, 0x41424344};
  wire::Header header;
  wire::encode(frame, header);
  const auto byte = [&](std::size_t at) { return std::to_integer<int>(header[at]); };
  CHECK(byte(0) == 'L');
  CHECK(byte(1) == 'S');
  CHECK(byte(2) == static_cast<int>(FrameType::kPad));
  CHECK(byte(4) == 4);
  CHECK(byte(7) == 1);
  CHECK(byte(8) == 0x18);
  CHECK(byte(16) == 0x24);
  CHECK(byte(20) == 0x34);
  CHECK(byte(24) == 0x44);
  wire::HelloHeader greeting;
  wire::encode(wire::Hello{}, greeting);
  CHECK(std::string(reinterpret_cast<const char*>(greeting.data()), 8) == "LONGSPAN");
  for (const std::size_t bytes : {0U, 1U, 8U, 80U}) CHECK(wire::may_become_hello(std::span(greeting).first(bytes)));
  CHECK_FALSE(wire::may_become_hello(std::span(header).first(3)));
}

TEST_CASE("a fragment must lie inside its message", "[tcp]") {
  CHECK(decoded(data_frame(10, 10, 0)) == WireError::kNone);
  CHECK(decoded(data_frame(0, 0, 0)) == WireError::kNone);
  CHECK(decoded(data_frame(10, 9, 0)) == WireError::kMessageLength);
  CHECK(decoded(data_frame(10, 100, 91)) == WireError::kMessageLength);
  CHECK(decoded(data_frame(10, 100, ~std::uint64_t{0} - 4)) == WireError::kMessageLength);
  CHECK(decoded(data_frame(10, ~std::uint64_t{0}, 0)) == WireError::kMessageLength);
  CHECK(decoded(data_frame(0, 10, 0)) == WireError::kPayloadLength);
  CHECK(decoded(data_frame(wire::kMaxFragment + 1, wire::kMaxFragment + 1, 0)) == WireError::kPayloadLength);
}

TEST_CASE("only data and padding carry a payload", "[tcp]") {
  for (const FrameType type : {FrameType::kRts, FrameType::kCts, FrameType::kCredit, FrameType::kGoodbye,
                               FrameType::kHeartbeat, FrameType::kAck}) {
    wire::Frame frame = data_frame(8, 8, 0);
    frame.type = type;
    CHECK(decoded(frame) == WireError::kPayloadLength);
    frame.payload_bytes = 0;
    CHECK(decoded(frame) == WireError::kNone);
  }
}

TEST_CASE("headers of anything else are refused", "[tcp]") {
  wire::Header header{};
  wire::Frame frame;
  wire::Hello hello;
  CHECK(wire::decode(header, frame) == WireError::kNotLongspan);
  CHECK(wire::decode(wire::HelloHeader{}, hello) == WireError::kNotLongspan);
  wire::encode(data_frame(1, 1, 0), header);
  header[2] = std::byte{99};
  CHECK(wire::decode(header, frame) == WireError::kUnknownType);
  wire::encode(data_frame(1, 1, 0), header);
  header[3] = std::byte{0x80};
  CHECK(wire::decode(header, frame) == WireError::kUnknownFlags);
}

TEST_CASE("a greeting must make sense", "[tcp]") {
  wire::Hello hello;
  hello.lanes = 2;
  hello.lane = 1;
  CHECK(decoded(hello) == WireError::kNone);
  hello.lane = 2;
  CHECK(decoded(hello) == WireError::kLane);
  hello.lane = 0;
  hello.lanes = 0;
  CHECK(decoded(hello) == WireError::kLane);
  hello.lanes = wire::kMaxLanes + 1;
  CHECK(decoded(hello) == WireError::kLane);
  hello.lanes = 1;
  hello.credit_bytes = ~std::uint64_t{0};
  CHECK(decoded(hello) == WireError::kMessageLength);
  hello.credit_bytes = 0;
  wire::HelloHeader header;
  wire::encode(hello, header);
  header[8] = std::byte{77};
  CHECK(wire::decode(header, hello) == WireError::kWrongVersion);
}
