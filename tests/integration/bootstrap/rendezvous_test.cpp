#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <vector>

#include "processes.hpp"
#include "support/catch.hpp"

using namespace longspan;
using namespace longspan::bootstrap;
using namespace longspan::bootstrap::testing;
using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {

/// Takes part in one rendezvous and says what came of it.
void meet(RendezvousRequest r, const Ranks::Say& say) {
  auto met = exchange(std::move(r));
  say(met.ok() ? fmt::format("ok {} {}", met->context, fmt::join(met->hosts, ",")) : met.status().to_string());
}

}  // namespace

TEST_CASE("ranks exchange their payloads and get rank 0's context in less than a second") {
  const int size = GENERATE(1, 2, 4, 8);
  std::string expected = "ok ";
  std::string hosts;
  for (int i = 0; i < size; ++i) {
    expected += fmt::format("payload of {};", i);
    hosts += fmt::format("{}host-{}", i == 0 ? "" : ",", i);
  }
  CHECK(once_of_five([&] {
    const int port = free_port();
    const auto start = Clock::now();
    Ranks ranks;
    // Rank 0 last: the others must wait for it.
    for (int i = size - 1; i >= 0; --i) {
      ranks.start(i, [&](int rank, const auto& say) { meet(request(rank, size, port, seconds(20)), say); });
    }
    for (int i = 0; i < size; ++i) CHECK(ranks.next(i) == expected + " " + hosts);
    return Clock::now() - start < seconds(1);
  }));
}

TEST_CASE("one port serves one rendezvous after the other") {
  const int port = free_port();
  Ranks ranks;
  for (int i = 0; i < 3; ++i) {
    ranks.start(i, [&](int rank, const auto& say) {
      for (int round = 0; round < 20; ++round) meet(request(rank, 3, port, seconds(20)), say);
    });
  }
  for (int i = 0; i < 3; ++i) {
    for (int round = 0; round < 20; ++round) CHECK(lacks(ranks.next(i), {"ok payload of 0;"}) == "");
  }
}

TEST_CASE("a missing rank is named on every rank that came, at the deadline") {
  // Those who come must come before the deadline: where they did not, the next try has more time.
  for (const auto limit : {milliseconds(700), milliseconds(3000), milliseconds(12000)}) {
    const int port = free_port();
    Ranks ranks;
    const auto start = Clock::now();
    for (const int i : {0, 1, 3}) {
      ranks.start(i, [&](int rank, const auto& say) { meet(request(rank, 4, port, limit), say); });
    }
    std::vector<std::string> said;
    for (const int i : {0, 1, 3}) said.push_back(ranks.next(i));
    const auto wrong = [](const std::string& line) {
      return lacks(line, {"timeout", "3 came: 0-1 3; missing: 2", "MASTER_ADDR=127.0.0.1"});
    };
    const bool all_right = std::all_of(said.begin(), said.end(), [&](const auto& line) { return wrong(line).empty(); });
    if (all_right && Clock::now() - start < limit + milliseconds(1800)) return;
    for (const auto& line : said) UNSCOPED_INFO(line << " " << wrong(line));
  }
  FAIL("not named, or late");
}

TEST_CASE("a wrong MASTER_ADDR is an error that says why, within the deadline") {
  auto r = request(1, 2, free_port(), milliseconds(0));
  Fd mute;
  std::vector<std::string> expected;
  SECTION("nobody listens") {
    expected = {"rank 1 (host host-1) did not reach rank 0 at MASTER_ADDR=127.0.0.1", "Connection refused"};
  }
  SECTION("no such name") {
    r.launch.master_address = "no-such-host.invalid";
    expected = {"'no-such-host.invalid'"};  // cannot be resolved, or no name server answered
  }
  SECTION("nobody answers there") {
    mute = listen_everywhere({}).value();
    r.launch.master_port = local_address(mute.get()).port();
    expected = {"did not answer as a rank 0 of longspan does"};
  }
  CHECK(once_of_five([&] {
    const auto start = Clock::now();
    r.deadline = start + milliseconds(500);
    const std::string said = exchange(r).status().to_string();
    UNSCOPED_INFO(said);
    const bool right =
        std::all_of(expected.begin(), expected.end(), [&](const auto& part) { return lacks(said, {part}).empty(); });
    return right && Clock::now() - start < seconds(3);
  }));
}

