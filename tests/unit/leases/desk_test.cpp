#include <atomic>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "longspan/topology.hpp"
#include "runtime/domain.hpp"
#include "runtime/lease_desk.hpp"
#include "support/catch.hpp"

using namespace longspan;
using namespace longspan::runtime;

namespace {

/// A way out of the region that only remembers the rate it was given.
class PacedChannel final : public spi::Channel {
 public:
  spi::PeerId peer() const noexcept override { return 99; }
  void send(const spi::SendRequest& request) override {
    LeaseMessage message;
    if (request.data.size() != sizeof message) return;
    std::memcpy(&message, request.data.data(), sizeof message);
    questions.push_back(message);
  }
  void post_recv(const spi::RecvRequest& /*request*/) override {}
  void release_view(std::uint64_t /*view_token*/) override {}
  void set_rate(double bytes_per_second) override { rate = bytes_per_second; }
  spi::ChannelStats stats() const override { return seen; }
  std::atomic<double> rate{0};
  std::vector<LeaseMessage> questions;  // to the far end
  spi::ChannelStats seen;  // under the lock of its Domain, whose thread looks at it
};

constexpr double kBudget = 1000;

/// The ranks of region "eu", each with a Domain of its own, and one link out of it.
class Region {
 public:
  explicit Region(int ranks, LeaseDesk::Now now = Clock::now) {
    Cluster cluster;
    Host eu;
    eu.name = "eu-1";
    Host us;
    us.name = "us-1";
    us.region = 1;
    cluster.topology.hosts = {eu, us};
    cluster.topology.regions.resize(2);
    WanLink link;
    link.to = 1;
    cluster.topology.wan = {link};
    cluster.host_of_rank.assign(static_cast<std::size_t>(ranks), 0);
    cluster.host_of_rank.push_back(1);
    std::vector<Peer> peers;
    for (int r = 0; r < ranks; ++r) {
      DomainOptions options;
      options.self = static_cast<spi::PeerId>(r) + 10;
      options.job = 7;
      options.transports = {"shm"};
      auto domain = Domain::create(options);
      REQUIRE(domain.ok());
      peers.push_back(Peer{options.self, "rank " + std::to_string(r), (*domain)->addresses()});
      domains.push_back(*domain);
    }
    peers.push_back(Peer{99, "rank far away", {}});
    for (int r = 0; r < ranks; ++r) {
      Domain& domain = *domains[static_cast<std::size_t>(r)];
      const auto lock = domain.lock();
      domain.set_leases(std::make_unique<LeaseDesk>(domain, cluster, peers, r, std::vector<double>{kBudget}, now));
    }
    for (int r = 0; r < ranks; ++r) channels.push_back(std::make_unique<PacedChannel>());
  }

  LeasedFlow flow(int rank, double weight, double cap) { return {&channel(rank), 0, {weight, cap}}; }
  PacedChannel& channel(int rank) { return *channels[static_cast<std::size_t>(rank)]; }
  void begin(int rank, const LeasedFlow& flow) {
    const auto lock = domains[static_cast<std::size_t>(rank)]->lock();
    domains[static_cast<std::size_t>(rank)]->leases()->begin(std::span(&flow, 1));
  }
  void end(int rank, const LeasedFlow& flow) {
    const auto lock = domains[static_cast<std::size_t>(rank)]->lock();
    domains[static_cast<std::size_t>(rank)]->leases()->end(std::span(&flow, 1));
  }
  /// Lets messages pass until the rates are these.
  bool settles(const std::vector<double>& rates) {
    const TimePoint deadline = Clock::now() + std::chrono::seconds(20);
    while (Clock::now() < deadline) {
      bool all = true;
      for (std::size_t r = 0; r < domains.size(); ++r) {
        auto lock = domains[r]->lock();
        // Nobody waits for anything here, so the desk's timers run as they would in a rank that waits.
        domains[r]->drive_until(lock, [] { return false; }, Clock::now() + std::chrono::milliseconds(1));
        all &= std::abs(channels[r]->rate - rates[r]) < 1e-6;
      }
      if (all) return true;
    }
    return false;
  }

  /// Lets all messages that are under way arrive, without any time passing on a clock of the test's own.
  void exchange() {
    for (int round = 0; round < 50; ++round) {
      for (const auto& domain : domains) {
        auto lock = domain->lock();
        domain->progress(lock);
        domain->leases()->poll();
      }
    }
  }

  std::vector<std::unique_ptr<PacedChannel>> channels;  // before the domains, whose desks set their rates to the end
  std::vector<std::shared_ptr<Domain>> domains;
};

/// Virtual time, which only the test moves on.
struct TestClock {
  std::atomic<TimePoint::rep> ticks{TimePoint(std::chrono::hours(1)).time_since_epoch().count()};
  TimePoint now() const { return TimePoint(Duration(ticks.load())); }
  void pass(Duration time) { ticks += time.count(); }
};

}  // namespace

