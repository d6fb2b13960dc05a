// Several network cards of a host at once: here, several addresses of the loopback.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <array>
#include <map>
#include <string>

#include "support/catch.hpp"
#include "tcp/endpoint.hpp"
#include "two_ends.hpp"

using namespace longspan;
using namespace longspan::tcp;
using namespace longspan::tcp::testing;

namespace {

/// How many connections this process has between each pair of addresses, as the kernel lists them.
std::map<std::string, int> connections_to(const std::string& port) {
  std::map<std::string, int> counts;
  for (int fd = 3; fd < 1024; ++fd) {
    const SocketAddress here = local_address(fd);
    if (here.family() != AF_INET) continue;
    const std::string to = peer_address(fd).to_string();
    if (!to.ends_with(":" + port)) continue;
    ++counts[here.to_string().substr(0, here.to_string().find(':')) + " > " + to.substr(0, to.find(':'))];
  }
  return counts;
}

}  // namespace

TEST_CASE("Lanes are spread over the network cards of both sides", "[tcp][nics]") {
  Settings settings;
  settings.proxied = false;
  settings.lanes = 4;
  settings.nics_of_a = {"127.0.0.11", "127.0.0.12"};
  settings.nics_of_b = {"127.0.0.21", "127.0.0.22"};
  TwoEnds ends(settings);
  const std::string address = ends.b.endpoint->address();
  CHECK(address.starts_with("127.0.0.21:"));
  CHECK(address.find(",127.0.0.22:") != std::string::npos);
  const Bytes data = pattern(3'000'000, 1);
  std::array<Bytes, 4> got;
  for (std::uint32_t i = 0; i < got.size(); ++i) {
    got[i].resize(data.size());
    ends.receive(ends.b, i, got[i]);
    ends.send(ends.a, i, data);
  }
  REQUIRE(ends.settle());
  for (const Bytes& each : got) CHECK(each == data);
  const auto counts = connections_to(address.substr(address.rfind(':') + 1));
  CHECK(counts.at("127.0.0.11 > 127.0.0.21") >= 2);
  CHECK(counts.at("127.0.0.12 > 127.0.0.22") >= 2);
  CHECK(counts.size() == 2);
}

TEST_CASE("A host that uses one card is reached over all of the other's, and a card that fails is gone round",
          "[tcp][nics]") {
  Settings settings;
  settings.proxied = false;
  settings.lanes = 1;
  settings.nics_of_b = {"127.0.0.21", "127.0.0.22"};
  TwoEnds ends(settings);
  const Bytes data = pattern(3'000'000, 1);
  Bytes got(data.size());
  ends.receive(ends.b, 1, got);
  ends.send(ends.a, 1, data);
  REQUIRE(ends.settle());
  CHECK(got == data);
  const std::string address = ends.b.endpoint->address();
  const std::string port = address.substr(address.rfind(':') + 1);
  CHECK(connections_to(port).size() == 2);
  // Now one whose first card does not answer at all.
  SocketAddress nobody = make_address("127.0.0.99", 1).value();
  auto made = ends.a.endpoint->connect(77, nobody.to_string() + ",127.0.0.22:" + port, {},
                                       Clock::now() + std::chrono::seconds(5));
  REQUIRE(made.ok());
  REQUIRE(ends.drive([&] { return connections_to(port)["127.0.0.1 > 127.0.0.22"] >= 2; }));
}
