// What others send to a listening port must never crash, hang or disturb an endpoint.
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "base/clock.hpp"
#include "base/fd.hpp"
#include "support/catch.hpp"
#include "tcp/endpoint.hpp"
#include "tcp/wire.hpp"

using namespace longspan;
using namespace longspan::tcp;
using std::chrono::seconds;

namespace {

constexpr std::uint64_t kJob = 42;

std::unique_ptr<spi::Endpoint> open_endpoint(spi::PeerId self, const std::string& bind = "127.0.0.1") {
  spi::EndpointOptions options;
  options.self = self;
  options.job = kJob;
  options.bind_address = bind;
  auto endpoint = TcpEndpoint::open(options);
  REQUIRE(endpoint.ok());
  return std::move(endpoint).value();
}

/// A program that speaks TCP to an endpoint, but not necessarily our protocol.
class Stranger {
 public:
  explicit Stranger(const spi::Endpoint& endpoint) {
    const SocketAddress address = parse_address(endpoint.address()).value();
    fd_.reset(::socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
    REQUIRE(::connect(fd_.get(), address.get(), address.length) == 0);
  }
  void say(std::span<const std::byte> bytes) {
    REQUIRE(::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size()));
  }
  void say(const wire::Hello& hello) {
    wire::HelloHeader header;
    wire::encode(hello, header);
    say(std::span<const std::byte>(header));
  }
  void say(const wire::Frame& frame) {
    wire::Header header;
    wire::encode(frame, header);
    say(std::span<const std::byte>(header));
  }
  /// The endpoint ended the connection.
  bool dropped() {
    std::array<std::byte, 256> buffer;
    const ssize_t got = ::recv(fd_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
    return got == 0 || (got < 0 && errno != EAGAIN);
  }
  void leave() { fd_.reset(); }

 private:
  Fd fd_;
};

bool drive(spi::Endpoint& endpoint, std::vector<spi::Completion>& completions, const std::function<bool()>& done) {
  const TimePoint deadline = Clock::now() + seconds(10);
  std::array<spi::Completion, 16> batch;
  while (!done()) {
    const std::size_t count = endpoint.poll(batch);
    for (std::size_t i = 0; i < count; ++i) completions.push_back(std::move(batch[i]));
    if (count == 0 && endpoint.arm()) {
      pollfd wait{endpoint.wait_fd(), POLLIN, 0};
      ::poll(&wait, 1, poll_timeout_ms(Clock::now(), deadline, 20));
    }
    if (Clock::now() > deadline) return false;
  }
  return true;
}

bool is_dropped(spi::Endpoint& endpoint, Stranger& stranger) {
  std::vector<spi::Completion> completions;
  return drive(endpoint, completions, [&] { return stranger.dropped(); }) && completions.empty();
}

wire::Hello greeting(spi::PeerId from, spi::PeerId to, std::uint64_t job = kJob) {
  wire::Hello hello;
  hello.job = job;
  hello.from = from;
  hello.to = to;
  hello.lanes = 1;
  hello.credit_bytes = 1000;
  return hello;
}

wire::Frame data_frame(std::uint32_t payload, std::uint64_t message, std::uint64_t offset = 0) {
  wire::Frame frame;
  frame.id = {1, 1, 0, 0};
  frame.payload_bytes = payload;
  frame.message_bytes = message;
  frame.offset = offset;
  return frame;
}

wire::Frame numbered(std::uint32_t number, wire::Frame frame) {
  frame.number = number;
  return frame;
}

/// Greets properly, sends `attack`, and expects the channel to break with a message.
void breaks(const std::function<void(Stranger&)>& attack) {
  auto endpoint = open_endpoint(1);
  Stranger peer(*endpoint);
  peer.say(greeting(2, 1));
  attack(peer);
  std::vector<spi::Completion> completions;
  const auto broken = [&] {
    return !completions.empty() && completions.back().kind == spi::CompletionKind::kBroken;
  };
  REQUIRE(drive(*endpoint, completions, broken));
  CHECK(completions.back().peer == 2);
  CHECK(completions.back().status.code() == StatusCode::kInternal);
  CHECK_FALSE(completions.back().status.message().empty());
  CHECK(drive(*endpoint, completions, [&] { return peer.dropped(); }));
}

}  // namespace

TEST_CASE("a connection that does not greet as one of the job is dropped without a trace", "[tcp]") {
  auto endpoint = open_endpoint(1);
  SECTION("a web browser") {
    Stranger stranger(*endpoint);
    const std::string request = "GET / HTTP/1.1\r\nHost: localhost\r\nAccept: text/html, application/xhtml+xml\r\n\r\n";
    stranger.say(std::as_bytes(std::span(request)));
    CHECK(is_dropped(*endpoint, stranger));
  }
  SECTION("random bytes") {
    std::mt19937 random(1);
    for (int i = 0; i < 20; ++i) {
      Stranger stranger(*endpoint);
      std::vector<std::byte> noise(500);
      for (auto& byte : noise) byte = static_cast<std::byte>(random());
      stranger.say(noise);
      CHECK(is_dropped(*endpoint, stranger));
    }
  }
  SECTION("a rank of another job") {
    Stranger stranger(*endpoint);
    stranger.say(greeting(2, 1, kJob + 1));
    CHECK(is_dropped(*endpoint, stranger));
  }
  SECTION("a rank that looks for another one") {
    Stranger stranger(*endpoint);
    stranger.say(greeting(2, 7));
    CHECK(is_dropped(*endpoint, stranger));
  }
  SECTION("a second connection for the same lane") {
    Stranger first(*endpoint);
    first.say(greeting(2, 1));
    first.say(data_frame(0, 0));
    std::vector<spi::Completion> completions;
    REQUIRE(drive(*endpoint, completions, [&] { return !completions.empty(); }));
    Stranger second(*endpoint);
    second.say(greeting(2, 1));
    CHECK(is_dropped(*endpoint, second));
    CHECK_FALSE(first.dropped());
  }
  SECTION("one that leaves halfway through its greeting") {
    Stranger stranger(*endpoint);
    stranger.say(std::as_bytes(std::span("LONGSPAN")));
    stranger.leave();
    std::vector<spi::Completion> completions;
    drive(*endpoint, completions, [polls = 0]() mutable { return ++polls > 5; });
    CHECK(completions.empty());
  }
}

TEST_CASE("a peer that breaks the protocol breaks its channel and nothing else", "[tcp]") {
  SECTION("garbage after the greeting") {
    breaks([](Stranger& peer) { peer.say(std::vector<std::byte>(100, std::byte{0xee})); });
  }
  SECTION("a fragment outside its message") {
    breaks([](Stranger& peer) { peer.say(data_frame(10, 5)); });
  }
  SECTION("an absurd payload") {
    breaks([](Stranger& peer) { peer.say(data_frame(0xffffffff, std::uint64_t{1} << 40)); });
  }
  SECTION("a message that changes its length") {
    breaks([](Stranger& peer) {
      peer.say(data_frame(1, 10));
      peer.say(std::vector<std::byte>(1));
      peer.say(numbered(1, data_frame(1, 11, 1)));
    });
  }
  SECTION("more bytes than the message has") {
    breaks([](Stranger& peer) {
      for (std::uint32_t i = 0; i < 3; ++i) {
        peer.say(numbered(i, data_frame(6, 10, 4)));
        peer.say(std::vector<std::byte>(6));
      }
    });
  }
  SECTION("more than its credit ahead of receives") {
    breaks([](Stranger& peer) {
      const std::vector<std::byte> payload(std::size_t{1} << 20);
      for (std::uint32_t i = 0; i < 4; ++i) {
        wire::Frame frame = data_frame(1 << 20, std::uint64_t{1} << 20);
        frame.id.seq = i;
        peer.say(numbered(i, frame));
        if (i < 3) peer.say(payload);
      }
    });
  }
  SECTION("a frame out of turn") {
    breaks([](Stranger& peer) { peer.say(numbered(1, data_frame(0, 0))); });
  }
  SECTION("an acknowledgement of what was never sent") {
    breaks([](Stranger& peer) {
      wire::Frame frame;
      frame.type = wire::FrameType::kAck;
      frame.message_bytes = 1;
      peer.say(frame);
    });
  }
  SECTION("an answer that nobody asked for") {
    breaks([](Stranger& peer) {
      wire::Frame frame;
      frame.type = wire::FrameType::kResume;
      peer.say(frame);
    });
  }
  SECTION("a reply on a connection that it dialed") {
    breaks([](Stranger& peer) {
      wire::Frame frame;
      frame.type = wire::FrameType::kCts;
      peer.say(frame);
    });
  }
}

TEST_CASE("an endpoint listens on IPv6 and on all addresses", "[tcp]") {
  for (const std::string bind : {"::1", ""}) {
    spi::EndpointOptions options;
    options.bind_address = bind;
    auto opened = TcpEndpoint::open(options);
    if (!opened.ok()) {
      WARN("skipped '" << bind << "': " << opened.status().to_string());
      continue;
    }
    Stranger stranger(**opened);
    CHECK_FALSE(stranger.dropped());
  }
}

TEST_CASE("an address that is not of this host is refused with a reason", "[tcp]") {
  spi::EndpointOptions options;
  options.bind_address = "203.0.113.7";
  CHECK(TcpEndpoint::open(options).status().code() == StatusCode::kSystem);
  options.bind_address = "not an address";
  CHECK(TcpEndpoint::open(options).status().code() == StatusCode::kInvalidArgument);
}

TEST_CASE("ports come from the range, and an advertised address goes out with the port", "[tcp]") {
  // A port that the system thinks free, so that no fixed number is asked for.
  const std::uint16_t port = parse_address(open_endpoint(1)->address()).value().port();
  spi::EndpointOptions options;
  options.bind_address = "127.0.0.1";
  options.advertise_address = "192.0.2.1";
  options.first_port = port;
  options.last_port = static_cast<std::uint16_t>(std::min(65'535, port + 20));
  auto first = TcpEndpoint::open(options);
  auto second = TcpEndpoint::open(options);
  REQUIRE(first.ok());
  REQUIRE(second.ok());
  for (const auto* each : {&first, &second}) {
    const SocketAddress address = parse_address((**each)->address()).value();
    CHECK(address.port() >= options.first_port);
    CHECK(address.port() <= options.last_port);
    CHECK((**each)->address().find("192.0.2.1:") == 0);
  }
  CHECK((*first)->address() != (*second)->address());
  options.first_port = options.last_port = parse_address((*first)->address()).value().port();
  const Status refused = TcpEndpoint::open(options).status();
  CHECK(refused.code() == StatusCode::kSystem);
  CHECK(std::string(refused.message()).find("all of them are taken") != std::string::npos);
}
