#include <unistd.h>

#include <array>
#include <string>

#include "base/fd.hpp"
#include "lab/addresses.hpp"
#include "lab/faults.hpp"
#include "lab/lateness.hpp"
#include "lab/output.hpp"
#include "support/catch.hpp"

using namespace longspan;
using namespace longspan::lab;
using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {

Topology two_regions() {
  const auto topology = parse_topology(R"(version = 1
[[host]]
name = "eu-1"
region = "eu"
[[host]]
name = "us-1"
region = "us"
[[wan]]
from = "eu"
to = "us"
bandwidth = "1 Gbit/s"
latency = "20 ms"
)",
                                       "test");
  REQUIRE(topology.ok());
  return topology.value();
}

std::string message_of(const std::string& fault) {
  const auto changes = parse_fault(fault, two_regions());
  return changes.ok() ? std::string("accepted") : std::string(changes.status().message());
}

}  // namespace

TEST_CASE("A link taken down comes back after the stated time") {
  const auto changes = parse_fault("at=2s wan=eu:us down=5s", two_regions());
  REQUIRE(changes.ok());
  REQUIRE(changes.value().size() == 2);
  CHECK(changes.value()[0].at == seconds(2));
  CHECK(changes.value()[0].down == true);
  CHECK(changes.value()[1].at == seconds(7));
  CHECK(changes.value()[1].down == false);
}

TEST_CASE("A fault in both directions changes both links, and what is changed for a time is restored") {
  const Topology topology = two_regions();
  const auto changes = parse_fault("at=100ms wan=us:eu rate=100Mbit/s loss=0.25 delay=80ms for=1s both", topology);
  REQUIRE(changes.ok());
  REQUIRE(changes.value().size() == 4);
  int links = 0;
  for (const LinkChange& change : changes.value()) {
    links += 1 << (4 * change.link);
    const bool fault = change.at == milliseconds(100);
    CHECK(change.rate->bytes_per_second == (fault ? 12.5e6 : 125e6));
    CHECK(*change.loss == (fault ? 0.25 : 0.0));
    CHECK(*change.delay == (fault ? milliseconds(80) : milliseconds(20)));
  }
  CHECK(links == 0x22);
}

TEST_CASE("A fault that makes no sense is refused with the word that is wrong") {
  CHECK(message_of("at=2s wan=eu:mars down=5s")
            .find("found \"wan=eu:mars\", expected wan=FROM:TO with two of the regions "
                  "eu, us") != std::string::npos);
  CHECK(message_of("at=2x wan=eu:us down=5s").find("\"at=2x\"") != std::string::npos);
  CHECK(message_of("at=2s wan=eu:us loss=1.5").find("0 <= P < 1") != std::string::npos);
  CHECK(message_of("at=2s wan=eu:us rate=0Mbit/s").find("above 0") != std::string::npos);
  CHECK(message_of("at=2s wan=eu:us explode").find("\"explode\"") != std::string::npos);
  CHECK(message_of("at=2s wan=eu:us").find("one of down=TIME") != std::string::npos);
  CHECK(message_of("wan=eu:us down=1s").find("at=TIME") != std::string::npos);
  CHECK(message_of("at=1s down=1s").find("wan=FROM:TO") != std::string::npos);
  CHECK(message_of("at=1s wan=eu:us down=1s for=2s").find("by itself") != std::string::npos);
}

TEST_CASE("Hosts without an address get one of their region's, and never one that another host states") {
  Topology topology = two_regions();
  topology.hosts.push_back(topology.hosts[0]);
  topology.hosts[2].name = "eu-2";
  topology.hosts[2].address = "10.77.0.1";
  const auto addresses = assign_addresses(topology);
  REQUIRE(addresses.ok());
  CHECK(addresses.value()[0].text == "10.77.0.2");
  CHECK(addresses.value()[1].text == "10.77.1.1");
  CHECK(addresses.value()[2].text == "10.77.0.1");
  topology.hosts[1].address = "10.77.0.1";
  CHECK(assign_addresses(topology).status().message().find("us-1 and eu-2") != std::string::npos);
  topology.hosts[1].address = "fd00::1";
  CHECK(assign_addresses(topology).status().message().find("one family") != std::string::npos);
}

TEST_CASE("A packet belongs to the region of its destination address") {
  Topology topology = two_regions();
  const auto lookup_of = [&topology] { return RegionLookup(topology, assign_addresses(topology).value()); };
  std::array<std::byte, 40> packet{};
  packet[0] = std::byte{0x45};
  packet[16] = std::byte{10};
  packet[17] = std::byte{77};
  packet[18] = std::byte{1};
  packet[19] = std::byte{1};
  CHECK(lookup_of().destination_region(packet) == 1);
  packet[19] = std::byte{9};
  CHECK(lookup_of().destination_region(packet) == -1);
  CHECK(lookup_of().destination_region(std::span(packet).first(10)) == -1);
  topology.hosts[0].address = "fd00::1";
  topology.hosts[1].address = "fd00::2";
  packet = {};
  packet[0] = std::byte{0x60};
  packet[24] = std::byte{0xfd};
  packet[39] = std::byte{1};
  CHECK(lookup_of().destination_region(packet) == 0);
}

TEST_CASE("Lateness knows its quantiles, its worst, and the share over a limit") {
  Lateness lateness;
  CHECK(lateness.quantile(0.99) == Duration{0});
  CHECK(lateness.share_over(milliseconds(1)) == 0);
  for (int i = 0; i < 990; ++i) lateness.add(microseconds(100));
  for (int i = 0; i < 10; ++i) lateness.add(milliseconds(30));
  CHECK(lateness.quantile(0.99) == microseconds(101));
  CHECK(lateness.quantile(0.999) == milliseconds(30));
  CHECK(lateness.max() == milliseconds(30));
  CHECK(lateness.share_over(milliseconds(1)) == 0.01);
}

TEST_CASE("Output is passed on by whole lines, each with its prefix, and the last one even without its end") {
  std::array<int, 2> ends{};
  REQUIRE(::pipe(ends.data()) == 0);
  const Fd reader(ends[0]);
  Fd writer(ends[1]);
  LinePrinter printer(writer.get(), "[3] ");
  for (const std::string_view text : {"on", "e\ntwo\nth", "ree"}) printer.feed({text.data(), text.size()});
  printer.flush();
  writer.reset();
  std::array<char, 100> text{};
  const ssize_t got = ::read(reader.get(), text.data(), text.size());
  CHECK(std::string(text.data(), static_cast<std::size_t>(got)) == "[3] one\n[3] two\n[3] three\n");
}
