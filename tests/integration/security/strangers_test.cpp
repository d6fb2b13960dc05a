// A job at work while somebody knocks at every port it listens on.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "longspan/communicator.hpp"
#include "support/catch.hpp"

namespace longspan {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr int kRanks = 4;
constexpr int kCalls = 40;
constexpr std::size_t kCount = 300'000;

/// A port range in which nobody listened a moment ago.
std::uint16_t free_range(int length) {
  for (int first = 21'000; first < 60'000; first += 97) {
    std::vector<int> bound;
    for (int port = first; port < first + length; ++port) {
      const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
      sockaddr_in at{};
      at.sin_family = AF_INET;
      at.sin_port = htons(static_cast<std::uint16_t>(port));
      bound.push_back(fd);
      if (::bind(fd, reinterpret_cast<const sockaddr*>(&at), sizeof at) != 0) break;
    }
    const bool free = bound.size() == static_cast<std::size_t>(length);
    for (const int fd : bound) ::close(fd);
    if (free) return static_cast<std::uint16_t>(first);
  }
  return 0;
}

/// Sums that are exact, so that one wrong bit shows.
std::string work(Communicator& comm) {
  std::vector<std::int64_t> x(kCount);
  for (int call = 0; call < kCalls; ++call) {
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<std::int64_t>(i) * 1'000'003 + comm.rank() + call;
    const Status status = comm.all_reduce(x.data(), x.data(), x.size(), DataType::kInt64, ReduceOp::kSum);
    if (!status.ok()) return status.to_string();
    for (std::size_t i = 0; i < x.size(); ++i) {
      const std::int64_t expected =
          kRanks * (static_cast<std::int64_t>(i) * 1'000'003 + call) + kRanks * (kRanks - 1) / 2;
      if (x[i] != expected) return "wrong at " + std::to_string(i) + " of call " + std::to_string(call);
    }
  }
  return "fine";
}


/// Everything that came to mind, to one port; what stays open stays so to the end.
void knock(std::uint16_t port, std::vector<int>& open) {
  static const std::array<std::string, 7> kinds{std::string(),
                                                "GET / HTTP/1.1\r\n\r\n",
                                                "LONGSPAN" + std::string(72, '\xff'),
                                                "LSPN" + std::string(8, '\xff'),
                                                std::string("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11),
                                                std::string(40'000, '\x16'),
                                                std::string("\x16\x03\x03\xff\xff", 5)};
  for (const std::string& bytes : kinds) {
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(port);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    (void)::connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof to);
    (void)!::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (open.size() < 400) open.push_back(fd);
    else ::close(fd);
  }
}

}  // namespace

TEST_CASE("allreduces stay right while strangers knock at every port of the job") {
  const std::string encryption = GENERATE("wan", "all");
  const std::uint16_t first = free_range(3 * kRanks);
  REQUIRE(first != 0);
  const std::string meeting = "/tmp/longspan-strangers-" + std::to_string(::getpid());
  std::array<pid_t, kRanks> children{};
  std::array<pollfd, kRanks> pipes{};
  for (int rank = 0; rank < kRanks; ++rank) {
    int ends[2];
    REQUIRE(::pipe(ends) == 0);
    children[static_cast<std::size_t>(rank)] = ::fork();
    if (children[static_cast<std::size_t>(rank)] == 0) {
      ::setenv("LONGSPAN_KEY", "the key of the job at work", 1);
      ::setenv("LONGSPAN_ENCRYPT", encryption.c_str(), 1);
      ::setenv("RANK", std::to_string(rank).c_str(), 1);
      ::setenv("WORLD_SIZE", std::to_string(kRanks).c_str(), 1);
      ::setenv("MASTER_ADDR", ("file://" + meeting).c_str(), 1);
      ::unsetenv("MASTER_PORT");
      Options options;
      options.transports = std::vector<std::string>{"tcp"};
      options.ports =
          std::pair<std::uint16_t, std::uint16_t>{first, static_cast<std::uint16_t>(first + 3 * kRanks - 1)};
      options.timeout = 60s;
      options.log_level = "error";
      std::string report;
      {
        auto comm = Communicator::create(options);
        report = comm.ok() ? work(*comm) : "create: " + comm.status().to_string();
      }
      (void)!::write(ends[1], report.data(), report.size());
      ::_exit(0);
    }
    ::close(ends[1]);
    pipes[static_cast<std::size_t>(rank)] = {ends[0], POLLIN, 0};
  }
  std::vector<int> open;
  std::array<std::string, kRanks> reports;
  const auto until = Clock::now() + 60s;
  const auto all_said = [&] {
    for (const std::string& report : reports) {
      if (report.empty()) return false;
    }
    return true;
  };
  while (!all_said() && Clock::now() < until) {
    for (int i = 0; i < 3 * kRanks; ++i) knock(static_cast<std::uint16_t>(first + i), open);
    ::poll(pipes.data(), pipes.size(), 5);
    for (std::size_t i = 0; i < pipes.size(); ++i) {
      if (pipes[i].revents == 0 || !reports[i].empty()) continue;
      std::string text(4096, '\0');
      const ssize_t got = ::read(pipes[i].fd, text.data(), text.size());
      reports[i] = got > 0 ? text.substr(0, static_cast<std::size_t>(got)) : "ended without a word";
      pipes[i].events = 0;
    }
  }
  for (std::size_t i = 0; i < children.size(); ++i) {
    ::kill(children[i], SIGKILL);
    ::waitpid(children[i], nullptr, 0);
    ::close(pipes[i].fd);
    CHECK(reports[i] == "fine");
  }
  for (const int fd : open) ::close(fd);
  ::unlink(meeting.c_str());
}

}  // namespace longspan
