#include <fmt/format.h>

#include <fstream>
#include <iterator>
#include <string>

#include "longspan/topology.hpp"
#include "support/catch.hpp"
#include "topology/print.hpp"

using namespace longspan;

namespace {

constexpr std::string_view kFull = R"(version = 1

[[host]]
name    = "eu-1"
region  = "eu"
site    = "ams"
rack    = "ams-r1"
address = "10.77.0.1"
nic     = "5 Gbit/s"
gateway = false

[[host]]
name    = "eu-2"
region  = "eu"
site    = "ams"
address = "fd00::2"

[[host]]
name    = "us-1"
region  = "us"

[[link]]
of = "ams-r1"
bandwidth = "10 Gbit/s"
latency   = "50 us"

[[wan]]
from = "eu"
to   = "us"
bandwidth = "1 Gbit/s"
latency   = "20 ms"
buffer    = "8 MB"
loss      = 0.01
)";

}  // namespace

TEST_CASE("Every field of a topology file arrives, in file order") {
  const Topology t = parse_topology(kFull, "full.toml").value();
  CHECK(t.source == "full.toml");
  REQUIRE(t.hosts.size() == 3);
  CHECK(t.hosts[0].name == "eu-1");
  CHECK(t.hosts[0].address == "10.77.0.1");
  CHECK(t.hosts[0].nic == Bandwidth{625e6});
  CHECK_FALSE(t.hosts[0].gateway);
  CHECK_FALSE(t.hosts[0].gateway_defaulted);
  CHECK(t.hosts[1].gateway);
  CHECK(t.hosts[1].gateway_defaulted);
  CHECK(t.hosts[1].address == "fd00::2");
  CHECK_FALSE(t.hosts[2].nic);
  REQUIRE(t.regions.size() == 2);
  CHECK(t.regions[0].name == "eu");
  CHECK(t.regions[1].name == "us");
  CHECK(t.hosts[2].region == 1);
  const WanLink* link = t.wan_link(0, 1);
  REQUIRE(link != nullptr);
  CHECK(link->bandwidth == Bandwidth{125e6});
  CHECK(link->latency == Latency{0.02});
  CHECK(link->buffer_bytes == 8'000'000U);
  CHECK(link->loss == 0.01);
  CHECK_FALSE(link->loss_defaulted);
}

TEST_CASE("Sites and racks that no host names are one per region and one per site, without a name") {
  const Topology t = parse_topology(kFull, "full.toml").value();
  REQUIRE(t.sites.size() == 2);
  CHECK(t.sites[0].name == "ams");
  CHECK(t.sites[1].name.empty());
  CHECK(t.sites[1].parent == 1);
  REQUIRE(t.racks.size() == 3);
  CHECK(t.racks[0].name == "ams-r1");
  CHECK(t.racks[1].name.empty());
  CHECK(t.hosts[0].site == t.hosts[1].site);
  CHECK(t.hosts[0].rack != t.hosts[1].rack);
}

TEST_CASE("The uplink of a rack is its own, with its latency") {
  const Topology t = parse_topology(kFull, "full.toml").value();
  CHECK(t.racks[0].uplink == Bandwidth{1.25e9});
  CHECK(t.racks[0].uplink_latency == Latency{50e-6});
  CHECK_FALSE(t.racks[0].uplink_latency_defaulted);
  CHECK_FALSE(t.racks[1].uplink);
}

TEST_CASE("A link serves both ways unless it says otherwise or the other way is stated") {
  const std::string hosts =
      "version = 1\n[[host]]\nname = 'a'\nregion = 'x'\n[[host]]\nname = 'b'\nregion = 'y'\n"
      "[[wan]]\nfrom = 'x'\nto = 'y'\nbandwidth = '1 Gbit/s'\nlatency = '20 ms'\n";
  const std::string reverse = "[[wan]]\nfrom = 'y'\nto = 'x'\nbandwidth = '2 Gbit/s'\nlatency = '30 ms'\n";

  const Topology both = parse_topology(hosts, "f").value();
  REQUIRE(both.wan.size() == 2);
  CHECK_FALSE(both.wan[0].mirrored);
  CHECK(both.wan[1].mirrored);
  CHECK(both.wan_link(1, 0)->bandwidth == both.wan_link(0, 1)->bandwidth);

  const Topology stated = parse_topology(hosts + reverse, "f").value();
  REQUIRE(stated.wan.size() == 2);
  CHECK(stated.wan_link(1, 0)->bandwidth == Bandwidth{250e6});
  CHECK_FALSE(stated.wan_link(1, 0)->mirrored);

  CHECK(parse_topology(hosts + "both_ways = false\n" + reverse, "f").ok());
  CHECK_FALSE(parse_topology(hosts + "both_ways = false\n", "f").ok());
}

