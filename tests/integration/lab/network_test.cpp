// What the kernel carries: network cards, uplinks, routes.
#include <cerrno>
#include <cmath>
#include <fstream>

#include "support/catch.hpp"
#include "traffic.hpp"

using namespace longspan;
using namespace longspan::lab;
using namespace longspan::lab_test;
using std::chrono::milliseconds;

namespace {

constexpr Duration kSilence = milliseconds(300);

std::string host(const std::string& name, const std::string& more = "") {
  return "[[host]]\nname = \"" + name + "\"\n" + more;
}

constexpr double kTolerance = 0.03;

/// Megabits per second that get from one host to another when half as much again as `expected` is offered for about
/// half a second. A sender that a busy machine keeps waiting measures itself: then it is done again.
double throughput(const Lab& lab, int from, int to, double expected) {
  constexpr int kAttempts = 4;
  double megabits = 0;
  for (int i = 0; i < kAttempts && std::abs(megabits / expected - 1) > kTolerance; ++i) {
    Stream stream(lab, from, to);
    const Bandwidth offered{1.5 * expected * 1e6 / 8};
    const int count = static_cast<int>(offered.bytes_per_second * 0.5 / 9000);
    stream.send_many(9000, count, offered);
    megabits = rate_of(stream.receive(static_cast<std::size_t>(count), kSilence), 9000) * 8 / 1e6;
  }
  return megabits;
}

}  // namespace

TEST_CASE("A network card limits what its host sends and what it receives") {
  const Lab lab = make_lab("version = 1\n" + host("slow", "region = \"eu\"\nnic = \"200 Mbit/s\"\n") +
                           host("fast", "region = \"eu\"\n"));
  CHECK(throughput(lab, 0, 1, 200) == Approx(200).epsilon(kTolerance));
  CHECK(throughput(lab, 1, 0, 200) == Approx(200).epsilon(kTolerance));
}

TEST_CASE("Uplinks of racks and sites limit what leaves them, and nothing inside") {
  const Lab lab = make_lab("version = 1\n" + host("a1", "region = \"eu\"\nsite = \"x\"\nrack = \"a\"\n") +
                           host("a2", "region = \"eu\"\nsite = \"x\"\nrack = \"a\"\n") +
                           host("b1", "region = \"eu\"\nsite = \"x\"\nrack = \"b\"\n") +
                           host("c1", "region = \"eu\"\nsite = \"y\"\nrack = \"c\"\n") +
                           "[[link]]\nof = \"a\"\nbandwidth = \"200 Mbit/s\"\n"
                           "[[link]]\nof = \"y\"\nbandwidth = \"100 Mbit/s\"\n");
  CHECK(throughput(lab, 0, 1, 400) > 500);
  CHECK(throughput(lab, 0, 2, 200) == Approx(200).epsilon(kTolerance));
  CHECK(throughput(lab, 2, 0, 200) == Approx(200).epsilon(kTolerance));
  CHECK(throughput(lab, 0, 3, 100) == Approx(100).epsilon(kTolerance));
  CHECK(throughput(lab, 3, 2, 100) == Approx(100).epsilon(kTolerance));
}

TEST_CASE("A region's uplink limits what crosses it, and its latency adds to the link's") {
  const Lab lab = make_lab(pair_topology("bandwidth = \"1 Gbit/s\"\nlatency = \"5 ms\"\n") +
                           "[[link]]\nof = \"eu\"\nbandwidth = \"200 Mbit/s\"\nlatency = \"3 ms\"\n");
  CHECK(throughput(lab, 0, 1, 200) == Approx(200).epsilon(kTolerance));
  CHECK(throughput(lab, 1, 0, 200) == Approx(200).epsilon(kTolerance));
  Stream stream(lab, 0, 1);
  REQUIRE(stream.send(100) == 0);
  const auto arrivals = stream.receive(1, kSilence);
  REQUIRE(arrivals.size() == 1);
  CHECK(arrivals[0].latency >= milliseconds(8));
}

