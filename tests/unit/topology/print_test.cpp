#include "topology/print.hpp"

#include <string>
#include <vector>

#include "support/catch.hpp"

using namespace longspan;

namespace {

std::string file(std::string_view hosts_extra, std::string_view wan_extra) {
  return "version = 1\n[[host]]\nname = 'a-1'\nregion = 'a'\nnic = '5 Gbit/s'\n" + std::string(hosts_extra) +
         "[[host]]\nname = 'b-1'\nregion = 'b'\nsite = 'b-s'\nrack = 'b-r'\naddress = '10.0.0.1'\ngateway = true\n"
         "[[link]]\nof = 'b-r'\nbandwidth = '10 Gbit/s'\n"
         "[[wan]]\nfrom = 'a'\nto = 'b'\nbandwidth = '1 Gbit/s'\nlatency = '20 ms'\n" +
         std::string(wan_extra);
}

std::vector<std::string> warnings(const std::string& text) { return warnings_of(parse_topology(text, "F").value()); }

}  // namespace

TEST_CASE("A topology is printed as a tree with its links, and what was defaulted is marked") {
  const std::string text = describe_topology(parse_topology(file("", "buffer = '8 MB'\n"), "F").value());
  const std::string expected =
      "region a\n"
      "  site (default)\n"
      "    rack (default)\n"
      "      host a-1   no address   nic 5 Gbit/s   gateway (default)\n"
      "region b\n"
      "  site b-s\n"
      "    rack b-r   uplink 10 Gbit/s, 0 s (default)\n"
      "      host b-1   10.0.0.1     nic unknown    gateway\n"
      "\n"
      "WAN links, each one way\n"
      "  a -> b      1 Gbit/s     20 ms   buffer 8 MB   loss 0 (default)\n"
      "  b -> a      1 Gbit/s     20 ms   buffer 8 MB   loss 0 (default)   as the other way (both_ways)\n";
  INFO(text);
  CHECK(text.find("F: 2 regions, 2 sites, 2 racks, 2 hosts, 2 WAN links, digest ") == 0);
  CHECK(text.ends_with(expected));
}

TEST_CASE("A sound topology has no warnings") { CHECK(warnings(file("", "buffer = '8 MB'\n")).empty()); }

TEST_CASE("Pairs of regions without a link are warned of") {
  const auto said =
      warnings(file("", "both_ways = false\n") +
               "[[host]]\nname = 'c-1'\nregion = 'c'\n"
               "[[wan]]\nfrom = 'b'\nto = 'c'\nbandwidth = '1 Gbit/s'\nlatency = '20 ms'\nboth_ways = false\n"
               "[[wan]]\nfrom = 'c'\nto = 'a'\nbandwidth = '1 Gbit/s'\nlatency = '20 ms'\n");
  REQUIRE(said.size() == 2);
  CHECK(said[0].find("no link from region 'b' to region 'a': what has to cross there cannot run") == 0);
  CHECK(said[1].find("no link from region 'c' to region 'b'") == 0);
}

TEST_CASE("Gateways slower than their link, tiny buffers and shared addresses are warned of") {
  const std::string slow = "[[host]]\nname = 'c-1'\nregion = 'c'\nnic = '100 Mbit/s'\naddress = '10.0.0.1'\n";
  const auto said = warnings(file(slow, "buffer = '64 kB'\n") +
                             "[[wan]]\nfrom = 'a'\nto = 'c'\nbandwidth = '1 Gbit/s'\nlatency = '20 ms'\n"
                             "[[wan]]\nfrom = 'b'\nto = 'c'\nbandwidth = '100 Mbit/s'\nlatency = '20 ms'\n");
  REQUIRE(said.size() == 5);
  CHECK(said[0] == "the buffer of the link a -> b holds 64 kB, not even 64 packets: expect drops");
  CHECK(said[2] == "the gateways of region 'c' carry 100 Mbit/s together, less than the 1 Gbit/s of the link a -> c");
  CHECK(said[4] == "hosts 'c-1' and 'b-1' have the same address 10.0.0.1: their ranks must set LONGSPAN_HOST");
}
