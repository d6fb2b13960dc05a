// Where the kernel's limits keep a long link from being filled, one line says what to set.
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <functional>
#include <string>

#include "base/fd.hpp"
#include "base/log.hpp"
#include "support/catch.hpp"
#include "tcp/socket_options.hpp"

using namespace longspan;
using namespace longspan::tcp;

namespace {

/// What is written to stderr meanwhile.
std::string stderr_of(const std::function<void()>& body) {
  std::array<int, 2> ends{};
  REQUIRE(::pipe(ends.data()) == 0);
  const Fd reader(ends[0]);
  REQUIRE(::fcntl(reader.get(), F_SETFL, O_NONBLOCK) == 0);
  const Fd saved(::dup(STDERR_FILENO));
  ::dup2(ends[1], STDERR_FILENO);
  ::close(ends[1]);
  body();
  ::dup2(saved.get(), STDERR_FILENO);
  std::array<char, 8192> text{};
  const ssize_t got = ::read(reader.get(), text.data(), text.size());
  return {text.data(), static_cast<std::size_t>(std::max<ssize_t>(got, 0))};
}

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

int buffer_of(const Fd& socket, int option) {
  int bytes = 0;
  socklen_t length = sizeof bytes;
  ::getsockopt(socket.get(), SOL_SOCKET, option, &bytes, &length);
  return bytes;
}

constexpr std::size_t kWindow = 10'000'000;

}  // namespace

TEST_CASE("A kernel that allows too small buffers is warned of once: which sysctl, its value, and the value needed",
          "[tcp][windows]") {
  log::set_level(log::Level::kWarn);
  set_kernel_limits({[](const std::string& path) -> std::size_t {
                       return path == "/proc/sys/net/ipv4/tcp_wmem"   ? 4'194'304
                              : path == "/proc/sys/net/ipv4/tcp_rmem" ? 6'291'456
                                                                      : 212'992;
                     },
                     false});
  const Fd one(::socket(AF_INET, SOCK_STREAM, 0));
  const Fd other(::socket(AF_INET, SOCK_STREAM, 0));
  const int before = buffer_of(one, SO_SNDBUF);
  const std::string send = stderr_of([&] {
    for (const Fd* fd : {&one, &other, &one}) set_send_window(fd->get(), kWindow);
  });
  CHECK(std::count(send.begin(), send.end(), '\n') == 1);
  CHECK(has(send, "net.ipv4.tcp_wmem allows 4194304"));
  CHECK(has(send, "20000000"));
  CHECK(has(send, "sysctl -w net.ipv4.tcp_wmem=\"4096 131072 20000000\""));
  CHECK(buffer_of(one, SO_SNDBUF) == before);  // autotuning goes on: better than a fixed size that is too small
  const std::string receive = stderr_of([&] {
    for (const Fd* fd : {&one, &other}) set_receive_window(fd->get(), kWindow);
  });
  CHECK(std::count(receive.begin(), receive.end(), '\n') == 1);
  CHECK(has(receive, "net.ipv4.tcp_rmem allows 6291456"));
  CHECK(has(receive, "sysctl -w net.ipv4.tcp_rmem=\"4096 131072 20000000\""));
  set_kernel_limits({});
}

TEST_CASE("Where autotuning, or a fixed size, suffices nothing is said", "[tcp][windows]") {
  log::set_level(log::Level::kWarn);
  const Fd fd(::socket(AF_INET, SOCK_STREAM, 0));
  for (const bool autotuning : {true, false}) {
    // As root could set; the real limit of the fixed size is this kernel's, so a small window is asked for there.
    set_kernel_limits({[&](const std::string& path) -> std::size_t {
                         return autotuning || path.find("core") != std::string::npos ? 64'000'000 : 4096;
                       },
                       false});
    const std::string said = stderr_of([&] {
      set_send_window(fd.get(), autotuning ? kWindow : 50'000);
      set_receive_window(fd.get(), autotuning ? kWindow : 50'000);
    });
    CHECK(said.empty());
  }
  CHECK(buffer_of(fd, SO_SNDBUF) >= 100'000);
  CHECK(buffer_of(fd, SO_RCVBUF) >= 100'000);
  set_kernel_limits({});
}
