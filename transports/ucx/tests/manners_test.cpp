// UCX in somebody else's process: it takes no signals, prints nothing, and steps back where nothing speaks for it.
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstring>

#include "sides.hpp"

using namespace longspan;
using namespace longspan::ucx;
using namespace longspan::ucx::testing;
using std::chrono::seconds;

namespace {

using Code = std::array<unsigned char, 16>;
/// UCX's hooks overwrite the first instructions of these.
std::array<Code, 4> memory_functions() {
  std::array<Code, 4> all{};
  const std::array<void*, 4> functions{::dlsym(RTLD_DEFAULT, "mmap"), ::dlsym(RTLD_DEFAULT, "munmap"),
                                       ::dlsym(RTLD_DEFAULT, "brk"), ::dlsym(RTLD_DEFAULT, "madvise")};
  for (std::size_t i = 0; i < all.size(); ++i) std::memcpy(all[i].data(), functions[i], all[i].size());
  return all;
}
const std::array<Code, 4> kAtStart = memory_functions();

}  // namespace

TEST_CASE("Without an RDMA device no function of memory is patched", "[ucx]") {
  if (::access("/sys/class/infiniband", F_OK) == 0) return;  // a machine of another kind
  Two two;
  const Bytes data = pattern(3'000'000, 1);
  Bytes got(data.size());
  const Operation& received = two.b.receive(1, got);
  two.a.send(1, data);
  REQUIRE(two.drive([&] { return received.done(); }));
  CHECK(memory_functions() == kAtStart);
}

TEST_CASE("The program keeps its signal handlers", "[ucx]") {
  struct sigaction mine {};
  mine.sa_handler = [](int) {};
  struct sigaction before {};
  REQUIRE(::sigaction(SIGFPE, &mine, &before) == 0);
  { Side side(1); }
  struct sigaction now {};
  ::sigaction(SIGFPE, &before, &now);
  CHECK(now.sa_handler == mine.sa_handler);
}

TEST_CASE("Nothing is written to standard output, not even about a peer that vanishes", "[ucx]") {
  std::fflush(stdout);
  const Fd kept(::dup(STDOUT_FILENO));
  const Fd file(::memfd_create("stdout", MFD_CLOEXEC));
  REQUIRE(::dup2(file.get(), STDOUT_FILENO) >= 0);
  bool told = false;
  {
    Two two;
    const Bytes data = pattern(3'000'000, 1);
    two.a.send(1, data);
    static_cast<void>(two.drive([&] { return !two.b.arrivals.empty(); }));
    two.a.endpoint.reset();
    told = drive({&two.b}, [&] { return !two.b.broken.empty(); });
  }
  std::fflush(stdout);
  ::dup2(kept.get(), STDOUT_FILENO);
  CHECK(told);
  CHECK(::lseek(file.get(), 0, SEEK_END) == 0);
}

TEST_CASE("Without an RDMA device it is opened only by name", "[ucx]") {
  if (::access("/sys/class/infiniband", F_OK) == 0) return;  // a machine of another kind
  spi::EndpointOptions options;
  options.named = false;
  const auto opened = UcxEndpoint::open(options);
  REQUIRE_FALSE(opened.ok());
  CHECK(opened.status().code() == StatusCode::kUnsupported);
  CHECK(opened.status().message().find("LONGSPAN_TRANSPORTS") != std::string::npos);
  Side named(1);
  CHECK(named.endpoint->traits().medium != spi::Medium::kRdma);
}

TEST_CASE("What was offered to a forgotten communicator is let go on both sides", "[ucx]") {
  Two two({}, std::size_t{64} << 10);
  const Bytes data = pattern(1'000'000, 1);
  for (std::uint32_t i = 0; i < 20; ++i) two.a.send(i, data, 7);
  REQUIRE(two.drive([&] { return two.b.arrivals.size() == 20; }));
  two.a.endpoint->forget(7);
  two.b.endpoint->forget(7);
  Bytes got(data.size());
  const Operation& received = two.b.receive(1, got, 8);
  const Operation& sent = two.a.send(1, data, 8);
  REQUIRE(two.drive([&] { return received.done() && sent.done(); }));
  CHECK(received.ok());
  CHECK(got == data);
}

TEST_CASE("A message taken back while it is sent is not delivered as if it were whole", "[ucx]") {
  Two two;
  Bytes data = pattern(20'000'000, 1);
  Bytes got(data.size());
  const Operation& received = two.b.receive(1, got, 7);
  const Operation& sent = two.a.send(1, data, 7);
  for (int i = 0; i < 4; ++i) {
    two.a.step();
    two.b.step();
  }
  const bool early = !sent.done() && !received.done();
  two.a.endpoint->forget(7);
  Bytes().swap(data);  // as its owner may, now
  const Bytes other = pattern(1000, 2);
  Bytes got_other(other.size());
  const Operation& next = two.b.receive(1, got_other, 8);
  two.a.send(1, other, 8);
  REQUIRE(two.drive([&] { return next.done(); }));
  static_cast<void>(drive({&two.a, &two.b}, [] { return false; }, std::chrono::milliseconds(200)));
  if (early) CHECK(received.completions == 0);
  CHECK(got_other == other);
  CHECK(two.b.broken.empty());
}
