// Who may talk to an endpoint: the same job, the same key, and nobody else.
#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <vector>

#include "sides.hpp"

using namespace longspan;
using namespace longspan::ucx;
using namespace longspan::ucx::testing;
using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {

/// A socket to an endpoint, without longspan behind it.
class Caller {
 public:
  explicit Caller(const UcxEndpoint& endpoint) : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    const SocketAddress there = UcxEndpoint::parse_announced(endpoint.address()).value().lifeline;
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(there.port());
    REQUIRE(::connect(fd_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
  }
  void say(const void* bytes, std::size_t length) const { (void)!::send(fd_.get(), bytes, length, MSG_NOSIGNAL); }
  void say(const std::string& bytes) const { say(bytes.data(), bytes.size()); }
  bool dropped() const {
    char bytes[4096];
    const ssize_t got = ::recv(fd_.get(), bytes, sizeof bytes, MSG_DONTWAIT);
    return got == 0 || (got < 0 && errno != EAGAIN);
  }

 private:
  Fd fd_;
};

std::string why(const Side& side) {
  return side.broken.empty() ? std::string() : side.broken.front().status.to_string();
}

}  // namespace

TEST_CASE("A rank of another job is refused, by name", "[ucx]") {
  Side a(1, 0xaaaa);
  Side b(2, 0xbbbb);
  a.connect(2, b.endpoint->address());
  const Bytes data = pattern(100, 1);
  const Operation& sent = a.send(1, data);
  REQUIRE(drive({&a, &b}, [&] { return sent.done() && !a.broken.empty(); }));
  CHECK_FALSE(sent.ok());
  CHECK(why(a).find("rank 2 of the test") != std::string::npos);
  CHECK(why(a).find("another job") != std::string::npos);
  CHECK(b.arrivals.empty());
}

TEST_CASE("An address that belongs to another rank now is refused", "[ucx]") {
  Side a(1);
  Side b(2);
  a.connect(3, b.endpoint->address());
  REQUIRE(drive({&a, &b}, [&] { return !a.broken.empty(); }));
  CHECK(why(a).find("another rank answers") != std::string::npos);
}

TEST_CASE("What is no address of this transport is an error at once", "[ucx]") {
  Side a(1);
  for (const char* address :
       {"", "ucx1 ", "ucx1 127.0.0.1:1", "127.0.0.1:7", "ucx1 nowhere x", "ucx1 127.0.0.1:99999 x", "ucx1 ::1:7 x"}) {
    CAPTURE(address);
    CHECK_FALSE(a.endpoint->connect(2, address, {}, Clock::now() + seconds(1)).ok());
  }
}

TEST_CASE("Lifelines meet over IPv6", "[ucx]") {
  if (!listen_at(make_address("::1", 0).value()).ok()) {
    fmt::print("SKIP: this host has no IPv6\n");
    return;
  }
  Side a(1, 0xbeef, {}, 1 << 20, "::1");
  Side b(2, 0xbeef, {}, 1 << 20, "::1");
  CHECK(UcxEndpoint::parse_announced(b.endpoint->address()).value().lifeline.family() == AF_INET6);
  a.connect(2, b.endpoint->address());
  b.connect(1, a.endpoint->address());
  const Bytes data = pattern(300'000, 1);
  Bytes got(data.size());
  const Operation& received = b.receive(1, got);
  a.send(1, data);
  REQUIRE(drive({&a, &b}, [&] { return received.done(); }));
  CHECK(got == data);
}

TEST_CASE("Strangers on the lifeline's port change nothing", "[ucx]") {
  Two two;
  std::vector<Caller> callers;
  const auto call = [&](const std::string& bytes) {
    callers.emplace_back(*two.b.endpoint);
    callers.back().say(bytes);
  };
  wire::Greeting greeting;
  greeting.job = 0xbeef;
  greeting.from = 9;
  greeting.to = 2;
  const auto bytes_of = [&] { return std::string(reinterpret_cast<const char*>(&greeting), sizeof greeting); };
  call("GET / HTTP/1.1\r\n\r\n");
  call(std::string(100'000, 'x'));
  greeting.address_bytes = 0xffffffff;
  call(bytes_of());
  greeting.address_bytes = 0;
  greeting.job = 1;
  call(bytes_of());
  greeting.job = 0xbeef;
  greeting.version = 99;
  call(bytes_of());
  call(std::string("\x16\x03\x01\x02\x00", 5));  // the handshake of one with a key
  const Bytes data = pattern(300'000, 1);
  Bytes got(data.size());
  const Operation& received = two.b.receive(1, got);
  two.a.send(1, data);
  REQUIRE(two.drive([&] { return received.done(); }));
  CHECK(got == data);
  REQUIRE(two.drive(
      [&] { return std::all_of(callers.begin(), callers.end(), [](const Caller& one) { return one.dropped(); }); }));
  CHECK(two.a.broken.empty());
  CHECK(two.b.broken.empty());
}

#if LONGSPAN_TLS
TEST_CASE("With the job's key on both sides messages pass", "[ucx][keyed]") {
  Two two("the key of this job");
  const Bytes data = pattern(2'000'000, 2);
  Bytes got(data.size());
  const Operation& received = two.b.receive(1, got);
  const Operation& sent = two.a.send(1, data);
  REQUIRE(two.drive([&] { return received.done() && sent.done(); }));
  CHECK(received.ok());
  CHECK(got == data);
}

TEST_CASE("Without the same key on both sides nothing is exchanged, and the error says why", "[ucx][keyed]") {
  const auto [key_of_a, key_of_b, words] =
      GENERATE(table<std::string, std::string, std::string>({{"the key of a rank", "the key of another", "key"},
                                                             {"the key of a rank", "", "no connection"},
                                                             {"", "the key of a rank", "LONGSPAN_KEY"}}));
  CAPTURE(key_of_a, key_of_b);
  Side a(1, 0xbeef, key_of_a);
  Side b(2, 0xbeef, key_of_b);
  a.connect(2, b.endpoint->address());
  const Bytes data = pattern(1000, 1);
  const Operation& sent = a.send(1, data);
  REQUIRE(drive({&a, &b}, [&] { return sent.done() && !a.broken.empty(); }));
  INFO(why(a));
  CHECK_FALSE(sent.ok());
  CHECK(why(a).find(words) != std::string::npos);
  CHECK(b.arrivals.empty());
}

TEST_CASE("A job that encrypts everything cannot use UCX, and is told so", "[ucx][keyed]") {
  spi::EndpointOptions options;
  options.key = "the key of this job";
  options.encryption = Encryption::kAll;
  const auto opened = UcxEndpoint::open(options);
  REQUIRE_FALSE(opened.ok());
  CHECK(opened.status().code() == StatusCode::kUnsupported);
  CHECK(opened.status().message().find("LONGSPAN_ENCRYPT") != std::string::npos);
}
#endif
