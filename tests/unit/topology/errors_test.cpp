// Every error of a topology file: what is in the file, and what the user is told.
#include <string>
#include <vector>

#include "longspan/topology.hpp"
#include "support/catch.hpp"
#include "topology/toml_reader.hpp"

using namespace longspan;

namespace {

struct Case {
  std::string text;
  std::string expected;  // somewhere in the message
};

void check_all(const std::vector<Case>& cases) {
  for (const Case& c : cases) {
    const auto result = parse_topology(c.text, "F");
    INFO(c.text.substr(0, 400));
    INFO("expected: " << c.expected);
    REQUIRE_FALSE(result.ok());
    INFO("message:  " << result.status().message());
    CHECK(result.status().code() == StatusCode::kInvalidArgument);
    CHECK(result.status().message().find(c.expected) != std::string_view::npos);
  }
}

const std::string kHost = "version = 1\n[[host]]\nname = 'a'\nregion = 'x'\n";  // 4 lines
const std::string kTwo = kHost + "[[host]]\nname = 'b'\nregion = 'y'\n";        // 7 lines
const std::string kWan = "[[wan]]\nfrom = 'x'\nto = 'y'\n";                     // lines 8 to 10 after kTwo
const std::string kRates = "bandwidth = '1 Gbit/s'\nlatency = '20 ms'\n";       // lines 11 and 12

}  // namespace

TEST_CASE("What is not TOML is refused with its line") {
  check_all({
      {"version = 1\n[[host]\n", "F:2: found a syntax error ("},
      {"version = 1\nversion = 1\n", "F:2: found a syntax error (Error while parsing key-value pair: cannot redefine"},
      {kHost + "name = 'b'\n", "F:5: found a syntax error (Error while parsing key-value pair: cannot redefine"},
      {"version = 1\nname = \"abc\n", "F:2: found a syntax error ("},
      {"[))(", "F:1: found a syntax error, expected TOML 1.0"},
      {"version = 1\n\n[))(\nx = 1\n", "F:3: found a syntax error, expected TOML 1.0"},
      {"version = 1\nx = " + std::string(40, '['), "F:2: found a syntax error ("},
      {"version = 1\nx = 1\xFF\n", "F:2: found the byte 0xFF, which is not UTF-8, expected UTF-8 text"},
      {"x = '\xC0\x80'", "F:1: found the byte 0xC0"},
      {"x = '\xED\xA0\x80'", "F:1: found the byte 0xED"},
      {"x = '\xF4\x90\x80\x80'", "F:1: found the byte 0xF4"},
      {"x = '\xE6\x9D", "F:1: found the byte 0xE6"},
      {std::string("version = 1\n\0x", 14), "F:2: found the control character 0x00"},
      {"version = 1\rx = 1\n", "F:1: found the control character 0x0D"},
      {"x = '\x7F'", "F:1: found the control character 0x7F"},
      {"\xEF\xBB\xBFversion = 1\n", "F:1: found a byte order mark, expected UTF-8 without one"},
      {"version = 1\nx = '''\n'''\n", "F:2: found a multi-line string, expected strings on one line"},
      {"version = 1\nx = \"\"\"\n\"\"\"\n", "F:2: found a multi-line string"},
      {std::string(70, '.') + "\n", "F:1: found more than 64 dots outside quotes, expected keys without dots"},
      {"[\xEF\xBB\xBB",
       "F:1: found '\xEF\xBB\xBB' outside quotes, expected characters other than ASCII only in strings"},
      {kHost + "site\xC2\xA0= 's'\n", "F:5: found '\xC2\xA0' outside quotes"},
      {kHost + "nic = 0'\xC2\xA4'\n", "F:5: found a syntax error ("},
      {kHost + "site = \"\\u007E41\"\n", "F:5: found an escaped '~', expected the character itself"},
      {kHost + "site = 'a\\' b\xC3\xA9\n", "F:5: found '\xC3\xA9' outside quotes"},
      {std::string(topology::kMaxFileBytes + 1, '#'), "F:1: found a file of more than 4194304 bytes"},
  });
}

