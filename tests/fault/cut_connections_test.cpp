// Connections that are cut in the middle of a collective, in real processes: with a reset, with a FIN, without a word
// as by a NAT that has forgotten them, half open; one side only or again and again. The collective goes on over new
// ones, and its result has every bit.
#include <dirent.h>
#include <linux/filter.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "longspan/communicator.hpp"
#include "support/catch.hpp"
#include "support/rank_processes.hpp"

namespace longspan {
namespace {

constexpr int kRanks = 2;
constexpr std::size_t kCount = std::size_t{1} << 20;  // elements
constexpr std::uint64_t kBusy = 1 << 20;              // a connection that carried this many bytes carries data

enum class Cut {
  kReset,
  kFin,
  kSwallow,  // what comes to this side is dropped by the kernel, and no word of it is said to the other
};

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
    } else if (how == Cut::kSwallow) {
      sock_filter drop{BPF_RET | BPF_K, 0, 0, 0};
      const sock_fprog program{1, &drop};
      ::setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program);
    } else {
      sockaddr nowhere{};
      nowhere.sa_family = AF_UNSPEC;  // tcp(7): dissolves the connection; the peer gets a RST
      // Past the sanitizers: to them a second connect() makes a new file, behind the library's back. That is the point.
      ::syscall(SYS_connect, fd, &nowhere, sizeof nowhere);
    }
  }
  return static_cast<int>(found.size());
}

using CutHere = std::function<int(int rank)>;  ///< how many it cut

std::vector<std::string> run(const std::function<std::string(Communicator&)>& body) {
  std::vector<std::string> reports;
  for (const auto& outcome : testing::run_ranks(testing::two_regions(1, "2 Gbit/s"), body)) {
    reports.push_back(outcome.report);
  }
  return reports;
}

/// Sums whole numbers, so that one byte applied twice or left out shows; cuts while each `every`th sum is under way.
std::string sum_and_cut(Communicator& comm, int every, const CutHere& cut_here) {
  std::vector<float> in(kCount);
  std::vector<float> out(kCount);
  int cut = 0;
  for (int round = 0; round < 12; ++round) {
    for (std::size_t i = 0; i < kCount; ++i) {
      in[i] = static_cast<float>((i + static_cast<std::size_t>(round)) % 1000 + 1);
    }
    std::fill(out.begin(), out.end(), -1.0F);
    Work work = comm.all_reduce_async(in.data(), out.data(), kCount, DataType::kFloat32, ReduceOp::kSum);
    if (round > 0 && round % every == 0) cut += cut_here(comm.rank());
    if (const Status status = work.wait(); !status.ok()) {
      return "round " + std::to_string(round) + ": " + status.to_string();
    }
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
  const auto reports = run([&](Communicator& comm) {
    return sum_and_cut(comm, 4, [&](int rank) { return both || rank == 1 ? cut_connections(how, most) : 0; });
  });
  INFO((how == Cut::kReset ? "reset" : "FIN") << (both ? ", by both sides" : ", by one side") << ", at most " << most);
  CHECK(reports[0].starts_with("right"));
  CHECK(reports[1].starts_with("right"));
  // Where both cut, the first may leave nothing to the second.
  CHECK_FALSE((reports[0].ends_with("cut 0") && reports[1].ends_with("cut 0")));
}

TEST_CASE("connections that a NAT has forgotten, in both directions or in one, are replaced, and no bit differs") {
  const bool both = GENERATE(true, false);
  // Rounds 4 and 8: the second time those that replaced the first ones. What is silent is noticed after a second and
  // more.
  const auto reports = run([&](Communicator& comm) {
    return sum_and_cut(comm, 4, [&](int rank) { return both || rank == 1 ? cut_connections(Cut::kSwallow, 1000) : 0; });
  });
  INFO((both ? "both directions" : "towards rank 1") << ": " << reports[0] << "; " << reports[1]);
  CHECK(reports[0].starts_with("right"));
  CHECK(reports[1].starts_with("right"));
  CHECK_FALSE(reports[1].ends_with("cut 0"));
}

TEST_CASE("half-open connections, of which one side has heard nothing, are replaced, and no bit differs") {
  const int deaf = GENERATE(0, 1);
  // Whoever is deaf never hears the reset that the other side's end of the connection would send, or has sent.
  const auto reports = run([&](Communicator& comm) {
    return sum_and_cut(comm, 4,
                       [&](int rank) { return cut_connections(rank == deaf ? Cut::kSwallow : Cut::kReset, 1000); });
  });
  INFO("deaf is rank " << deaf << ": " << reports[0] << "; " << reports[1]);
  CHECK(reports[0].starts_with("right"));
  CHECK(reports[1].starts_with("right"));
  CHECK_FALSE((reports[0].ends_with("cut 0") && reports[1].ends_with("cut 0")));
}

}  // namespace longspan