TEST_CASE("Ranks of a region that use a link at one time share its budget, and get it back") {
  Region region(3);
  const LeasedFlow whole = region.flow(1, kBudget, kBudget);
  region.begin(1, whole);
  CHECK(region.channel(1).rate == kBudget);  // at once: nobody else is known to use it
  const LeasedFlow other = region.flow(2, kBudget, kBudget);
  region.begin(2, other);
  CHECK(region.settles({0, kBudget / 2, kBudget / 2}));
  const LeasedFlow third = region.flow(0, 2 * kBudget, 2 * kBudget);
  region.begin(0, third);
  CHECK(region.settles({kBudget / 2, kBudget / 4, kBudget / 4}));
  region.end(0, third);
  constexpr double kIdle = kBudget / 2;  // what it had
  CHECK(region.settles({kIdle, kBudget / 2, kBudget / 2}));
  region.end(2, other);
  CHECK(region.settles({kIdle, kBudget, kBudget / 2}));
}

TEST_CASE("Two operations of one rank over one channel add up to no more than the link") {
  Region region(1);
  const LeasedFlow flow = region.flow(0, kBudget, kBudget);
  region.begin(0, flow);
  region.begin(0, flow);
  CHECK(region.channel(0).rate == kBudget);
  region.end(0, flow);
  CHECK(region.channel(0).rate == kBudget);
}

TEST_CASE("A send takes what others leave, and gives way to a collective in proportion") {
  Region region(2);
  const LeasedFlow send = region.flow(1, kBudget / 2, kBudget);
  region.begin(1, send);
  CHECK(region.channel(1).rate == kBudget);
  const LeasedFlow collective = region.flow(0, kBudget / 2, kBudget / 2);
  region.begin(0, collective);
  CHECK(region.settles({kBudget / 2, kBudget / 2}));
  region.end(0, collective);
  CHECK(region.settles({kBudget / 2, kBudget}));
}

TEST_CASE("What one leaves free, another has within 100 ms") {
  using std::chrono::milliseconds;
  TestClock clock;
  Region region(3, [&clock] { return clock.now(); });
  const LeasedFlow one = region.flow(1, kBudget, kBudget);
  const LeasedFlow other = region.flow(2, kBudget, kBudget);
  region.begin(1, one);
  region.begin(2, other);
  REQUIRE(region.settles({0, kBudget / 2, kBudget / 2}));
  region.end(2, other);
  // Messages take their time on real clocks; of the desks' own, no more than this passes.
  for (int passed = 0; passed < 100 && region.channel(1).rate < kBudget; passed += 5) {
    clock.pass(milliseconds(5));
    region.exchange();
  }
  CHECK(region.settles({0, kBudget, kBudget / 2}));
}

TEST_CASE("A link that carries less than stated slows all ranks of the region, those that begin later too") {
  using std::chrono::milliseconds;
  TestClock clock;
  Region region(3, [&clock] { return clock.now(); });
  const LeasedFlow one = region.flow(1, kBudget / 2, kBudget / 2);
  const LeasedFlow other = region.flow(2, kBudget / 2, kBudget / 2);
  region.begin(1, one);
  region.begin(2, other);
  REQUIRE(region.settles({0, kBudget / 2, kBudget / 2}));
  std::map<int, double> waits;
  std::map<int, double> sent;
  for (int passed = 0; passed < 2000; passed += 5) {
    clock.pass(milliseconds(5));
    for (const int rank : {1, 2}) {
      const auto lock = region.domains[static_cast<std::size_t>(rank)]->lock();
      PacedChannel& channel = region.channel(rank);
      const double dt = 0.005;
      // Of the link's 600, half is this one's.
      waits[rank] = std::max(0.0, waits[rank] + (channel.rate - 300) / 300 * dt);
      sent[rank] += channel.rate * dt;
      channel.seen.unsent_bytes = 1;
      channel.seen.min_rtt = milliseconds(10);
      channel.seen.rtt = channel.seen.least_rtt =
          std::chrono::nanoseconds(static_cast<std::int64_t>(1e9 * (0.010 + waits[rank])));
      for (const LeaseMessage& question : std::exchange(channel.questions, {})) {
        LeaseMessage told{LeaseMessage::Kind::kTold, question.link};
        told.sent = question.sent;
        told.seen = question.sent + static_cast<std::int64_t>(1e9 * (5 + waits[rank]));  // another clock
        told.bytes = told.packets = sent[rank];
        region.domains[static_cast<std::size_t>(rank)]->leases()->heard(3, told);
      }
    }
    region.exchange();
    if (region.channel(1).rate < 305 && region.channel(2).rate < 305) break;
  }
  CHECK(region.channel(1).rate < 305);
  CHECK(region.channel(1).rate > 200);
  CHECK(region.channel(2).rate == region.channel(1).rate);
  region.end(1, one);
  region.begin(1, one);
  CHECK(region.channel(1).rate < 305);  // at once
  const LeasedFlow third = region.flow(0, kBudget / 2, kBudget / 2);
  region.begin(0, third);
  CHECK(region.channel(0).rate < 305);
}
