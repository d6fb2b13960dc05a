// Jobs that have a key: who may connect, what heals, and what strangers can do about it.
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "base/fd.hpp"
#include "security/session.hpp"
#include "support/catch.hpp"
#include "tcp/endpoint.hpp"
#include "two_ends.hpp"

#if LONGSPAN_TLS

using namespace longspan;
using namespace longspan::tcp;
using namespace longspan::tcp::testing;
using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {

using Kind = Fault::Kind;
constexpr const char* kKey = "the key of this job";

Settings keyed(Encryption encryption) {
  Settings settings;
  settings.key = kKey;
  settings.encryption = encryption;
  return settings;
}

/// A socket to an endpoint, without longspan behind it.
class Caller {
 public:
  explicit Caller(const spi::Endpoint& endpoint) {
    const SocketAddress address = parse_address(endpoint.address()).value();
    fd_.reset(::socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
    REQUIRE(::connect(fd_.get(), address.get(), address.length) == 0);
  }
  int fd() const { return fd_.get(); }
  void say(const std::string& bytes) const { (void)!::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL); }
  std::string hear() const {
    std::string bytes(4096, '\0');
    const ssize_t got = ::recv(fd_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
    bytes.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
    return bytes;
  }
  bool dropped() const {
    char byte = 0;
    const ssize_t got = ::recv(fd_.get(), &byte, 1, MSG_DONTWAIT | MSG_PEEK);
    return got == 0 || (got < 0 && errno != EAGAIN);
  }

 private:
  Fd fd_;
};

/// The first bytes of one who holds `key`.
std::string first_bytes(const char* key, spi::PeerId from, spi::PeerId to) {
  int ends[2];
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends) == 0);
  const Fd near(ends[0]);
  const Fd far(ends[1]);
  const auto session = security::Guard::open(key).value()->dial(near.get(), introduction(from, to, true));
  session->handshake();
  std::string bytes(4096, '\0');
  bytes.resize(static_cast<std::size_t>(::recv(far.get(), bytes.data(), bytes.size(), 0)));
  return bytes;
}

/// True where the kernel encrypts; says so where it does not.
bool by_kernel(const TwoEnds& ends) {
  if (ends.a.channel->stats().kernel_encrypted > 0) return true;
  std::puts("SKIP: security: this kernel has no TLS of its own (modprobe tls)");
  return false;
}

}  // namespace

