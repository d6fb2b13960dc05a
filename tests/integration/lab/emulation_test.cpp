// The emulated WAN, measured from outside: datagrams between two hosts, stamped by the kernel on receipt.
#include <fcntl.h>

#include <cmath>
#include <limits>

#include "base/fd.hpp"
#include "lab/report.hpp"
#include "support/catch.hpp"
#include "traffic.hpp"

using namespace longspan;
using namespace longspan::lab;
using namespace longspan::lab_test;
using std::chrono::milliseconds;

namespace {

constexpr Bandwidth kUnlimited{std::numeric_limits<double>::infinity()};
constexpr Duration kSilence = milliseconds(300);
constexpr int kEu = 0;
constexpr int kUs = 1;
/// A machine that stands still for a moment spoils a measurement, and the lab says so: then it is made again.
constexpr int kAttempts = 4;

double milliseconds_of(Duration duration) { return std::chrono::duration<double, std::milli>(duration).count(); }

bool valid(Lab& lab) {
  Report report;
  report.wan = lab.wan->stop();
  return reasons_invalid(report).empty();
}

/// The ways to reach the WAN that this machine has.
std::vector<PortKind> ports() {
  if (Fd(::open("/dev/net/tun", O_RDWR | O_CLOEXEC)).valid()) return {PortKind::kTun, PortKind::kPacket};
  WARN("SKIP: TUN devices are not measured: /dev/net/tun cannot be opened");
  return {PortKind::kPacket};
}

}  // namespace

TEST_CASE("A link carries its rate, within 3 %, when more is offered") {
  for (const PortKind port : ports()) {
    double rate = 0;
    for (int attempt = 0; attempt < kAttempts && std::abs(rate / 125e6 - 1) > 0.03; ++attempt) {
      Lab lab = make_lab(pair_topology("bandwidth = \"1 Gbit/s\"\nlatency = \"5 ms\"\nbuffer = \"2 MB\"\n"), port);
      Stream stream(lab, kEu, kUs);
      stream.send_many(9000, 8000, Bandwidth{160e6});
      rate = rate_of(stream.receive(8000, kSilence), 9000);
      CHECK(lab.wan->stop().kernel_drops == 0);
    }
    CHECK(rate / 125e6 == Approx(1).margin(0.03));
  }
}

TEST_CASE("Each direction of a link has its own rate") {
  Lab lab =
      make_lab(pair_topology("bandwidth = \"100 Mbit/s\"\nlatency = \"1 ms\"\n"
                             "[[wan]]\nfrom = \"us\"\nto = \"eu\"\nbandwidth = \"20 Mbit/s\"\nlatency = \"1 ms\"\n"));
  Stream forth(lab, kEu, kUs);
  Stream back(lab, kUs, kEu);
  forth.send_many(1500, 2000, kUnlimited);
  back.send_many(1500, 500, kUnlimited);
  CHECK(rate_of(forth.receive(2000, kSilence), 1500) / 12.5e6 == Approx(1).margin(0.03));
  CHECK(rate_of(back.receive(500, kSilence), 1500) / 2.5e6 == Approx(1).margin(0.03));
}

TEST_CASE("A link delays by its latency, within 1 ms, idle and under load") {
  for (const PortKind port : ports()) {
    for (const double load : {0.0, 0.5}) {
      Duration median{0};
      for (int attempt = 0; attempt < kAttempts && std::abs(milliseconds_of(median) - 20) > 1; ++attempt) {
        Lab lab = make_lab(pair_topology("bandwidth = \"1 Gbit/s\"\nlatency = \"20 ms\"\n"), port);
        Stream stream(lab, kEu, kUs);
        if (load > 0) {
          stream.send_many(9000, 2000, Bandwidth{load * 125e6});
          median = median_latency(stream.receive(2000, kSilence));
        } else {
          std::vector<Arrival> arrivals;
          for (int i = 0; i < 15; ++i) {
            REQUIRE(stream.send(100) == 0);
            for (const Arrival& arrival : stream.receive(1, kSilence)) arrivals.push_back(arrival);
          }
          REQUIRE(arrivals.size() == 15);
          median = median_latency(arrivals);
        }
      }
      INFO("load " << load);
      CHECK(milliseconds_of(median) == Approx(20).margin(1));
    }
  }
}

