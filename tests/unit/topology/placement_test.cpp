#include "topology/placement.hpp"

#include <string>
#include <vector>

#include "support/catch.hpp"

using namespace longspan;

namespace {

Topology sample() {
  return parse_topology(
             "version = 1\n"
             "[[host]]\nname = 'eu-1'\nregion = 'eu'\naddress = '10.77.0.1'\n"
             "[[host]]\nname = 'eu-2'\nregion = 'eu'\naddress = '10.77.0.2'\n"
             "[[host]]\nname = 'us-1'\nregion = 'us'\naddress = 'fd00::1'\n"
             "[[wan]]\nfrom = 'eu'\nto = 'us'\nbandwidth = '1 Gbit/s'\nlatency = '20 ms'\n",
             "t.toml")
      .value();
}

Whereabouts declares(std::string host) { return {std::move(host), "somewhere", "", 0}; }
Whereabouts named(std::string hostname) { return {"", std::move(hostname), "", 0}; }
Whereabouts at(std::string address) { return {"", "container", std::move(address), 0}; }

}  // namespace

TEST_CASE("A rank is placed by LONGSPAN_HOST, else by hostname, else by address") {
  const std::vector<Whereabouts> ranks{declares("us-1"),
                                       named("eu-2"),
                                       at("10.77.0.1"),
                                       at("fd00:0::1"),
                                       at("::ffff:10.77.0.2"),
                                       {"eu-1", "us-1", "fd00::1", 0},
                                       {"", "us-1", "10.77.0.1", 0}};
  const Cluster cluster = place(sample(), ranks, nullptr).value();
  CHECK(cluster.host_of_rank == std::vector<int>{2, 1, 0, 2, 1, 0, 2});
  CHECK(cluster.describe(0) == "rank 0 (host us-1, region us)");
}

TEST_CASE("Every rank that cannot be placed is named, with the hosts there are and the cure") {
  const std::vector<Whereabouts> ranks{declares("eu-1"), declares("us-l"), named("x"),
                                       declares("us-l"), at("10.0.0.9"),   declares("us-l")};
  const auto result = place(sample(), ranks, nullptr);
  REQUIRE_FALSE(result.ok());
  CHECK(result.status().message() ==
        "ranks 1, 3, 5: LONGSPAN_HOST is 'us-l', which is not in t.toml (did you mean 'us-1'?); "
        "rank 2: neither the hostname 'x' nor the address '' is in t.toml; "
        "rank 4: neither the hostname 'container' nor the address '10.0.0.9' is in t.toml; "
        "the hosts of t.toml are 'eu-1', 'eu-2', 'us-1': set LONGSPAN_HOST to the one that each rank runs on");
}

TEST_CASE("An address that hosts share places nobody") {
  Topology topology = sample();
  topology.hosts[1].address = topology.hosts[0].address;
  const std::vector<Whereabouts> ranks{at("10.77.0.1")};
  const auto result = place(topology, ranks, nullptr);
  REQUIRE_FALSE(result.ok());
  CHECK(result.status().message().find("rank 0: hosts 'eu-1', 'eu-2' share the address 10.77.0.1;") == 0);
}

TEST_CASE("A thousand lost ranks make a message that can be read") {
  std::vector<Whereabouts> ranks;
  for (int i = 0; i < 1000; ++i) ranks.push_back(named("node" + std::to_string(i)));
  const auto result = place(sample(), ranks, nullptr);
  REQUIRE_FALSE(result.ok());
  CHECK(result.status().message().size() < 2000);
  CHECK(result.status().message().find("; nor can ranks 8-999 be placed;") != std::string_view::npos);
}

TEST_CASE("Hosts on which no rank runs are a warning") {
  std::vector<std::string> warnings;
  const std::vector<Whereabouts> ranks{declares("eu-1")};
  REQUIRE(place(sample(), ranks, &warnings).ok());
  CHECK(warnings == std::vector<std::string>{"no rank runs on hosts 'eu-2', 'us-1' of t.toml"});
}

TEST_CASE("Ranks that hold another file than rank 0 are named; those without a file are not") {
  const Topology topology = sample();
  std::vector<Whereabouts> ranks{declares("eu-1"), declares("eu-2"), declares("us-1"), declares("us-1")};
  ranks[0].topology_digest = topology_digest(topology);
  ranks[1].topology_digest = topology_digest(topology);
  ranks[2].topology_digest = 42;
  std::vector<std::string> warnings;
  REQUIRE(place(topology, ranks, &warnings).ok());
  CHECK(warnings ==
        std::vector<std::string>{
            "rank 2 holds another topology (LONGSPAN_TOPOLOGY) than rank 0; all ranks use rank 0's: t.toml"});
}

TEST_CASE("Without a file ranks are grouped by declared host or hostname, in one region") {
  std::vector<Whereabouts> ranks{named("a"), named("b"), declares("c"), named("a")};
  ranks[3].topology_digest = 7;
  std::vector<std::string> warnings;
  const Cluster cluster = place_without_file(ranks, &warnings).value();
  CHECK(cluster.host_of_rank == std::vector<int>{0, 1, 2, 0});
  CHECK(cluster.topology.regions.size() == 1);
  CHECK(cluster.topology.hosts[2].name == "c");
  REQUIRE(warnings.size() == 1);
  CHECK(warnings[0].find("rank 3 holds another topology") == 0);

  const std::vector<Whereabouts> nameless{named("a"), named("")};
  CHECK(place_without_file(nameless, nullptr).status().message() ==
        "rank 1: no hostname: set LONGSPAN_HOST to a name for its host");
}

TEST_CASE("The digest of a topology depends on what it means, not on how it is written") {
  const Topology topology = sample();
  const std::uint64_t digest = topology_digest(topology);
  // Pinned: machines of one job may run different builds.
  CHECK(digest == 0xd441370f3b6f8555U);

  Topology same = topology;
  same.source = "elsewhere.toml";
  same.hosts[0].gateway_defaulted = false;
  same.wan[0].loss_defaulted = false;
  std::swap(same.wan[0], same.wan[1]);
  CHECK(topology_digest(same) == digest);

  const auto differs = [&](auto change) {
    Topology other = topology;
    change(other);
    CHECK(topology_digest(other) != digest);
  };
  differs([](Topology& t) { t.hosts[0].name = "eu-9"; });
  differs([](Topology& t) { t.hosts[0].address = "10.77.0.9"; });
  differs([](Topology& t) { t.hosts[0].gateway = false; });
  differs([](Topology& t) { t.hosts[0].nic = Bandwidth{1e9}; });
  differs([](Topology& t) { std::swap(t.hosts[0], t.hosts[1]); });
  differs([](Topology& t) { t.wan[0].latency = Latency{0.021}; });
  differs([](Topology& t) { t.wan[1].bandwidth = Bandwidth{1e9}; });
  differs([](Topology& t) { t.wan[1].buffer_bytes = 1; });
  differs([](Topology& t) { t.wan[1].loss = 0.5; });
  differs([](Topology& t) { t.wan.pop_back(); });
  differs([](Topology& t) { t.regions[0].uplink = Bandwidth{1e9}; });
  differs([](Topology& t) { t.regions[0].name = "ue"; });
}
