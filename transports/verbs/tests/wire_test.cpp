// What a peer may say, and what LONGSPAN_RDMA may ask for.
#include <algorithm>
#include <cstring>

#include "rapidcheck.h"
#include "support/catch.hpp"
#include "verbs/device.hpp"
#include "verbs/wire.hpp"

using namespace longspan;
using namespace longspan::verbs;

TEST_CASE("a frame that lies about its length, its place or its kind is refused", "[verbs]") {
  wire::Frame frame;
  frame.type = wire::FrameType::kEager;
  frame.bytes = 100;
  frame.address = 60;
  frame.payload = 40;
  CHECK(wire::check(frame, sizeof frame + 40).empty());
  CHECK_FALSE(wire::check(frame, sizeof frame + 39).empty());
  CHECK_FALSE(wire::check(frame, 10).empty());
  frame.address = 61;
  CHECK_FALSE(wire::check(frame, sizeof frame + 40).empty());
  frame.address = UINT64_MAX;
  CHECK_FALSE(wire::check(frame, sizeof frame + 40).empty());
  frame = {};
  frame.type = static_cast<wire::FrameType>(99);
  CHECK_FALSE(wire::check(frame, sizeof frame).empty());
  frame.type = wire::FrameType::kReset;
  frame.payload = 12;
  CHECK_FALSE(wire::check(frame, sizeof frame + 12).empty());
}

TEST_CASE("frames and greetings of any bytes are judged, and what is accepted lies inside its message", "[verbs]") {
  CHECK(rc::check([](const std::vector<std::uint8_t>& bytes, std::uint32_t arrived) {
    const auto fill = [&bytes](auto& object) {  // an empty vector has no address
      if (!bytes.empty()) std::memcpy(&object, bytes.data(), std::min(bytes.size(), sizeof object));
    };
    wire::Frame frame;
    fill(frame);
    if (wire::check(frame, arrived).empty() && frame.type == wire::FrameType::kEager) {
      RC_ASSERT(frame.address + frame.payload <= frame.bytes);
      RC_ASSERT(frame.payload + sizeof frame == arrived);
    }
    wire::Greeting greeting;
    fill(greeting);
    const bool good = wire::check(greeting).empty();
    if (good && greeting.version == wire::kVersion && greeting.verdict == wire::Verdict::kWelcome) {
      RC_ASSERT(greeting.lanes <= wire::kMaxLanes);
    }
  }));
}

TEST_CASE("a greeting of another protocol is not believed", "[verbs]") {
  wire::Greeting greeting;
  CHECK_FALSE(wire::check(greeting).empty());  // no lanes
  greeting.lanes = 2;
  greeting.buffers = greeting.segments = 32;
  greeting.mtu = 3;
  CHECK(wire::check(greeting).empty());
  greeting.lanes = wire::kMaxLanes + 1;
  CHECK_FALSE(wire::check(greeting).empty());
  greeting.magic = 1;
  CHECK(wire::check(greeting) == "it does not speak longspan");
}

TEST_CASE("LONGSPAN_RDMA is read, and what it cannot mean is refused with what it can", "[verbs]") {
  const auto wishes = parse_wishes("device=mlx5_1,port=2,gid=3,tc=106,sl=4,pkey=0x8001,mtu=2048,timeout=18,retries=5");
  REQUIRE(wishes.ok());
  CHECK(wishes->device == "mlx5_1");
  CHECK(wishes->port == 2);
  CHECK(wishes->gid_index == 3);
  CHECK(wishes->traffic_class == 106);
  CHECK(wishes->service_level == 4);
  CHECK(wishes->pkey == 0x8001);
  CHECK(wishes->mtu == 2048);
  CHECK(wishes->timeout == 18);
  CHECK(wishes->retries == 5);
  CHECK(parse_wishes("").ok());
  for (const char* bad : {"port", "port=0", "tc=256", "colour=red", "gid=-1", "timeout=32", "port=1x", "=", "sl=16,"}) {
    CAPTURE(bad);
    const auto refused = parse_wishes(bad);
    REQUIRE_FALSE(refused.ok());
    CHECK(refused.status().code() == StatusCode::kInvalidArgument);
    CHECK(std::string(refused.status().message()).find("LONGSPAN_RDMA") != std::string::npos);
  }
}
