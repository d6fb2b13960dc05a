#include "sim/fabric.hpp"

#include <poll.h>

#include <array>
#include <chrono>
#include <thread>
#include <vector>

#include "base/clock.hpp"
#include "longspan/spi/transport.hpp"
#include "support/catch.hpp"

namespace longspan::spi {
Transport& transport_sim();
}

using namespace longspan;
using namespace std::chrono_literals;

namespace {

/// A rank: sends and receives with one peer, waiting as the contract says.
class Rank {
 public:
  Rank(std::uint64_t job, spi::PeerId self) {
    spi::EndpointOptions options;
    options.self = self;
    options.job = job;
    endpoint_ = spi::transport_sim().open(options).value();
  }
  void meet(spi::PeerId peer, const Rank& other, double rate = 0) {
    spi::ChannelOptions options;
    options.rate_bytes_per_second = rate;
    channel_ = endpoint_->connect(peer, other.endpoint_->address(), options, Clock::now() + 10s).value();
  }
  void send(std::uint32_t seq, const std::vector<std::byte>& data) {
    channel_->send({{1, seq, 0, 0}, 0, data, nullptr, this});
    ++open_;
  }
  void receive(std::uint32_t seq, std::vector<std::byte>& data) {
    channel_->post_recv({{1, seq, 0, 0}, 0, data, nullptr, false, false, this});
    ++open_;
  }
  std::size_t open() const { return open_; }
  bool step() {
    std::array<spi::Completion, 16> completions;
    const std::size_t count = endpoint_->poll(completions);
    for (std::size_t i = 0; i < count; ++i) open_ -= completions[i].context == this ? 1 : 0;
    return count > 0;
  }
  bool arm() { return endpoint_->arm(); }
  /// Alone in its thread.
  bool finish() {
    const TimePoint deadline = Clock::now() + 10s;
    while (open_ > 0 && Clock::now() < deadline) {
      if (step() || !arm()) continue;
      pollfd wait{endpoint_->wait_fd(), POLLIN, 0};
      ::poll(&wait, 1, 1000);
    }
    return open_ == 0;
  }

 private:
  std::unique_ptr<spi::Endpoint> endpoint_;
  spi::Channel* channel_ = nullptr;
  std::size_t open_ = 0;
};

bool finish(Rank& a, Rank& b) {
  const TimePoint deadline = Clock::now() + 10s;
  while (a.open() + b.open() > 0 && Clock::now() < deadline) {
    const bool first = a.step();
    const bool moved = b.step() || first;
    if (!moved && a.arm()) b.arm();
  }
  return a.open() + b.open() == 0;
}

struct Pair {
  explicit Pair(std::uint64_t job, const sim::Link& link) : fabric(sim::Fabric::of_job(job)), a(job, 0), b(job, 1) {
    fabric.set_default_link(link);
    a.meet(1, b);
    b.meet(0, a);
  }
  sim::Fabric fabric;
  Rank a;
  Rank b;
};

}  // namespace

TEST_CASE("a message takes its transmission time and the latency, on the virtual clock only", "[sim]") {
  Pair pair(1, {.latency = 20s, .bytes_per_second = 1e6, .loss = 0, .retransmission = 0s});
  const std::vector<std::byte> data(500'000, std::byte{7});
  std::vector<std::byte> got(data.size());
  const TimePoint real = Clock::now();
  pair.b.receive(1, got);
  pair.a.send(1, data);
  REQUIRE(finish(pair.a, pair.b));
  CHECK(got == data);
  CHECK(pair.fabric.now() == 20'500ms);
  CHECK(Clock::now() - real < 15s);
}

TEST_CASE("messages on one link follow each other, the two directions do not", "[sim]") {
  Pair pair(2, {.latency = 1s, .bytes_per_second = 1e6, .loss = 0, .retransmission = 0s});
  const std::vector<std::byte> data(1'000'000);
  std::vector<std::vector<std::byte>> got(4, std::vector<std::byte>(data.size()));
  for (std::uint32_t i = 0; i < 2; ++i) {
    pair.b.receive(i, got[i]);
    pair.a.receive(i, got[2 + i]);
    pair.a.send(i, data);
    pair.b.send(i, data);
  }
  REQUIRE(finish(pair.a, pair.b));
  CHECK(pair.fabric.now() == 3s);
  CHECK(pair.fabric.use(0, 1).messages == 2);
  CHECK(pair.fabric.use(1, 0).bytes == 2'000'000);
}

TEST_CASE("a loss costs another round trip and the retransmission time", "[sim]") {
  Pair pair(3, {.latency = 10ms, .bytes_per_second = 0, .loss = 0.5, .retransmission = 1ms});
  const std::vector<std::byte> data(10);
  std::vector<std::byte> got(10);
  for (std::uint32_t i = 0; i < 20; ++i) {
    const auto before = pair.fabric.now();
    const auto lost_before = pair.fabric.use(0, 1).lost;
    pair.b.receive(i, got);
    pair.a.send(i, data);
    REQUIRE(finish(pair.a, pair.b));
    const auto lost = static_cast<std::int64_t>(pair.fabric.use(0, 1).lost - lost_before);
    CHECK(pair.fabric.now() - before == 10ms + lost * 21ms);
  }
  CHECK(pair.fabric.use(0, 1).lost > 3);
}

TEST_CASE("pacing below the link's rate is kept", "[sim]") {
  const auto fabric = sim::Fabric::of_job(4);
  fabric.set_default_link({.latency = 0ns, .bytes_per_second = 1e9, .loss = 0, .retransmission = 0s});
  Rank a(4, 0);
  Rank b(4, 1);
  a.meet(1, b, 1e6);
  b.meet(0, a);
  const std::vector<std::byte> data(2'000'000);
  std::vector<std::byte> got(data.size());
  b.receive(1, got);
  a.send(1, data);
  REQUIRE(finish(a, b));
  CHECK(fabric.now() == 2s);
}

TEST_CASE("time is the same when ranks are threads", "[sim]") {
  Pair pair(5, {.latency = 25ms, .bytes_per_second = 1e8, .loss = 0, .retransmission = 0s});
  constexpr std::uint32_t kRounds = 50;
  const auto play = [](Rank& rank, bool serves) {
    std::vector<std::byte> ball(100'000);
    bool good = true;
    for (std::uint32_t i = 0; i < kRounds && good; ++i) {
      if (serves) rank.send(2 * i, ball);
      rank.receive(2 * i + (serves ? 1 : 0), ball);
      good = rank.finish();
      if (!serves) rank.send(2 * i + 1, ball);
    }
    return good && rank.finish();
  };
  bool b_good = false;
  std::thread other([&] { b_good = play(pair.b, false); });
  const bool a_good = play(pair.a, true);
  other.join();
  CHECK(a_good);
  CHECK(b_good);
  CHECK(pair.fabric.now() == kRounds * 2 * 26ms);
}

TEST_CASE("jobs do not see each other", "[sim]") {
  Rank a(6, 0);
  spi::EndpointOptions options;
  options.job = 7;
  auto other = spi::transport_sim().open(options).value();
  CHECK(other->connect(0, "sim:6:0", {}, Clock::now()).status().code() == StatusCode::kInvalidArgument);
  options.job = 6;
  CHECK(spi::transport_sim().open(options).status().code() == StatusCode::kInvalidArgument);
}