TEST_CASE("The uplink of a rack or a site delays what crosses it, both ways, and nothing inside") {
  const Lab lab = make_lab("version = 1\n" + host("a1", "region = \"eu\"\nsite = \"x\"\nrack = \"a\"\n") +
                           host("a2", "region = \"eu\"\nsite = \"x\"\nrack = \"a\"\n") +
                           host("b1", "region = \"eu\"\nsite = \"x\"\nrack = \"b\"\n") +
                           host("c1", "region = \"eu\"\nsite = \"y\"\nrack = \"c\"\n") +
                           "[[link]]\nof = \"a\"\nbandwidth = \"200 Mbit/s\"\nlatency = \"4 ms\"\n"
                           "[[link]]\nof = \"y\"\nbandwidth = \"100 Mbit/s\"\nlatency = \"6 ms\"\n");
  CHECK(lab.network->omissions().empty());
  const auto latency = [&lab](int from, int to) {
    Stream stream(lab, from, to);
    REQUIRE(stream.send(100) == 0);
    const auto arrivals = stream.receive(1, kSilence);
    REQUIRE(arrivals.size() == 1);
    return arrivals[0].latency;
  };
  CHECK(latency(0, 2) >= milliseconds(4));
  CHECK(latency(2, 0) >= milliseconds(4));
  CHECK(latency(0, 3) >= milliseconds(10));
  auto inside = latency(0, 1);
  for (int i = 0; i < 10 && inside >= milliseconds(4); ++i) {
    inside = latency(0, 1);  // the machine may stall, but not each time
  }
  CHECK(inside < milliseconds(4));
  CHECK(throughput(lab, 0, 2, 200) == Approx(200).epsilon(kTolerance));
  CHECK(throughput(lab, 3, 2, 100) == Approx(100).epsilon(kTolerance));
}

TEST_CASE("A latency that is not emulated is said to be missing") {
  const Lab lab = make_lab("version = 1\n" + host("a1", "region = \"eu\"\nsite = \"x\"\nrack = \"a\"\n") +
                           "[[link]]\nof = \"a\"\nbandwidth = \"200 Mbit/s\"\nlatency = \"50 us\"\n");
  REQUIRE(lab.network->omissions().size() == 1);
  CHECK(lab.network->omissions()[0].find("rack a's uplink (50 us)") != std::string::npos);
}

TEST_CASE("Hosts keep the addresses that the topology states, whatever their networks") {
  for (const bool v6 : {false, true}) {
    const auto address = [v6](int i) {
      return v6 ? "address = \"fd00:" + std::to_string(i) + "::5\"\n"
                : "address = \"192.168." + std::to_string(i) + ".7\"\n";
    };
    const Lab lab =
        make_lab("version = 1\n" + host("eu-1", "region = \"eu\"\n" + address(1)) +
                 host("eu-2", "region = \"eu\"\n" + address(2)) + host("us-1", "region = \"us\"\n" + address(3)) +
                 "[[wan]]\nfrom = \"eu\"\nto = \"us\"\nbandwidth = \"1 Gbit/s\"\nlatency = \"10 ms\"\n");
    for (const auto& [from, to] : {std::pair(0, 1), std::pair(0, 2), std::pair(2, 1)}) {
      Stream stream(lab, from, to);
      REQUIRE(stream.send(500) == 0);
      const auto arrivals = stream.receive(1, kSilence);
      INFO("v6 " << v6 << ", " << from << " -> " << to);
      REQUIRE(arrivals.size() == 1);
      CHECK((arrivals[0].latency > milliseconds(10)) == (from == 2 || to == 2));
    }
  }
}

TEST_CASE("Regions without a direct link do not reach each other, and a sender learns it at once") {
  const std::string link = "bandwidth = \"1 Gbit/s\"\nlatency = \"1 ms\"\n";
  const Lab lab = make_lab("version = 1\n" + host("eu-1", "region = \"eu\"\n") + host("us-1", "region = \"us\"\n") +
                           host("ap-1", "region = \"ap\"\n") + "[[wan]]\nfrom = \"eu\"\nto = \"us\"\n" + link +
                           "[[wan]]\nfrom = \"us\"\nto = \"ap\"\n" + link);
  Stream near(lab, 0, 1);
  CHECK(near.send(100) == 0);
  CHECK(near.receive(1, kSilence).size() == 1);
  Stream far(lab, 0, 2);
  CHECK(far.send(100) != 0);
}

TEST_CASE("TCP may use buffers for long links in every host") {
  const Lab lab = make_lab(pair_topology("bandwidth = \"1 Gbit/s\"\nlatency = \"1 ms\"\n"));
  const ScopedNamespace inside(lab.network->host(0));
  std::ifstream file("/proc/sys/net/ipv4/tcp_rmem");
  long smallest = 0;
  long usual = 0;
  long largest = 0;
  file >> smallest >> usual >> largest;
  CHECK(largest == 67108864);
}

TEST_CASE("Building and dropping a network leaves no device behind") {
  const auto devices = [] {
    std::ifstream file("/proc/self/net/dev");
    return std::string(std::istreambuf_iterator<char>(file), {});
  };
  (void)make_lab(pair_topology("bandwidth = \"1 Gbit/s\"\nlatency = \"1 ms\"\n"));
  const std::string before = devices();
  for (int i = 0; i < 3; ++i) (void)make_lab(pair_topology("bandwidth = \"1 Gbit/s\"\nlatency = \"1 ms\"\n"));
  CHECK(devices() == before);
}