TEST_CASE("A file without version or hosts, or of another version, is refused") {
  check_all({
      {"", "F:1: found no 'version', expected version = 1"},
      {"[[host]]\nname = 'a'\n", "F:1: found no 'version', expected version = 1"},
      {"\nversion = 2\n", "F:2: found the integer 2 for 'version', expected version = 1"},
      {"version = '1'\n", "F:1: found the string '1' for 'version', expected version = 1"},
      {"version = 1.0\n", "F:1: found the number 1 for 'version'"},
      {"version = 1\n", "F:1: found no [[host]], expected at least one"},
      {"version = 1\nhost = []\n", "F:1: found no [[host]], expected at least one"},
  });
}

TEST_CASE("An unknown key is refused with the nearest name") {
  check_all({
      {kHost + "adress = '10.0.0.1'\n",
       "F:5: found the unknown key 'adress' in [[host]] (did you mean 'address'?), expected one of name, region, site, "
       "rack, address, nic, gateway"},
      {"version = 1\n[[hosts]]\n", "F:2: found the unknown key 'hosts' at the top of the file (did you mean 'host'?)"},
      {kHost + "[[link]]\nof = 'x'\nbandwith = '1 Gbit/s'\n",
       "F:7: found the unknown key 'bandwith' in [[link]] (did you mean 'bandwidth'?)"},
      {kTwo + kWan + kRates + "bothways = true\n",
       "F:13: found the unknown key 'bothways' in [[wan]] (did you mean 'both_ways'?)"},
      {kHost + "[extra]\n", "F:5: found the unknown key 'extra' at the top of the file, expected one of version"},
      {kHost + "weight.x.y = 1\n", "F:5: found the unknown key 'weight' in [[host]]"},
      {kHost + "\"a\\u0007b\" = 1\n", "F:5: found the unknown key 'a\\x07b' in [[host]]"},
  });
}

TEST_CASE("A value of the wrong type is refused with what it is") {
  check_all({
      {"version = 1\n[host]\nname = 'a'\n", "F:2: found a table for 'host', expected one [[host]] per host, with two"},
      {"version = 1\nhost = 3\n", "F:2: found the integer 3 for 'host'"},
      {"version = 1\nhost = [1]\n", "F:2: found the integer 1 in 'host'"},
      {kHost + "[wan]\nfrom = 'x'\n", "F:5: found a table for 'wan', expected one [[wan]] per wan"},
      {"version = 1\n[[host]]\nname = 5\n", "F:3: found the integer 5 for 'name', expected a name in quotes"},
      {kHost + "gateway = 'yes'\n", "F:5: found the string 'yes' for 'gateway', expected true or false"},
      {kHost + "gateway = 1\n", "F:5: found the integer 1 for 'gateway', expected true or false"},
      {kHost + "nic = 5\n", "F:5: found the integer 5 for 'nic', expected a bandwidth in quotes such as"},
      {kHost + "address = 10.77\n", "F:5: found the number 10.77 for 'address', expected an IPv4 or IPv6 literal"},
      {kHost + "rack = ['r']\n", "F:5: found an array for 'rack', expected a name in quotes"},
      {kHost + "site = { a = 1 }\n", "F:5: found a table for 'site'"},
      {kHost + "site = 2020-01-01\n", "F:5: found a date or time for 'site'"},
      {kTwo + kWan + "bandwidth = '1 Gbit/s'\nlatency = 0.02\n",
       "F:12: found the number 0.02 for 'latency', expected a time in quotes such as \"20 ms\""},
      {kTwo + kWan + kRates + "buffer = 8000000\n",
       "F:13: found the integer 8000000 for 'buffer', expected an amount of data in quotes such as \"8 MB\""},
      {kTwo + kWan + kRates + "loss = '1%'\n", "F:13: found the string '1%' for 'loss', expected the share of packets"},
  });
}

