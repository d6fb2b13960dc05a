#include "traffic.hpp"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <time.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "support/catch.hpp"

namespace longspan::lab_test {
namespace {

using namespace longspan::lab;

constexpr int kReceiveBuffer = 256 << 20;
/// Enough to keep a slow queue filled while the sender waits for a busy core.
constexpr int kSendBuffer = 32 << 20;
constexpr int kSkipped = 77;

struct Header {
  std::uint32_t number;
  std::int64_t sent_ns;
};

[[noreturn]] void skip(const Status& why) {
  fmt::print("SKIP: {}\n", why.message());
  std::fflush(nullptr);
  std::_Exit(kSkipped);
}

Duration wall_clock() {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  return std::chrono::seconds(now.tv_sec) + std::chrono::nanoseconds(now.tv_nsec);
}

/// A UDP socket bound to a host's address; its own port is chosen by the kernel.
Fd udp_socket(const Network& network, int host, sockaddr_storage* bound, socklen_t* length) {
  const ScopedNamespace inside(network.host(host));
  REQUIRE(inside.status().ok());
  const IpAddress& address = network.addresses()[static_cast<std::size_t>(host)];
  *bound = {};
  if (address.v6) {
    auto& v6 = reinterpret_cast<sockaddr_in6&>(*bound);
    v6.sin6_family = AF_INET6;
    std::memcpy(&v6.sin6_addr, address.bytes.data(), 16);
    *length = sizeof v6;
  } else {
    auto& v4 = reinterpret_cast<sockaddr_in&>(*bound);
    v4.sin_family = AF_INET;
    std::memcpy(&v4.sin_addr, address.bytes.data(), 4);
    *length = sizeof v4;
  }
  Fd fd(::socket(bound->ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  REQUIRE(fd.valid());
  REQUIRE(::bind(fd.get(), reinterpret_cast<const sockaddr*>(bound), *length) == 0);
  REQUIRE(::getsockname(fd.get(), reinterpret_cast<sockaddr*>(bound), length) == 0);
  return fd;
}

void wait_until(Duration wall) {
  const Duration left = wall - wall_clock();
  if (left <= Duration{0}) return;
  const auto whole = std::chrono::duration_cast<std::chrono::seconds>(left);
  const timespec time{whole.count(), static_cast<long>((left - whole).count())};
  ::ppoll(nullptr, 0, &time, nullptr);
}

}  // namespace

Lab make_lab(const std::string& toml, PortKind port, const std::vector<std::string>& faults, bool offload) {
  static const auto privileges = acquire_network_privileges();
  if (!privileges.ok()) skip(privileges.status());
  const auto topology = parse_topology(toml, "test");
  INFO(topology.status().message());
  REQUIRE(topology.ok());
  auto network = Network::build(topology.value(), NetworkOptions{});
  if (!network.ok()) skip(network.status());
  Lab lab;
  lab.network = std::make_unique<Network>(std::move(network).value());
  WanOptions options;
  options.port = port;
  options.offload = offload;
  for (const std::string& fault : faults) {
    const auto changes = parse_fault(fault, topology.value());
    REQUIRE(changes.ok());
    options.changes.insert(options.changes.end(), changes.value().begin(), changes.value().end());
  }
  auto wan = Wan::create(*lab.network, std::move(options));
  if (!wan.ok()) skip(wan.status());
  lab.wan = std::move(wan).value();
  REQUIRE(lab.wan->start().ok());
  return lab;
}

std::string pair_topology(const std::string& link) {
  return "version = 1\n[[host]]\nname = \"eu-1\"\nregion = \"eu\"\n[[host]]\nname = \"us-1\"\nregion = \"us\"\n"
         "[[wan]]\nfrom = \"eu\"\nto = \"us\"\n" +
         link;
}

Stream::Stream(const Lab& lab, int from, int to) {
  sockaddr_storage address{};
  socklen_t length = 0;
  sender_ = udp_socket(*lab.network, from, &address, &length);
  receiver_ = udp_socket(*lab.network, to, &address, &length);
  const int on = 1;
  REQUIRE(::setsockopt(receiver_.get(), SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on) == 0);
  REQUIRE(::setsockopt(receiver_.get(), SOL_SOCKET, SO_RCVBUFFORCE, &kReceiveBuffer, sizeof kReceiveBuffer) == 0);
  REQUIRE(::setsockopt(sender_.get(), SOL_SOCKET, SO_SNDBUFFORCE, &kSendBuffer, sizeof kSendBuffer) == 0);
  // An unreachable address is reported by send(), which is what a test may be about.
  (void)::connect(sender_.get(), reinterpret_cast<const sockaddr*>(&address), length);
}

int Stream::send(std::size_t ip_bytes) {
  std::array<std::byte, 9000> payload{};
  const Header header{next_++, wall_clock().count()};
  std::memcpy(payload.data(), &header, sizeof header);
  return ::send(sender_.get(), payload.data(), ip_bytes - kHeaders, 0) > 0 ? 0 : errno;
}

int Stream::send_train(std::size_t ip_bytes, int packets) {
  constexpr int kUdpSegment = 103;  // UDP_SEGMENT, Linux 4.18
  const std::size_t segment = ip_bytes - kHeaders;
  const int size = static_cast<int>(segment);
  if (::setsockopt(sender_.get(), IPPROTO_UDP, kUdpSegment, &size, sizeof size) != 0) return errno;
  std::vector<std::byte> payload(segment * static_cast<std::size_t>(packets));
  for (std::size_t at = 0; at < payload.size(); at += segment) {
    const Header header{next_++, wall_clock().count()};
    std::memcpy(payload.data() + at, &header, sizeof header);
  }
  return ::send(sender_.get(), payload.data(), payload.size(), 0) > 0 ? 0 : errno;
}

Duration Stream::send_many(std::size_t ip_bytes, int count, Bandwidth rate) {
  const Duration start = wall_clock();
  for (int i = 0; i < count; ++i) {
    const std::chrono::duration<double> offset(static_cast<double>(i) * static_cast<double>(ip_bytes) /
                                               rate.bytes_per_second);
    wait_until(start + std::chrono::duration_cast<Duration>(offset));
    (void)send(ip_bytes);
  }
  return wall_clock() - start;
}

std::vector<Arrival> Stream::receive(std::size_t count, Duration silence) {
  std::vector<Arrival> arrivals;
  const auto silence_ms = std::chrono::duration_cast<std::chrono::milliseconds>(silence).count();
  while (arrivals.size() < count) {
    pollfd ready{receiver_.get(), POLLIN, 0};
    if (::poll(&ready, 1, static_cast<int>(silence_ms)) <= 0) break;
    std::array<std::byte, 9000> payload{};
    std::array<std::byte, 256> control{};
    iovec part{payload.data(), payload.size()};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    if (::recvmsg(receiver_.get(), &message, 0) < static_cast<ssize_t>(sizeof(Header))) break;
    Header header{};
    std::memcpy(&header, payload.data(), sizeof header);
    timespec stamp{};
    std::memcpy(&stamp, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof stamp);
    const Duration received = std::chrono::seconds(stamp.tv_sec) + std::chrono::nanoseconds(stamp.tv_nsec);
    arrivals.push_back({header.number, received - Duration(header.sent_ns), received});
  }
  return arrivals;
}

double rate_of(const std::vector<Arrival>& arrivals, std::size_t ip_bytes) {
  if (arrivals.size() < 20) return 0;
  const std::size_t first = arrivals.size() / 10;
  const std::chrono::duration<double> time = arrivals.back().received - arrivals[first].received;
  return static_cast<double>((arrivals.size() - 1 - first) * ip_bytes) / time.count();
}

Duration median_latency(const std::vector<Arrival>& arrivals) {
  std::vector<Duration> latencies;
  for (const Arrival& arrival : arrivals) latencies.push_back(arrival.latency);
  if (latencies.empty()) return Duration::max();
  const auto middle = latencies.begin() + static_cast<std::ptrdiff_t>(latencies.size() / 2);
  std::nth_element(latencies.begin(), middle, latencies.end());
  return *middle;
}

}  // namespace longspan::lab_test