TEST_CASE("a rank that is started twice, or with another size, is named on all ranks") {
  const int port = free_port();
  Ranks ranks;
  std::string expected;
  for (const int i : {0, 1}) {
    ranks.start(i, [&](int rank, const auto& say) { meet(request(rank, 4, port, seconds(10)), say); });
  }
  SECTION("twice") {
    ranks.start(2, [&](int, const auto& say) { meet(request(1, 4, port, seconds(10)), say); });
    expected = "two processes claim to be rank 1";
  }
  SECTION("rank 0 twice") {
    // On another machine, where the port is free: here it introduces itself as rank 0 would not.
    ranks.start(2, [&](int, const auto& say) { meet(request(0, 4, port, seconds(10)), say); });
    // Whichever of the two comes second is told.
    std::string told = ranks.next(2);
    if (!lacks(told, {"the port is taken"}).empty()) told = ranks.next(0);
    CHECK(lacks(told, {"the port is taken"}) == "");
    return;
  }
  SECTION("another size") {
    ranks.start(2, [&](int, const auto& say) { meet(request(2, 3, port, seconds(10)), say); });
    expected = "was started with WORLD_SIZE=3, rank 0 (host host-0) with 4";
  }
  for (const int i : {0, 1, 2}) CHECK(lacks(ranks.next(i), {"mismatch", expected}) == "");
}

TEST_CASE("a failure to make the context reaches every rank") {
  const int port = free_port();
  Ranks ranks;
  for (const int i : {0, 1, 2}) {
    ranks.start(i, [&](int rank, const auto& say) {
      auto r = request(rank, 3, port, seconds(10));
      r.make_context = [](std::span<const std::string>) -> Result<std::string> {
        return Status(StatusCode::kInvalidArgument, "rank 2 holds another topology");
      };
      meet(r, say);
    });
  }
  for (const int i : {0, 1, 2}) CHECK(ranks.next(i) == "invalid argument: rank 2 holds another topology");
}

TEST_CASE("strangers that connect and send garbage disturb nobody") {
  const int port = free_port();
  Ranks ranks;
  ranks.start(0, [&](int rank, const auto& say) { meet(request(rank, 2, port, seconds(10)), say); });
  std::vector<Fd> strangers;
  const auto address = *make_address("127.0.0.1", static_cast<std::uint16_t>(port));
  const std::vector<std::string> words = {
      "", "GET / HTTP/1.1\r\n\r\n", std::string(100000, '\xff'), std::string("LSPN\1\0\1\0\xff\xff\xff\x7f", 12),
      std::string("LSPN\1\0\1\0\4\0\0\0\xff\xff\xff\xff", 16), "LSP", std::string("LSPN\1\0\4\0\0\0\0\0", 12)};
  const auto until = Clock::now() + seconds(5);
  for (int i = 0; i < 300; ++i) {
    auto fd = connect_to(address, until);
    while (!fd.ok() && Clock::now() < until) fd = connect_to(address, until);
    REQUIRE(fd.ok());
    (void)send_all(fd->get(), words[static_cast<std::size_t>(i) % words.size()], until);
    strangers.push_back(std::move(*fd));
  }
  ranks.start(1, [&](int rank, const auto& say) { meet(request(rank, 2, port, seconds(10)), say); });
  for (const int i : {0, 1}) CHECK(lacks(ranks.next(i), {"ok payload of 0;payload of 1;"}) == "");
}