TEST_CASE("A missing key is refused at its table") {
  check_all({
      {"version = 1\n[[host]]\nregion = 'x'\n", "F:2: found a [[host]] without 'name', expected name = ..."},
      {kHost + "[[link]]\nbandwidth = '1 Gbit/s'\n", "F:5: found a [[link]] without 'of'"},
      {kHost + "[[link]]\nof = 'x'\n", "F:5: found a [[link]] without 'bandwidth'"},
      {kTwo + "[[wan]]\nto = 'y'\n" + kRates, "F:8: found a [[wan]] without 'from'"},
      {kTwo + "[[wan]]\nfrom = 'y'\n" + kRates, "F:8: found a [[wan]] without 'to'"},
      {kTwo + kWan + "latency = '1 ms'\n", "F:8: found a [[wan]] without 'bandwidth'"},
      {kTwo + kWan + "bandwidth = '1 Gbit/s'\n", "F:8: found a [[wan]] without 'latency'"},
      {kHost + "[[host]]\nname = 'b'\n",
       "F:5: found a [[host]] without 'region', expected 'region' on every host or on none"},
      {"version = 1\n[[host]]\nname = 'a'\n[[host]]\nname = 'b'\nregion = 'x'\n",
       "F:6: found the region 'x', expected 'region' on every host or on none, unlike line 2"},
  });
}

TEST_CASE("A name that is taken, unknown or no name is refused") {
  check_all({
      {kHost + "[[host]]\nname = 'a'\n",
       "F:6: found a second host 'a', expected a name of its own (line 3 has this one)"},
      {"version = 1\n[[host]]\nname = ''\n", "F:3: found an empty 'name', expected a name"},
      {"version = 1\n[[host]]\nname = \"a\\nb\"\n", "F:3: found a control character in 'a\\x0Ab' for 'name'"},
      {"version = 1\n[[host]]\nname = ' a'\n", "F:3: found ' a' for 'name', expected a name without spaces around it"},
      {"version = 1\n[[host]]\nname = '" + std::string(256, 'a') + "'\n", "F:3: found a name of 256 bytes for 'name'"},
      {kHost + "site = 'x'\n",
       "F:5: found site 'x', which names a region on line 4, expected a name of its own: racks, sites and regions "
       "share one namespace"},
      {kHost + "site = 's'\nrack = 's'\n", "F:6: found rack 's', which names a site on line 5"},
      {kHost + "rack = 'r'\n[[host]]\nname = 'b'\nregion = 'r'\n",
       "F:8: found region 'r', which names a rack on line 5"},
      {kHost + "[[link]]\nof = 'z'\nbandwidth = '1 Gbit/s'\n",
       "F:6: found the unknown name 'z', expected a rack, site or region that a [[host]] names"},
      {kHost + "rack = 'rack-1'\n[[link]]\nof = 'rack-l'\nbandwidth = '1 Gbit/s'\n",
       "F:7: found the unknown name 'rack-l' (did you mean 'rack-1'?)"},
      {kHost + "[[link]]\nof = 'x'\nbandwidth = '1 Gbit/s'\n[[link]]\nof = 'x'\nbandwidth = '1 Gbit/s'\n",
       "F:9: found a second [[link]] of 'x', expected one (line 6 has it)"},
      {kTwo + "[[wan]]\nfrom = 'x'\nto = 'z'\n" + kRates,
       "F:10: found the unknown region 'z' for 'to', expected a region that a [[host]] names"},
      {kTwo + "rack = 'r'\n[[wan]]\nfrom = 'r'\nto = 'x'\n" + kRates, "F:10: found the rack 'r' for 'from'"},
      {kTwo + kWan + kRates + "name = 'second'\n",
       "F:13: found 'name' in [[wan]], expected none: it is reserved for several links between the same regions"},
  });
}

TEST_CASE("A rack belongs to one site and a site to one region") {
  check_all({
      {kHost + "site = 's'\n[[host]]\nname = 'b'\nregion = 'y'\nsite = 's'\n",
       "F:9: found site 's' in region 'y', expected it in region 'x', as on line 5"},
      {kHost + "site = 's'\nrack = 'r'\n[[host]]\nname = 'b'\nregion = 'x'\nsite = 't'\nrack = 'r'\n",
       "F:11: found rack 'r' in site 't', expected it in site 's', as on line 6"},
      {kHost + "rack = 'r'\n[[host]]\nname = 'b'\nregion = 'y'\nrack = 'r'\n",
       "F:9: found rack 'r' in the unnamed site of region 'y', expected it in the unnamed site of region 'x', as on "
       "line 5"},
  });
}

