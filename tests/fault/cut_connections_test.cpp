// Connections that are cut in the middle of a collective, in real processes: with a reset, with a FIN, one side only or
// again and again. The collective goes on over new ones, and its result has every bit.
#include <dirent.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "longspan/communicator.hpp"
#include "support/catch.hpp"

namespace longspan {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr int kRanks = 2;
constexpr std::size_t kCount = std::size_t{1} << 20;  // elements
constexpr std::uint64_t kBusy = 1 << 20;              // a connection that carried this many bytes carries data

enum class Cut { kReset, kFin };

/// Two regions, over loopback.
std::string topology() {
  std::string text = "version = 1\n";
  for (const char* region : {"eu", "us"}) {
    text += "[[host]]\nname = \"" + std::string(region) + "-0\"\nregion = \"" + region + "\"\naddress = \"127.0.0.1\"\n";
  }
  return text + "[[wan]]\nfrom = \"eu\"\nto = \"us\"\nbandwidth = \"2 Gbit/s\"\nlatency = \"1 ms\"\n";
}

std::uint64_t bytes_through(int fd) {
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  tcp_info info{};
  socklen_t info_length = sizeof info;
  if (::getpeername(fd, reinterpret_cast<sockaddr*>(&address), &length) != 0 || address.ss_family != AF_INET) return 0;
  if (::getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &info_length) != 0) return 0;
  return info.tcpi_bytes_acked + info.tcpi_bytes_received;
}

/// Cuts the connections of this process that carry data; how many that were.
int cut_connections(Cut how, int most) {
  std::vector<int> found;
  DIR* folder = ::opendir("/proc/self/fd");
  while (const dirent* entry = ::readdir(folder)) {
    const int fd = std::atoi(entry->d_name);
    if (fd > 2 && bytes_through(fd) >= kBusy) found.push_back(fd);
  }
  ::closedir(folder);
  if (static_cast<int>(found.size()) > most) found.resize(static_cast<std::size_t>(most));
  for (const int fd : found) {
    if (how == Cut::kFin) {
      ::shutdown(fd, SHUT_RDWR);
    } else {
      sockaddr nowhere{};
      nowhere.sa_family = AF_UNSPEC;  // tcp(7): dissolves the connection; the peer gets a RST
      // Past the sanitizers: to them a second connect() makes a new file, behind the library's back. That is the point.
      ::syscall(SYS_connect, fd, &nowhere, sizeof nowhere);
    }
  }
  return static_cast<int>(found.size());
}

/// Runs the ranks as processes, each with what its `body` says.
std::vector<std::string> run(const std::function<std::string(Communicator&)>& body) {
  int handover[2];
  REQUIRE(::pipe(handover) == 0);
  std::vector<pid_t> children;
  std::vector<int> pipes;
  for (int r = 0; r < kRanks; ++r) {
    int ends[2];
    REQUIRE(::pipe(ends) == 0);
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      UniqueId id;
      if (r == 0) {
        auto made = make_unique_id();
        if (!made.ok()) ::_exit(9);
        id = *made;
        if (::write(handover[1], id.bytes, sizeof id.bytes) != static_cast<ssize_t>(sizeof id.bytes)) ::_exit(9);
      } else if (::read(handover[0], id.bytes, sizeof id.bytes) != static_cast<ssize_t>(sizeof id.bytes)) {
        ::_exit(9);
      }
      Options options;
      options.topology_text = topology();
      options.host = r == 0 ? "eu-0" : "us-0";
      options.timeout = 20s;
      std::string report;
      {
        auto comm = Communicator::create(id, r, kRanks, options);
        report = comm.ok() ? body(*comm) : "create: " + comm.status().to_string();
      }
      ::_exit(::write(ends[1], report.data(), report.size()) == static_cast<ssize_t>(report.size()) ? 0 : 9);
    }
    ::close(ends[1]);
    children.push_back(child);
    pipes.push_back(ends[0]);
  }
  const auto limit = Clock::now() + 40s;
  std::vector<std::string> reports(kRanks, "hangs");
  for (std::size_t r = 0; r < kRanks; ++r) {
    pollfd readable{pipes[r], POLLIN, 0};
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(limit - Clock::now()).count();
    char buffer[4096];
    if (::poll(&readable, 1, static_cast<int>(std::max<long>(left, 0))) == 1) {
      reports[r].assign(buffer, static_cast<std::size_t>(std::max<ssize_t>(::read(pipes[r], buffer, sizeof buffer), 0)));
    }
  }
  for (std::size_t r = 0; r < kRanks; ++r) {
    ::kill(children[r], SIGKILL);
    ::waitpid(children[r], nullptr, 0);
    ::close(pipes[r]);
  }
  ::close(handover[0]);
  ::close(handover[1]);
  return reports;
}

/// Sums whole numbers, so that one byte applied twice or left out shows; cuts while each `every`th sum is under way.
std::string sum_and_cut(Communicator& comm, Cut how, int most, bool both, int every) {
  std::vector<float> in(kCount);
  std::vector<float> out(kCount);
  int cut = 0;
  for (int round = 0; round < 12; ++round) {
    for (std::size_t i = 0; i < kCount; ++i) in[i] = static_cast<float>((i + static_cast<std::size_t>(round)) % 1000 + 1);
    std::fill(out.begin(), out.end(), -1.0F);
    Work work = comm.all_reduce_async(in.data(), out.data(), kCount, DataType::kFloat32, ReduceOp::kSum);
    if (round > 0 && round % every == 0 && (both || comm.rank() == 1)) cut += cut_connections(how, most);
    if (const Status status = work.wait(); !status.ok()) return "round " + std::to_string(round) + ": " + status.to_string();
    for (std::size_t i = 0; i < kCount; ++i) {
      if (out[i] != kRanks * in[i]) return "round " + std::to_string(round) + ": wrong at " + std::to_string(i);
    }
  }
  if (const Status status = comm.barrier(); !status.ok()) return "barrier: " + status.to_string();
  return "right, cut " + std::to_string(cut);
}

}  // namespace

TEST_CASE("connections that are cut in the middle of a collective are replaced, and no bit differs") {
  const Cut how = GENERATE(Cut::kReset, Cut::kFin);
  const bool both = GENERATE(false, true);
  const int most = GENERATE(1, 1000);
  const auto reports = run([&](Communicator& comm) { return sum_and_cut(comm, how, most, both, 4); });
  INFO((how == Cut::kReset ? "reset" : "FIN") << (both ? ", by both sides" : ", by one side") << ", at most " << most);
  CHECK(reports[0].starts_with("right"));
  CHECK(reports[1].starts_with("right"));
  // Where both cut, the first may leave nothing to the second.
  CHECK_FALSE((reports[0].ends_with("cut 0") && reports[1].ends_with("cut 0")));
}

}  // namespace longspan
