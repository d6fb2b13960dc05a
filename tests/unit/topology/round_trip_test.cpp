#include <rapidcheck.h>

#include <algorithm>
#include <string>
#include <vector>

#include "base/units.hpp"
#include "longspan/topology.hpp"
#include "support/catch.hpp"
#include "topology/placement.hpp"

using namespace longspan;

namespace {

using rc::gen::inRange;

bool flip() { return *rc::gen::arbitrary<bool>(); }

Bandwidth some_bandwidth() {
  return Bandwidth{static_cast<double>(*inRange<std::int64_t>(1000, 1'000'000'000'000)) / 7};
}

/// Names that need quoting, with `salt` so that no two are equal.
std::string some_name(std::string_view salt) {
  const auto tail =
      *rc::gen::container<std::string>(rc::gen::element('a', 'Z', '"', '\\', '\'', '#', '=', ']', '.', '~', '4'));
  return std::string(salt) + (*inRange(0, 20) == 0 ? std::string(200, '.') : tail.substr(0, 20)) + "\xC3\xA9";
}

/// Groups under `parents`, in the order of their parents, as a file that lists hosts in order makes them.
std::vector<Group> some_groups(std::size_t parents, std::string_view salt) {
  std::vector<Group> groups;
  for (std::size_t parent = 0; parent < parents; ++parent) {
    const int count = *inRange(1, 4);
    for (int i = 0; i < count; ++i) {
      Group group;
      group.parent = static_cast<int>(parent);
      // At most one of a parent is defaulted.
      if (i > 0 || flip()) group.name = some_name(std::string(salt) + std::to_string(groups.size()) + "-");
      groups.push_back(group);
    }
  }
  return groups;
}

void add_uplinks(std::vector<Group>& groups) {
  for (Group& group : groups) {
    if (group.name.empty() || flip()) continue;
    group.uplink = some_bandwidth();
    if (flip()) continue;
    group.uplink_latency = Latency{*inRange(0, 1'000'000) / 1e6};
    group.uplink_latency_defaulted = false;
  }
}

void add_hosts(Topology& topology) {
  for (std::size_t rack = 0; rack < topology.racks.size(); ++rack) {
    const int count = *inRange(1, 4);
    for (int i = 0; i < count; ++i) {
      Host host;
      host.name = some_name("h" + std::to_string(topology.hosts.size()) + "-");
      host.rack = static_cast<int>(rack);
      host.site = topology.racks[rack].parent;
      host.region = topology.sites[static_cast<std::size_t>(host.site)].parent;
      if (flip()) host.address = flip() ? "10.0.0." + std::to_string(*inRange(0, 256)) : "fd00::1";
      if (flip()) host.nic = some_bandwidth();
      host.gateway_defaulted = flip();
      // The first of each region stays one, as a file requires.
      const bool first = topology.hosts.empty() || topology.hosts.back().region != host.region;
      host.gateway = host.gateway_defaulted || first || flip();
      topology.hosts.push_back(host);
    }
  }
}

void add_wan(Topology& topology) {
  const auto regions = static_cast<int>(topology.regions.size());
  for (int from = 0; from < regions; ++from) {
    for (int to = from + 1; to < regions; ++to) {
      WanLink link{from, to, some_bandwidth(), Latency{*inRange(0, 10'000'000) / 1e6}, {}};
      if (flip()) link.buffer_bytes = *inRange<std::uint64_t>(1, 1'000'000'000);
      link.loss_defaulted = flip();
      if (!link.loss_defaulted) link.loss = *inRange(0, 1000) / 1000.0;
      topology.wan.push_back(link);
      link.mirrored = flip();
      if (!link.mirrored && flip()) link.bandwidth = some_bandwidth();
      std::swap(link.from, link.to);
      topology.wan.push_back(link);
    }
  }
}

Topology some_topology() {
  Topology topology;
  const int regions = *inRange(1, 5);
  for (int i = 0; i < regions; ++i) topology.regions.push_back({some_name("r" + std::to_string(i) + "-"), -1, {}});
  topology.sites = some_groups(topology.regions.size(), "s");
  topology.racks = some_groups(topology.sites.size(), "k");
  for (auto* groups : {&topology.regions, &topology.sites, &topology.racks}) add_uplinks(*groups);
  add_hosts(topology);
  add_wan(topology);
  return topology;
}

}  // namespace

TEST_CASE("A topology written and read again is the same topology") {
  CHECK(rc::check([] {
    const Topology topology = some_topology();
    const std::string text = to_toml(topology);
    const auto again = parse_topology(text, "round trip");
    if (!again.ok()) RC_FAIL(std::string(again.status().message()) + "\n" + text);
    RC_ASSERT(again->regions == topology.regions);
    RC_ASSERT(again->sites == topology.sites);
    RC_ASSERT(again->racks == topology.racks);
    RC_ASSERT(again->hosts == topology.hosts);
    RC_ASSERT(again->wan == topology.wan);
    RC_ASSERT(topology_digest(*again) == topology_digest(topology));
    RC_ASSERT(to_toml(*again) == text);
  }));
}

TEST_CASE("What is assumed without a file can be written to one") {
  const Topology flat = flat_topology({"a", "b", "a"});
  const Topology again = parse_topology(to_toml(flat), "f").value();
  CHECK(again.hosts == flat.hosts);
  CHECK(again.regions == flat.regions);
}

TEST_CASE("Text made of pieces of topology files never crashes the parser") {
  CHECK(rc::check([] {
    const auto pieces = *rc::gen::container<std::vector<std::string>>(rc::gen::element<std::string>(
        "version = 1\n", "[[host]]\n", "name = 'a'\n", "region = 'x'\n", "[", "]", "(", ")", "{", "}", "=", "'", "\"",
        "\\", "\\u", "[[wan]]\n", "from = 'x'\n", "a.b.c", "\n", "#", "1", "-", "inf", "nan", "0x", "1979-05-27",
        "T07:32:00Z", ",", "\xC3\xA9", "\xFF", "\t", " ", "true", "_", "e", "+"));
    std::string text;
    for (const std::string& piece : pieces) text += piece;
    (void)parse_topology(text, "f");
  }));
}