TEST_CASE("A queue holds its buffer's bytes and drops the rest") {
  constexpr double kRate = 12.5e6;
  constexpr double kBuffer = 500e3;
  constexpr std::size_t kPacket = 1000;
  Lab lab = make_lab(pair_topology("bandwidth = \"100 Mbit/s\"\nlatency = \"2 ms\"\nbuffer = \"500 kB\"\n"));
  Stream stream(lab, kEu, kUs);
  const Duration burst = stream.send_many(kPacket, 3000, kUnlimited);
  const auto arrivals = stream.receive(3000, kSilence);
  const WanReport report = lab.wan->stop();
  const double delivered = static_cast<double>(arrivals.size() * kPacket);
  const double drained = kRate * std::chrono::duration<double>(burst).count();
  CHECK(delivered > kBuffer - static_cast<double>(kPacket));
  // Whoever reads the burst late by a round lets the link drain for that long.
  CHECK(delivered < kBuffer + drained + kRate * 0.002);
  const auto queue = static_cast<double>(report.links[0].largest_queue_bytes);
  CHECK(queue <= kBuffer);
  CHECK(queue > kBuffer - 2 * static_cast<double>(kPacket));
  CHECK(report.links[0].dropped_packets + arrivals.size() == 3000);
  // Whoever came last into a full queue waited for all of it: 40 ms.
  Duration longest{0};
  for (const Arrival& arrival : arrivals) longest = std::max(longest, arrival.latency);
  CHECK(milliseconds_of(longest) > 40);
}

TEST_CASE("Packets that the kernel hands over in trains fare as they would one by one") {
  constexpr std::size_t kPacket = 1428;
  constexpr int kTrains = 200;
  constexpr int kTogether = 45;
  constexpr std::size_t kCount = std::size_t{kTrains} * kTogether;
  for (const bool offload : {true, false}) {
    INFO("offload " << offload);
    double rate = 0;
    double first_ms = 0;
    for (int i = 0; i < kAttempts && (std::abs(rate / 125e6 - 1) > 0.03 || std::abs(first_ms - 20) > 1); ++i) {
      Lab lab = make_lab(pair_topology("bandwidth = \"1 Gbit/s\"\nlatency = \"20 ms\"\nbuffer = \"20 MB\"\n"),
                         PortKind::kAuto, {}, offload);
      Stream stream(lab, kEu, kUs);
      for (int train = 0; train < kTrains; ++train) REQUIRE(stream.send_train(kPacket, kTogether) == 0);
      const auto arrivals = stream.receive(kCount, kSilence);
      const WanReport report = lab.wan->stop();
      const LinkCounters& link = report.links[0];
      CHECK(arrivals.size() == kCount);
      CHECK(link.offered_packets == kCount);
      CHECK(link.offered_bytes == kCount * kPacket);
      CHECK(link.delivered_packets == kCount);
      CHECK(link.delivered_bytes == kCount * kPacket);
      CHECK(report.lateness.samples() == kCount);
      REQUIRE(!arrivals.empty());
      rate = rate_of(arrivals, kPacket);
      first_ms = milliseconds_of(arrivals[0].latency);
    }
    CHECK(rate / 125e6 == Approx(1).margin(0.03));
    CHECK(first_ms == Approx(20).margin(1));
  }
}

