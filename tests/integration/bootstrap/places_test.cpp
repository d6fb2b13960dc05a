#include <fmt/format.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <iostream>

#include "base/env.hpp"
#include "bootstrap/unique_id.hpp"
#include "processes.hpp"
#include "support/catch.hpp"

using namespace longspan;
using namespace longspan::bootstrap;
using namespace longspan::bootstrap::testing;
using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {

/// One rendezvous of `size` processes that are launched by `launched(rank)`, rank 0 last; what each said.
std::vector<std::string> meet(int size, const std::function<LaunchInfo(int)>& launched, Duration limit = seconds(20)) {
  Ranks ranks;
  for (int i = size - 1; i >= 0; --i) {
    ranks.start(i, [&](int rank, const auto& say) {
      auto r = request(rank, size, 1, std::chrono::duration_cast<milliseconds>(limit));
      r.launch = launched(rank);
      const auto met = exchange(std::move(r));
      say(met.ok() ? met->context : met.status().to_string());
    });
  }
  std::vector<std::string> said;
  for (int i = 0; i < size; ++i) said.push_back(ranks.next(i));
  return said;
}

const std::vector<std::string> kAllOfThree(3, "payload of 0;payload of 1;payload of 2;");

LaunchInfo at(const std::string& address, int rank, int size) {
  LaunchInfo info = launch(rank, size, 0);
  info.master_address = address;
  return info;
}

/// A real TCPStore, in a Python with torch; port 0 when there is none.
class TorchStore {
 public:
  TorchStore() {
    const std::string python = env::get("LONGSPAN_TEST_PYTHON").value_or("python3");
    const std::string program =
        "import torch.distributed as d, sys\n"
        "s = d.TCPStore('127.0.0.1', 0, is_master=True, wait_for_workers=False)\n"
        "print(s.port, flush=True)\n"
        "sys.stdin.read()\n";
    int in[2];
    int out[2];
    if (::pipe(in) != 0 || ::pipe(out) != 0) return;
    pid_ = ::fork();
    if (pid_ == 0) {
      ::dup2(in[0], 0);
      ::dup2(out[1], 1);
      ::close(in[1]);
      if (std::freopen("/dev/null", "w", stderr) == nullptr) ::_exit(1);
      ::execlp(python.c_str(), python.c_str(), "-c", program.c_str(), nullptr);
      ::_exit(1);
    }
    ::close(in[0]);
    ::close(out[1]);
    stdin_ = Fd(in[1]);
    const Fd reader(out[0]);
    char text[32] = {};
    if (::read(reader.get(), text, sizeof text - 1) > 0) port_ = std::atoi(text);
  }
  ~TorchStore() {
    stdin_.reset();
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  TorchStore(const TorchStore&) = delete;
  TorchStore& operator=(const TorchStore&) = delete;
  int port() const { return port_; }

 private:
  pid_t pid_ = -1;
  Fd stdin_;
  int port_ = 0;
};

}  // namespace

TEST_CASE("ranks meet at a unique id, whichever process made it") {
  const auto id = make_unique_id();
  REQUIRE(id.ok());
  CHECK(meet(3, [&](int rank) { return launch_info_for(*id, rank, 3).value(); }) == kAllOfThree);
}

TEST_CASE("ranks meet at a unique id that rank 0 made itself, many at a time") {
  Ranks ranks;
  int handover[2];
  REQUIRE(::pipe(handover) == 0);
  constexpr int kRounds = 10;
  const auto body = [&](int rank, const Ranks::Say& say) {
    for (int round = 0; round < kRounds; ++round) {
      UniqueId id;
      if (rank == 0) {
        id = make_unique_id().value();
        if (::write(handover[1], &id, sizeof id) < 0) return;
      } else if (::read(handover[0], &id, sizeof id) != sizeof id) {
        return;
      }
      auto r = request(rank, 2, 1, seconds(20));
      r.launch = launch_info_for(id, rank, 2).value();
      const auto met = exchange(std::move(r));
      say(met.ok() ? met->context : met.status().to_string());
    }
  };
  ranks.start(0, body);
  ranks.start(1, body);
  for (int round = 0; round < kRounds; ++round) {
    for (const int rank : {0, 1}) CHECK(ranks.next(rank) == "payload of 0;payload of 1;");
  }
}

TEST_CASE("with a unique id, too, missing ranks are named, and a stale id says so") {
  Result<UniqueId> id = make_unique_id();
  // Both must come before the deadline: where one did not, the next try has more time.
  bool named = false;
  for (const auto limit : {milliseconds(500), milliseconds(3000), milliseconds(12000)}) {
    id = make_unique_id();
    REQUIRE(id.ok());
    const auto said = meet(2, [&](int rank) { return launch_info_for(*id, rank, 3).value(); }, limit);
    named = std::all_of(said.begin(), said.end(),
                        [](const auto& line) { return lacks(line, {"2 came: 0-1; missing: 2"}).empty(); });
    if (named) break;
    for (const auto& line : said) UNSCOPED_INFO(line);
  }
  CHECK(named);
  auto r = request(1, 2, 1, milliseconds(500));
  r.launch = launch_info_for(*id, 1, 2).value();
  CHECK(lacks(exchange(r).status().to_string(), {"did not reach rank 0 at the unique id", "cannot be reached"}) == "");
}

TEST_CASE("ranks meet at a file, also when an earlier job left its own there") {
  char path[] = "/tmp/longspan-test-XXXXXX";
  REQUIRE(Fd(::mkstemp(path)).valid());
  const std::string stale = GENERATE("", "longspan-1 1 127.0.0.1\n", "something else");
  FILE* file = std::fopen(path, "w");
  REQUIRE(file != nullptr);
  std::fputs(stale.c_str(), file);
  std::fclose(file);
  CHECK(meet(3, [&](int rank) { return at(fmt::format("file://{}", path), rank, 3); }) == kAllOfThree);
  CHECK(::access(path, F_OK) != 0);
}

TEST_CASE("ranks of one host meet at a unix socket, round after round") {
  const std::string place = fmt::format("unix:@longspan-test-{:x}", random_number());
  for (int round = 0; round < 3; ++round) {
    CHECK(meet(3, [&](int rank) { return at(place, rank, 3); }) == kAllOfThree);
  }
}

TEST_CASE("ranks meet where a real TCPStore listens on MASTER_PORT, told or not told") {
  const TorchStore store;
  if (store.port() == 0) {
    std::cout << "SKIP: torch is not installed (LONGSPAN_TEST_PYTHON names a Python that has it)\n";
    return;
  }
  const bool told = GENERATE(true, false);
  for (int round = 0; round < 3; ++round) {
    const auto launched = [&](int rank) {
      LaunchInfo info = launch(rank, 3, store.port());
      info.agent_store = told;
      info.run_id = "run/0";
      return info;
    };
    CHECK(meet(3, launched) == kAllOfThree);
  }
}

TEST_CASE("a store where rank 0 never came is named, with the key") {
  const TorchStore store;
  if (store.port() == 0) {
    std::cout << "SKIP: torch is not installed (LONGSPAN_TEST_PYTHON names a Python that has it)\n";
    return;
  }
  auto r = request(1, 2, store.port(), milliseconds(500));
  r.launch.agent_store = true;
  CHECK(lacks(exchange(r).status().to_string(),
              {"rank 0 has not published its address in the store at MASTER_ADDR=127.0.0.1"}) == "");
}
