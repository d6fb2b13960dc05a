#include "processes.hpp"

#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <random>

#include "security/secret.hpp"
#include "security/session.hpp"

namespace longspan::bootstrap::testing {

Ranks::~Ranks() {
  for (auto& [rank, process] : processes_) {
    ::kill(process.pid, SIGKILL);
    ::waitpid(process.pid, nullptr, 0);
  }
}

void Ranks::start(int rank, const Body& body) {
  int ends[2];
  if (::pipe(ends) != 0) std::abort();
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::close(ends[0]);
    // A child must not hold the other ranks' pipes open.
    for (auto& [other, process] : processes_) process.pipe.reset();
    body(rank, [&](const std::string& text) {
      const std::string line = text + "\n";
      if (::write(ends[1], line.data(), line.size()) < 0) ::_exit(1);
    });
    ::_exit(0);
  }
  ::close(ends[1]);
  processes_[rank].pid = pid;
  processes_[rank].pipe = Fd(ends[0]);
}

void Ranks::signal(int rank, int number) { ::kill(processes_.at(rank).pid, number); }

std::string Ranks::next(int rank, std::chrono::milliseconds limit) {
  Process& process = processes_.at(rank);
  const TimePoint until = Clock::now() + limit;
  while (true) {
    if (const auto end = process.buffer.find('\n'); end != std::string::npos) {
      std::string line = process.buffer.substr(0, end);
      process.buffer.erase(0, end + 1);
      return line;
    }
    if (!wait_ready(process.pipe.get(), POLLIN, until)) return "(nothing)";
    char bytes[4096];
    const ssize_t got = ::read(process.pipe.get(), bytes, sizeof bytes);
    if (got <= 0) return "(ended)";
    process.buffer.append(bytes, static_cast<std::size_t>(got));
  }
}

Gate::Gate() : fd_(::eventfd(0, EFD_CLOEXEC)) {
  if (!fd_) std::abort();
}

void Gate::open() {
  const std::uint64_t one = 1;
  if (::write(fd_.get(), &one, sizeof one) != sizeof one) std::abort();
}

bool once_of_five(const std::function<bool()>& attempt) {
  for (int i = 0; i < 5; ++i) {
    if (attempt()) return true;
  }
  return false;
}

std::string lacks(const std::string& text, std::initializer_list<std::string> parts) {
  for (const auto& part : parts) {
    if (text.find(part) == std::string::npos) return "'" + part + "' is not in '" + text + "'";
  }
  return "";
}

/// Drawn from below the ports that the kernel gives to connections (ip_local_port_range): whoever connects meanwhile,
/// in a test beside this one, cannot get it.
int free_port() {
  constexpr std::uint16_t kFirst = 15'000;
  constexpr std::uint16_t kLast = 32'000;
  std::random_device draw;
  for (;;) {
    const auto port = std::uniform_int_distribution<std::uint16_t>(kFirst, kLast)(draw);
    if (listen_everywhere({port, port}).ok()) return port;
  }
}

LaunchInfo launch(int rank, int size, int port) {
  LaunchInfo info;
  info.rank = rank;
  info.size = size;
  info.master_address = "127.0.0.1";
  info.master_port = port;
  return info;
}

RendezvousRequest request(int rank, int size, int port, std::chrono::milliseconds limit) {
  RendezvousRequest r;
  r.launch = launch(rank, size, port);
  r.host = "host-" + std::to_string(rank);
  r.payload = "payload of " + std::to_string(rank);
  r.deadline = Clock::now() + limit;
  // The suites run with a key, too.
  r.guard = security::Guard::open(security::secret_from_environment().value()).value();
  r.make_context = [](std::span<const std::string> payloads) -> Result<std::string> {
    std::string all;
    for (const auto& p : payloads) all += p + ";";
    return all;
  };
  return r;
}

}  // namespace longspan::bootstrap::testing
