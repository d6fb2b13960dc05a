// Addresses are read as they are written; who listens is reached where it says, or says why it cannot be.
#include "base/sockets.hpp"

#include <fmt/format.h>
#include <netinet/in.h>
#include <poll.h>
#include <rapidcheck.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "support/catch.hpp"

using namespace longspan;

namespace {

template <std::size_t N>
std::array<unsigned char, N> random_bytes() {
  std::array<unsigned char, N> bytes{};
  for (unsigned char& byte : bytes) {
    byte = *rc::gen::element<unsigned char>(0, 0, 1, 127, 254, 255, *rc::gen::arbitrary<unsigned char>());
  }
  return bytes;
}

SocketAddress random_address() {
  SocketAddress address;
  if (*rc::gen::arbitrary<bool>()) {
    address = make_address("0.0.0.0", 0).value();
    const auto bytes = random_bytes<4>();
    std::memcpy(&reinterpret_cast<sockaddr_in&>(address.storage).sin_addr, bytes.data(), bytes.size());
  } else {
    address = make_address("::", 0).value();
    auto& v6 = reinterpret_cast<sockaddr_in6&>(address.storage);
    const auto bytes = random_bytes<16>();
    std::memcpy(&v6.sin6_addr, bytes.data(), bytes.size());
    v6.sin6_scope_id = *rc::gen::element<std::uint32_t>(0, 0, 1, 4'000'000'000U);
  }
  address.set_port(*rc::gen::inRange<std::uint16_t>(1, 65'535));
  return address;
}

int outcome(int fd) {
  pollfd waiting{fd, POLLOUT, 0};
  REQUIRE(::poll(&waiting, 1, 5000) == 1);
  return connect_result(fd);
}

/// A message goes from one who dials `listener` to it.
void check_reachable(const Listener& listener) {
  INFO(listener.address.to_string());
  Result<Fd> dialed = dial(listener.address);
  REQUIRE(dialed.ok());
  CHECK(outcome(dialed->get()) == 0);
  pollfd waiting{listener.fd.get(), POLLIN, 0};
  REQUIRE(::poll(&waiting, 1, 5000) == 1);
  const Fd accepted = accept_next(listener.fd.get());
  REQUIRE(accepted.valid());
  CHECK(peer_address(accepted.get()) == local_address(dialed->get()));
  CHECK(local_address(accepted.get()) == peer_address(dialed->get()));
  CHECK(peer_address(dialed->get()) == listener.address);
  CHECK_FALSE(accept_next(listener.fd.get()).valid());
}

bool has_ipv6_loopback() { return listen_at(make_address("::1", 0).value()).ok(); }

}  // namespace

TEST_CASE("Any address is read as it is written", "[sockets]") {
  CHECK(rc::check("parse(format(x)) == x", [] {
    const SocketAddress address = random_address();
    const Result<SocketAddress> read = parse_address(address.to_string());
    RC_ASSERT(read.ok());
    RC_ASSERT(*read == address);
    RC_ASSERT(read->port() == address.port());
    RC_ASSERT(make_address(address.ip(), address.port()).value() == address);
  }));
  CHECK(rc::check("what is read at all is written so that it is read as the same", [] {
    const auto piece = rc::gen::element<std::string>("1", "ff", "10.0.0.1", ".", ":", "::", "[", "]", "[::1]", ":80",
                                                     "%lo", std::string(1, '\0'), "x");
    std::string text;
    for (const std::string& part : *rc::gen::container<std::vector<std::string>>(piece)) text += part;
    const Result<SocketAddress> read = parse_address(text);
    if (!read.ok()) return;
    RC_ASSERT(parse_address(read->to_string()).value() == *read);
  }));
}

TEST_CASE("Addresses look as people write them", "[sockets]") {
  for (const std::string text : {"127.0.0.1:80", "[::1]:65535", "[2001:db8::1]:1", "[fe80::1%lo]:4711"}) {
    CAPTURE(text);
    CHECK(parse_address(text).value().to_string() == text);
  }
  CHECK(unix_address("meeting").to_string() == "unix:@meeting");
  CHECK(unix_address("meeting") == unix_address("meeting"));
  CHECK_FALSE(unix_address("meeting") == unix_address("greeting"));
  CHECK_FALSE(parse_address("[fe80::1%lo]:1").value() == parse_address("[fe80::1]:1").value());
}

TEST_CASE("What is no address is an error that shows it", "[sockets]") {
  for (const std::string_view text :
       {"", "127.0.0.1", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:65536", "127.0.0.1:-1", "127.0.0.1: 1", "host:1",
        "[::1:5", "::1:5", "[127.0.0.1]:5", ":5", "[]:5", "127.1:5", "1.2.3.4%lo:5", "[fe80::1%]:5", "[::1]5"}) {
    CAPTURE(text);
    const Status status = parse_address(text).status();
    CHECK(status.code() == StatusCode::kInvalidArgument);
    CHECK(std::string(status.message()).find('\'') == 0);
  }
  CHECK_FALSE(make_address(std::string_view("127.0.0.1\0.example", 18), 1).ok());
  const Status scope = make_address("fe80::1%no-such-card", 1).status();
  CHECK(std::string(scope.message()).find("no interface 'no-such-card'") != std::string::npos);
}

TEST_CASE("Who listens is reached at the address that it gives", "[sockets]") {
  SECTION("IPv4") { check_reachable(listen_for_peers({"127.0.0.1", "", {}}).value()); }
  SECTION("all interfaces, at this host's address") { check_reachable(listen_for_peers({}).value()); }
  SECTION("all interfaces, where nobody could dial it") { check_reachable(listen_for_peers({"", "none", {}}).value()); }
  SECTION("all interfaces, by IPv4") { check_reachable(listen_for_peers({"", "127.0.0.1", {}}).value()); }
  SECTION("IPv6") {
    if (has_ipv6_loopback()) {
      check_reachable(listen_for_peers({"::1", "", {}}).value());
      check_reachable(listen_for_peers({"", "::1", {}}).value());
    } else {
      fmt::print("SKIP: this host has no IPv6\n");
    }
  }
}

TEST_CASE("Another address may be advertised than listened at, and goes out with the port", "[sockets]") {
  const Listener listener = listen_for_peers({"127.0.0.1", "2001:db8::7", {}}).value();
  CHECK(listener.address.ip() == "2001:db8::7");
  CHECK(listener.address.port() == local_address(listener.fd.get()).port());
  CHECK_FALSE(listen_for_peers({"127.0.0.1", "nowhere", {}}).ok());
}

TEST_CASE("The first free port of a range is taken, and an exhausted range is an error that says so", "[sockets]") {
  const Listener other = listen_for_peers({"127.0.0.1", "", {}}).value();  // a port that is taken
  const std::uint16_t taken = other.address.port();
  const PortRange two{taken, static_cast<std::uint16_t>(taken + 1)};
  if (const auto next = listen_for_peers({"127.0.0.1", "", two}); next.ok()) CHECK(next->address.port() == taken + 1);
  const Status status = listen_for_peers({"127.0.0.1", "", {taken, taken}}).status();
  CHECK(status.code() == StatusCode::kSystem);
  CHECK(std::string(status.message()).find("127.0.0.1") != std::string::npos);
  CHECK(std::string(status.message()).find("from " + std::to_string(taken)) != std::string::npos);
  CHECK(std::string(status.message()).find("all of them are taken") != std::string::npos);
  CHECK(listen_at(other.address).status().code() == StatusCode::kResource);
  const Fd everywhere = listen_everywhere({}).value();
  const std::uint16_t port = local_address(everywhere.get()).port();
  CHECK(listen_everywhere({port, port}).status().code() == StatusCode::kResource);
}

TEST_CASE("What cannot be listened at is an error that names it", "[sockets]") {
  CHECK(listen_for_peers({"not an address", "", {}}).status().code() == StatusCode::kInvalidArgument);
  const Status foreign = listen_for_peers({"203.0.113.7", "", {}}).status();
  CHECK(foreign.code() == StatusCode::kSystem);
  CHECK(std::string(foreign.message()).find("203.0.113.7") != std::string::npos);
}

TEST_CASE("A port at which nobody listens refuses, under its name", "[sockets]") {
  const SocketAddress nobody = listen_for_peers({"127.0.0.1", "", {}}).value().address;  // closed again
  const Result<Fd> dialed = dial(nobody);
  if (dialed.ok()) {
    CHECK(outcome(dialed->get()) == ECONNREFUSED);
  } else {
    CHECK(std::string(dialed.status().message()).find(nobody.to_string()) == 0);
  }
}

TEST_CASE("A socket that meets itself is refused, and one that was never dialed is undecided", "[sockets]") {
  const Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  CHECK(connect_result(fd.get()) == EINPROGRESS);
  const SocketAddress any = make_address("127.0.0.1", 0).value();
  REQUIRE(::bind(fd.get(), any.get(), any.length) == 0);
  REQUIRE(begin_connect(fd.get(), local_address(fd.get())) == 0);
  CHECK(outcome(fd.get()) == ECONNREFUSED);
}

TEST_CASE("Unix sockets meet by name", "[sockets]") {
  const SocketAddress name = unix_address("longspan-sockets-test-" + std::to_string(::getpid()));
  const Fd listener = listen_at(name).value();
  CHECK(listen_at(name).status().code() == StatusCode::kResource);
  const Fd dialed = dial(name).value();
  CHECK(outcome(dialed.get()) == 0);
  CHECK(accept_next(listener.get()).valid());
}

TEST_CASE("Of this machine's addresses loopback is the last choice", "[sockets]") {
  bool loopback = false;
  for (const SocketAddress& address : interface_addresses()) {
    CAPTURE(address.ip());
    CHECK_FALSE((loopback && !address.loopback()));
    loopback = address.loopback();
    CHECK(make_address(address.ip(), address.port()).value() == address);
  }
  CHECK(make_address(reachable_ip(false), 1).value().family() == AF_INET);
}