TEST_CASE("A file may leave the regions out: its hosts share one without a name") {
  const Topology t = parse_topology("version = 1\n[[host]]\nname = 'a'\n[[host]]\nname = 'b'\n", "f").value();
  REQUIRE(t.regions.size() == 1);
  CHECK(t.regions[0].name.empty());
  CHECK(t.sites.size() == 1);
  CHECK(t.racks.size() == 1);
}

TEST_CASE("Regions without a direct link are legal when others join them both ways") {
  const std::string text =
      "version = 1\n[[host]]\nname = 'a'\nregion = 'x'\n[[host]]\nname = 'b'\nregion = 'y'\n"
      "[[host]]\nname = 'c'\nregion = 'z'\n"
      "[[wan]]\nfrom = 'x'\nto = 'y'\nbandwidth = '1 Gbit/s'\nlatency = '1 ms'\nboth_ways = false\n"
      "[[wan]]\nfrom = 'y'\nto = 'z'\nbandwidth = '1 Gbit/s'\nlatency = '1 ms'\nboth_ways = false\n"
      "[[wan]]\nfrom = 'z'\nto = 'x'\nbandwidth = '1 Gbit/s'\nlatency = '1 ms'\nboth_ways = false\n";
  const Topology t = parse_topology(text, "f").value();
  CHECK(t.wan.size() == 3);
  CHECK(t.wan_link(0, 2) == nullptr);
}

TEST_CASE("Integers are accepted where numbers are, and text may be any UTF-8, with CRLF line ends") {
  const std::string text =
      "version = 1\r\n# caf\xC3\xA9\r\n[[host]]\r\nname = \"\xE6\x9D\xB1\xE4\xBA\xAC-1\"\r\nregion = 'x'\r\n"
      "[[host]]\r\nname = 'b'\r\nregion = 'y'\r\n"
      "[[wan]]\r\nfrom = 'x'\r\nto = 'y'\r\nbandwidth = '1 Gbit/s'\r\nlatency = '1 ms'\r\nloss = 0\r\n";
  const auto t = parse_topology(text, "f");
  INFO(t.status().message());
  REQUIRE(t.ok());
  CHECK(t->hosts[0].name == "\xE6\x9D\xB1\xE4\xBA\xAC-1");
  CHECK(t->wan[0].loss == 0.0);
}

TEST_CASE("Any character outside ASCII may stand in a comment, and arrives in a name as it was written") {
  std::string failed;
  const auto encode = [](unsigned code) {
    std::string out;
    const auto tail = [&](int shift) { out += static_cast<char>(0x80 | ((code >> shift) & 0x3F)); };
    if (code < 0x800) {
      out += static_cast<char>(0xC0 | (code >> 6));
    } else if (code < 0x10000) {
      out += static_cast<char>(0xE0 | (code >> 12));
      tail(6);
    } else {
      out += static_cast<char>(0xF0 | (code >> 18));
      tail(12);
      tail(6);
    }
    tail(0);
    return out;
  };
  for (unsigned code = 0x80; code < 0x110000; code += code < 0x3000 ? 1 : 97) {
    if (code >= 0xD800 && code < 0xE000) continue;
    const std::string name = "h" + encode(code);
    const std::string text = fmt::format("version = 1 # {0}\n[[host]]\nname = \"{0}\"\n[[host]]\nname = '2{0}'", name);
    const auto t = parse_topology(text, "f");
    if (!t.ok() || t->hosts[0].name != name || t->hosts[1].name != "2" + name) failed += std::to_string(code) + " ";
  }
  CHECK(failed == "");
}

TEST_CASE("The sample topologies are valid") {
  for (const char* name : {"two_regions", "three_regions", "three_facing_one"}) {
    const auto t = load_topology(std::string(LONGSPAN_SAMPLES "/") + name + ".toml");
    INFO(t.status().message());
    CHECK(t.ok());
  }
}

TEST_CASE("The example in the documentation is valid and without warnings") {
  std::ifstream file(LONGSPAN_DOCS "/topology.md");
  const std::string page((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  const std::size_t start = page.find("```toml\n");
  REQUIRE(start != std::string::npos);
  const std::string example = page.substr(start + 8, page.find("```\n", start + 8) - start - 8);
  const auto t = parse_topology(example, "docs/topology.md");
  INFO(t.status().message());
  REQUIRE(t.ok());
  CHECK(t->hosts.size() == 2);
  CHECK(warnings_of(*t).empty());
}

TEST_CASE("A file that cannot be read is named with the cause") {
  CHECK(load_topology("no-such-file.toml").status().message() ==
        "cannot open topology file 'no-such-file.toml': No such file or directory");
  CHECK(load_topology("/").status().message() == "topology file '/' is not a regular file");
  CHECK(load_topology("/dev/zero").status().code() == StatusCode::kInvalidArgument);
}
