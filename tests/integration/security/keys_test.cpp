// Ranks that are processes, with the right key, another one, or none; and strangers at rank 0's door.
#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>

#include <string>
#include <vector>

#include "bootstrap/rendezvous_messages.hpp"
#include "processes.hpp"
#include "security/session.hpp"
#include "support/catch.hpp"

using namespace longspan;
using namespace longspan::bootstrap;
using namespace longspan::bootstrap::testing;
using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {

constexpr const char* kKey = "the key of the job";

/// Takes part in one rendezvous with `key` and says what came of it, and how long it took.
void meet(int rank, int size, int port, const std::string& key, const Ranks::Say& say, seconds limit = seconds(60)) {
  const TimePoint begin = Clock::now();
  RendezvousRequest r = request(rank, size, port, limit);
  r.guard = security::Guard::open(key).value();
  auto met = exchange(std::move(r));
  const bool soon = Clock::now() - begin < seconds(20);
  say(fmt::format("{}{}", met.ok() ? "ok" : met.status().to_string(), soon ? "" : " (late)"));
}

/// What all ranks said, where `keys` has each one's.
std::vector<std::string> outcome(const std::vector<std::string>& keys) {
  const int port = free_port();
  const int size = static_cast<int>(keys.size());
  Ranks ranks;
  for (int i = 0; i < size; ++i) {
    ranks.start(i,
                [&](int rank, const auto& say) { meet(rank, size, port, keys[static_cast<std::size_t>(rank)], say); });
  }
  std::vector<std::string> said;
  for (int i = 0; i < size; ++i) said.push_back(ranks.next(i, seconds(30)));
  return said;
}

std::string first_bytes(const std::string& key, const std::string& run_id) {
  int ends[2];
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends) == 0);
  const Fd near(ends[0]);
  const Fd far(ends[1]);
  Hello hello;
  hello.run_id = run_id;
  hello.rank = 1;
  const auto session = security::Guard::open(key).value()->dial(near.get(), introduction_to_rank_0(hello));
  session->handshake();
  std::string bytes(4096, '\0');
  bytes.resize(static_cast<std::size_t>(::recv(far.get(), bytes.data(), bytes.size(), 0)));
  return bytes;
}

}  // namespace

TEST_CASE("ranks with one key meet") {
  for (const std::string& said : outcome({kKey, kKey, kKey, kKey})) CHECK(said == "ok");
}

TEST_CASE("a rank with another key is named on all ranks, soon") {
  const auto said = outcome({kKey, kKey, "another key", kKey});
  CHECK(lacks(said[2], {"rank 2 (host host-2)", "its key differs from rank 0's", "LONGSPAN_KEY"}) == "");
  for (const std::size_t other : {0U, 1U, 3U}) {
    CHECK(lacks(said[other], {"rank 2 (host host-2", "differs from rank 0's"}) == "");
  }
  for (const std::string& each : said) CHECK(each.find("(late)") == std::string::npos);
}

TEST_CASE("a rank without the key is named on all ranks, soon") {
  const auto said = outcome({kKey, "", kKey});
  CHECK(lacks(said[1], {"rank 1 (host host-1)", "rank 0 requires LONGSPAN_KEY and this rank has none"}) == "");
  for (const std::size_t other : {0U, 2U}) {
    CHECK(lacks(said[other], {"rank 0 requires LONGSPAN_KEY", "rank 1 (host host-1", "has none"}) == "");
  }
  for (const std::string& each : said) CHECK(each.find("(late)") == std::string::npos);
}

TEST_CASE("rank 0 without the key that others have is named on all ranks, soon") {
  const auto said = outcome({"", kKey, ""});
  CHECK(lacks(said[1], {"rank 1 (host host-1)", "has the job's key and rank 0 has none"}) == "");
  for (const std::size_t other : {0U, 2U}) {
    CHECK(lacks(said[other], {"rank 1 (host host-1", "rank 0 (host host-0) has none"}) == "");
  }
  for (const std::string& each : said) CHECK(each.find("(late)") == std::string::npos);
}

TEST_CASE("strangers at rank 0's port keep nobody from meeting") {
  const int port = free_port();
  const std::string run_id = launch(0, 2, port).run_id;
  const std::string recorded = first_bytes(kKey, run_id);
  Gate gate;
  Ranks ranks;
  ranks.start(0, [&](int rank, const auto& say) { meet(rank, 2, port, kKey, say); });
  ranks.start(1, [&](int rank, const auto& say) {
    pollfd wait{gate.fd(), POLLIN, 0};
    ::poll(&wait, 1, 20'000);
    meet(rank, 2, port, kKey, say);
  });
  const auto address = make_address("127.0.0.1", static_cast<std::uint16_t>(port)).value();
  std::vector<Fd> callers;
  std::string hello = "LSPN";
  hello.resize(60, '\xff');
  const std::string another = first_bytes("not the key", run_id);
  for (const std::string& bytes :
       {std::string(), std::string("GET / HTTP/1.0\r\n\r\n"), hello, recorded, recorded.substr(0, 90),
        recorded + recorded, std::string(70'000, '\x16'), std::string("\x16\x03\x01\xff\xff", 5), another}) {
    const TimePoint until = Clock::now() + seconds(10);
    Result<Fd> caller = connect_to(address, until);
    while (!caller.ok() && Clock::now() < until) caller = connect_to(address, until);  // rank 0 may not listen yet
    REQUIRE(caller.ok());
    (void)!::send(caller->get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    callers.push_back(std::move(*caller));
  }
  for (int i = 0; i < 400; ++i) callers.push_back(connect_to(address, Clock::now() + seconds(10)).value());
  gate.open();
  CHECK(ranks.next(0, seconds(20)) == "ok");
  CHECK(ranks.next(1, seconds(20)) == "ok");
}
