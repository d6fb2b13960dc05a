// A rank for the lab's tests: rank 0 answers, the others ask it, each over TCP. Prints what it heard.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>

#include "base/clock.hpp"
#include "base/env.hpp"
#include "base/fd.hpp"

namespace {

using namespace longspan;

constexpr Duration kDeadline = std::chrono::seconds(20);

sockaddr_in master() {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(env::get_int("MASTER_PORT").value_or(0)));
  ::inet_pton(AF_INET, env::get("MASTER_ADDR").value_or("").c_str(), &address.sin_addr);
  return address;
}

bool exchange_as_server(int peers) {
  const Fd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const sockaddr_in address = master();
  if (::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) return false;
  if (::listen(listener.get(), peers) != 0) return false;
  for (int i = 0; i < peers; ++i) {
    pollfd ready{listener.get(), POLLIN, 0};
    if (::poll(&ready, 1, 20'000) != 1) return false;
    const Fd peer(::accept(listener.get(), nullptr, nullptr));
    char rank = 0;
    if (::recv(peer.get(), &rank, 1, 0) != 1 || ::send(peer.get(), &rank, 1, 0) != 1) return false;
    std::printf("heard rank %d\n", int{rank});
  }
  return true;
}

bool exchange_as_client(int rank) {
  const sockaddr_in address = master();
  const TimePoint deadline = Clock::now() + kDeadline;
  while (Clock::now() < deadline) {
    const Fd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
      if (errno != ECONNREFUSED) return false;
      ::poll(nullptr, 0, 5);  // rank 0 does not listen yet
      continue;
    }
    char byte = static_cast<char>(rank);
    return ::send(socket.get(), &byte, 1, 0) == 1 && ::recv(socket.get(), &byte, 1, 0) == 1 && byte == rank;
  }
  return false;
}

}  // namespace

int main() {
  const int rank = env::get_int("RANK").value_or(-1);
  const int size = env::get_int("WORLD_SIZE").value_or(0);
  const bool done = rank == 0 ? exchange_as_server(size - 1) : exchange_as_client(rank);
  if (!done) std::printf("failed: %s\n", std::strerror(errno));
  return done ? 0 : 1;
}