TEST_CASE("Under a key connections break and heal as without one", "[tcp][keyed]") {
  for (const Encryption encryption : {Encryption::kNone, Encryption::kAll}) {
    for (const Kind kind : {Kind::kReset, Kind::kEnd, Kind::kSwallow}) {
      // In the handshake, at its end, in small frames and in large ones.
      for (const std::size_t at : {0U, 100U, 330U, 500U, 5000U, 900'000U}) {
        if (kind == Kind::kSwallow && at != 500 && at != 900'000) continue;  // each takes a second of silence
        CAPTURE(static_cast<int>(encryption), static_cast<int>(kind), at);
        TwoEnds ends(keyed(encryption));
        ends.to_b->inject({kind, 0, true, at});
        const Bytes large = pattern(3'000'000, 1);
        const Bytes small = pattern(1000, 2);
        std::array<Bytes, 4> got{Bytes(large.size()), Bytes(small.size()), Bytes(large.size()), Bytes(small.size())};
        for (std::uint32_t i = 0; i < got.size(); ++i) {
          ends.receive(i < 2 ? ends.b : ends.a, i, got[i]);
          ends.send(i < 2 ? ends.a : ends.b, i, i % 2 == 0 ? large : small);
        }
        REQUIRE(ends.settle());
        for (std::uint32_t i = 0; i < got.size(); ++i) CHECK(got[i] == (i % 2 == 0 ? large : small));
        CHECK(ends.exactly_once());
        CHECK(ends.to_b->faults_done() == 1);
      }
    }
  }
}

TEST_CASE("Where the kernel encrypts, connections break and heal", "[tcp][kernel]") {
  TwoEnds ends(keyed(Encryption::kAll));
  ends.to_b->inject({Kind::kReset, 0, true, 900'000});
  const Bytes data = pattern(3'000'000, 1);
  Bytes got(data.size());
  ends.receive(ends.b, 1, got);
  ends.send(ends.a, 1, data);
  REQUIRE(ends.settle());
  CHECK(got == data);
  CHECK(ends.to_b->faults_done() == 1);
  by_kernel(ends);
}

TEST_CASE("Where the kernel encrypts, what was sent last comes before the end", "[tcp][kernel]") {
  // A goodbye right behind more data than the socket takes at once.
  TwoEnds ends(keyed(Encryption::kAll));
  ends.to_b->throttle(0, 40e6);
  REQUIRE(ends.drive([&] { return ends.a.channel->stats().lanes > 0; }));
  if (!by_kernel(ends)) return;
  const Bytes data = pattern(12'000'000, 1);
  Bytes got(data.size());
  ends.receive(ends.b, 2, got);
  ends.send(ends.a, 2, data);
  const auto leaving = std::move(ends.a.endpoint);
  const TimePoint deadline = Clock::now() + seconds(10);
  std::thread leaves([&] { leaving->close(deadline); });
  CHECK(ends.drive([&] { return !ends.b.closed.empty() || !ends.b.broken.empty(); }));
  leaves.join();
  CHECK(Clock::now() < deadline);
  CHECK(ends.b.broken.empty());
  CHECK(ends.to_b->connections() == 1);  // nothing came by healing
  CHECK(got == data);
}

TEST_CASE("A connection that swallows the first handshake is given up and another one dialed", "[tcp][keyed]") {
  TwoEnds ends(keyed(Encryption::kAll));
  ends.to_b->inject({Kind::kSwallow, 0, true, 50});
  const Bytes data = pattern(1000, 1);
  Bytes got(data.size());
  ends.receive(ends.b, 1, got);
  ends.send(ends.a, 1, data);
  REQUIRE(ends.settle());
  CHECK(got == data);
}

TEST_CASE("Without the same key on both sides nothing is exchanged, and the error says why", "[tcp][keyed]") {
  const auto [key_of_a, key_of_b, words] = GENERATE(table<std::string, std::string, std::string>(
      {{"the key of a rank", "the key of another", "Key was rejected"},
       {"the key of a rank", "", "Required key not available"},
       {"", "the key of another", "requires the job's key"}}));
  CAPTURE(key_of_a, key_of_b);
  Settings settings;
  settings.key = key_of_a;
  settings.key_of_b = key_of_b;
  settings.patience = milliseconds(1500);
  TwoEnds ends(settings);
  Bytes data = pattern(1000, 1);
  Bytes got(data.size());
  const Operation& received = ends.receive(ends.b, 1, got);
  ends.send(ends.a, 1, data);
  REQUIRE(ends.drive([&] { return !ends.a.broken.empty() && !ends.b.broken.empty(); }));
  REQUIRE(ends.settle());
  CHECK_FALSE(received.ok());
  CHECK(received.last.bytes == 0);
  const std::string text = ends.a.broken.front().status.to_string();
  INFO(text);
  CHECK(text.find(words) != std::string::npos);
}

TEST_CASE("Strangers of all kinds change nothing for those who hold the key", "[tcp][keyed]") {
  TwoEnds ends(keyed(GENERATE(Encryption::kNone, Encryption::kAll)));
  const spi::Endpoint& target = *ends.b.endpoint;
  std::vector<Caller> callers;
  const auto call = [&](const std::string& bytes) {
    callers.emplace_back(target);
    callers.back().say(bytes);
  };
  wire::HelloHeader hello;
  wire::encode(wire::Hello{0xbeef, 1, 2, 0, 1, 0, 0, 9, 0, 0}, hello);
  const std::string unproved(reinterpret_cast<const char*>(hello.data()), hello.size());
  const std::string recorded = first_bytes(kKey, 1, 2);
  call("");                                              // a port scan
  call("GET / HTTP/1.1\r\n\r\n");
  call(unproved);                                        // one of ours without a key, or who pretends
  call(first_bytes("a key that is not the job's", 1, 2));
  call(recorded);                                        // the beginning of another connection, played again
  call(recorded.substr(0, recorded.size() / 2));         // half of it
  call(recorded + recorded);
  call(std::string("\x16\x03\x01\xff\xff", 5));         // a record that is longer than any
  call(std::string(100'000, '\x16'));
  const Bytes data = pattern(2'000'000, 1);
  std::array<Bytes, 8> got;
  for (std::uint32_t i = 0; i < got.size(); ++i) {
    got[i].resize(data.size());
    ends.receive(ends.b, i, got[i]);
    ends.send(ends.a, i, data);
  }
  REQUIRE(ends.settle());
  for (const Bytes& each : got) CHECK(each == data);
  CHECK(ends.a.broken.empty());
  CHECK(ends.b.broken.empty());
  CHECK(ends.reconnects() == 0);
  // One is told that a key is needed, all are dropped, those that only wait when their time is up.
  REQUIRE(ends.drive([&] { return std::all_of(callers.begin(), callers.end(), [](const Caller& one) {
    (void)one.hear();
    return one.dropped();
  }); }, seconds(8)));
}

TEST_CASE("A connection that is led back to where it came from is refused", "[tcp][keyed]") {
  // Somebody on the way hands a's connections to a itself: both sides hold the key, but they are the same.
  Settings settings = keyed(GENERATE(Encryption::kNone, Encryption::kAll));
  settings.patience = milliseconds(1500);
  settings.reflected = true;
  TwoEnds ends(settings);
  Bytes data = pattern(1000, 1);
  ends.send(ends.a, 1, data);
  REQUIRE(ends.drive([&] { return !ends.a.broken.empty(); }));
}

TEST_CASE("Who encrypts everything takes no connection that does not", "[tcp][keyed]") {
  Settings settings = keyed(Encryption::kNone);
  settings.encryption_of_b = Encryption::kAll;
  TwoEnds ends(settings);
  REQUIRE(ends.drive([&] { return !ends.a.broken.empty(); }));
  CHECK(std::string(ends.a.broken.front().status.message()).find("LONGSPAN_ENCRYPT=all") != std::string::npos);
}

#endif