TEST_CASE("A queue drops single packets of a train, and as many as if they had come one by one") {
  constexpr std::size_t kPacket = 1428;
  constexpr int kTrains = 10;
  constexpr int kTogether = 45;
  constexpr std::size_t kCount = std::size_t{kTrains} * kTogether;
  for (const bool offload : {true, false}) {
    INFO("offload " << offload);
    Lab lab = make_lab(pair_topology("bandwidth = \"20 Mbit/s\"\nlatency = \"20 ms\"\nbuffer = \"100 kB\"\n"),
                       PortKind::kAuto, {}, offload);
    Stream stream(lab, kEu, kUs);
    for (int train = 0; train < kTrains; ++train) REQUIRE(stream.send_train(kPacket, kTogether) == 0);
    const auto arrivals = stream.receive(kCount, kSilence);
    const LinkCounters link = lab.wan->stop().links[0];
    CHECK(link.dropped_packets + arrivals.size() == kCount);
    CHECK(link.dropped_bytes == link.dropped_packets * kPacket);
    CHECK(link.largest_queue_bytes <= 100'000);
    CHECK(link.largest_queue_bytes > 100'000 - 2 * kPacket);
    // 70 packets fit; what is more has left while the burst was sent and read.
    CHECK(arrivals.size() >= 70);
    CHECK(arrivals.size() < 90);
  }
}

TEST_CASE("Random loss is what the topology states") {
  constexpr int kCount = 20'000;
  constexpr double kLoss = 0.02;
  Lab lab = make_lab(pair_topology("bandwidth = \"1 Gbit/s\"\nlatency = \"1 ms\"\nloss = 0.02\n"));
  Stream stream(lab, kEu, kUs);
  stream.send_many(200, kCount, Bandwidth{10e6});
  const auto arrivals = stream.receive(kCount, kSilence);
  const double expected = kLoss * kCount;
  const double deviation = std::sqrt(expected * (1 - kLoss));
  CHECK(std::abs(kCount - static_cast<double>(arrivals.size()) - expected) < 5 * deviation);
  const WanReport report = lab.wan->stop();
  CHECK(report.links[0].lost_packets == kCount - arrivals.size());
  CHECK(report.links[0].dropped_packets == 0);
}

TEST_CASE("A fault takes a link down for its time and no longer") {
  Lab lab = make_lab(pair_topology("bandwidth = \"100 Mbit/s\"\nlatency = \"1 ms\"\n"), PortKind::kAuto,
                     {"at=100ms wan=eu:us down=200ms"});
  Stream stream(lab, kEu, kUs);
  lab.wan->start_changes(Clock::now());
  // One packet a millisecond for half a second.
  stream.send_many(1000, 500, Bandwidth{1e6});
  const auto arrivals = stream.receive(500, kSilence);
  CHECK(arrivals.size() > 280);
  CHECK(arrivals.size() < 320);
  for (const Arrival& arrival : arrivals) {
    if (arrival.number > 120) CHECK(arrival.number > 280);
  }
  CHECK(lab.wan->stop().links[0].down_packets == 500 - arrivals.size());
}

TEST_CASE("A fault changes rate and delay of a link") {
  Lab lab = make_lab(pair_topology("bandwidth = \"1 Gbit/s\"\nlatency = \"1 ms\"\n"), PortKind::kAuto,
                     {"at=0s wan=eu:us rate=40Mbit/s delay=30ms"});
  Stream stream(lab, kEu, kUs);
  lab.wan->start_changes(Clock::now());
  stream.send_many(1000, 2000, Bandwidth{10e6});
  const auto arrivals = stream.receive(2000, kSilence);
  CHECK(rate_of(arrivals, 1000) / 5e6 == Approx(1).margin(0.03));
  CHECK(milliseconds_of(arrivals.at(100).latency) > 30);
}

TEST_CASE("Every packet's lateness is known, and little on a machine with time to spare") {
  bool believed = false;
  for (int attempt = 0; attempt < kAttempts && !believed; ++attempt) {
    Lab lab = make_lab(pair_topology("bandwidth = \"200 Mbit/s\"\nlatency = \"10 ms\"\n"));
    Stream stream(lab, kEu, kUs);
    stream.send_many(1500, 3000, Bandwidth{20e6});
    CHECK(stream.receive(3000, kSilence).size() == 3000);
    CHECK(lab.wan->stop().lateness.samples() == 3000);
    believed = valid(lab);
  }
  CHECK(believed);
}