TEST_CASE("Addresses are IPv4 or IPv6 literals") {
  for (const std::string address :
       {"", "10.77.0", "10.77.0.256", "eu-1.example.com", "::g", "10.0.0.1/24", "fe80::1%eth0", " 10.0.0.1"}) {
    check_all({{kHost + "address = '" + address + "'\n",
                "F:5: found '" + address + "' for 'address', expected an IPv4 or IPv6 literal such as \"10.77.0.1\""}});
  }
  check_all({{kHost + "address = \"10.0.0.1\\u0000\"\n", "F:5: found '10.0.0.1\\x00' for 'address'"}});
}

TEST_CASE("Negative and absurd values are refused") {
  const std::string link = kTwo + kWan;
  check_all({
      {kHost + "nic = '0 bit/s'\n", "F:5: found '0 bit/s' for 'nic', expected between 1 kbit/s and 10000 Tbit/s"},
      {kHost + "nic = '-1 Gbit/s'\n", "F:5: 'nic': found \"-1 Gbit/s\": negative, expected a bandwidth such as"},
      {kHost + "nic = 'nan Gbit/s'\n", "F:5: 'nic': found \"nan Gbit/s\": no number"},
      {kHost + "nic = '5 GBit'\n", "F:5: 'nic': found \"5 GBit\": the unit is not one per second"},
      {kHost + "nic = '99999 Tbit/s'\n", "F:5: found '99999 Tbit/s' for 'nic'"},
      {link + "bandwidth = '1 bit/s'\nlatency = '1 ms'\n", "F:11: found '1 bit/s' for 'bandwidth'"},
      {link + "bandwidth = '1 Gbit/s'\nlatency = '11 s'\n",
       "F:12: found '11 s' for 'latency', expected at most 10 s one way"},
      {link + "bandwidth = '1 Gbit/s'\nlatency = '-1 ms'\n", "F:12: 'latency': found \"-1 ms\": negative"},
      {link + "bandwidth = '1 Gbit/s'\nlatency = '20 Ms'\n", "F:12: 'latency': found \"20 Ms\": unknown unit"},
      {link + kRates + "buffer = '0 B'\n", "F:13: found '0 B' for 'buffer', expected between 1 B and 1 TB"},
      {link + kRates + "buffer = '2 TB'\n", "F:13: found '2 TB' for 'buffer'"},
      {link + kRates + "buffer = '8 MB/s'\n", "F:13: 'buffer': found \"8 MB/s\": unknown unit"},
      {link + kRates + "loss = 1\n", "F:13: found the integer 1 for 'loss', expected the share of packets lost"},
      {link + kRates + "loss = 1.0\n", "F:13: found the number 1 for 'loss'"},
      {link + kRates + "loss = -0.1\n", "F:13: found the number -0.1 for 'loss'"},
      {link + kRates + "loss = nan\n", "F:13: found the number nan for 'loss'"},
      {link + kRates + "loss = inf\n", "F:13: found the number inf for 'loss'"},
  });
}

TEST_CASE("Links that lead nowhere, repeat, or leave a region unreachable are refused") {
  check_all({
      {kTwo + "[[wan]]\nfrom = 'x'\nto = 'x'\n" + kRates,
       "F:10: found a [[wan]] from 'x' to itself, expected two different regions"},
      {kTwo + kWan + kRates + kWan + kRates,
       "F:14: found a second [[wan]] from 'x' to 'y', expected one per direction (line 9 has it)"},
      {kTwo, "F:7: found no way from region 'x' to region 'y', expected [[wan]] links by which every region reaches"},
      {kTwo + kWan + kRates + "both_ways = false\n", "F:7: found no way from region 'y' to region 'x'"},
      {kTwo + kWan + kRates + "[[host]]\nname = 'c'\nregion = 'z'\n",
       "F:15: found no way from region 'x' to region 'z'"},
      {kTwo + "gateway = false\n" + kWan + kRates,
       "F:7: found gateway = false on every host of region 'y', expected at least one host that carries its"},
  });
}
