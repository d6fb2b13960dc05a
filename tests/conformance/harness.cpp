#include "harness.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>

namespace longspan::conformance {

Peer::Peer(spi::Transport& transport, spi::PeerId self, std::size_t eager_credit, std::uint64_t job) : self_(self) {
  spi::EndpointOptions options;
  options.self = self;
  options.job = job;
  options.bind_address = "127.0.0.1";
  options.eager_credit_bytes = eager_credit;
  auto endpoint = transport.open(options);
  if (!endpoint.ok()) {  // also reached in forked processes, which Catch2 does not watch
    std::fprintf(stderr, "cannot open %s: %s\n", std::string(transport.name()).c_str(),
                 endpoint.status().to_string().c_str());
    std::abort();
  }
  endpoint_ = std::move(endpoint).value();
}

spi::Channel& Peer::connect(spi::PeerId peer, const std::string& address, TimePoint deadline, int lanes) {
  spi::ChannelOptions options;
  options.lanes = lanes;
  options.peer_name = fmt::format("peer {} of the test", peer);
  auto channel = endpoint_->connect(peer, address, options, deadline);
  if (!channel.ok()) {
    std::fprintf(stderr, "cannot connect to %s: %s\n", address.c_str(), channel.status().to_string().c_str());
    std::abort();
  }
  channels_[peer] = *channel;
  return **channel;
}

Op& Peer::send(spi::PeerId to, spi::MessageId message, std::span<const std::byte> data, std::uint64_t digest,
               MemoryKind memory) {
  Op& op = ops_.emplace_back();
  ++open_;
  channel(to).send({message, digest, data, nullptr, &op, memory});
  return op;
}

Op& Peer::recv(spi::PeerId from, spi::MessageId message, std::span<std::byte> data, std::uint64_t digest,
               bool any_length, bool view_ok, MemoryKind memory) {
  Op& op = ops_.emplace_back();
  ++open_;
  channel(from).post_recv({message, digest, data, nullptr, view_ok, any_length, &op, false, memory});
  return op;
}

std::size_t Peer::step() {
  std::array<spi::Completion, 64> completions;
  const std::size_t count = endpoint_->poll(completions);
  for (std::size_t i = 0; i < count; ++i) {
    spi::Completion& completion = completions[i];
    switch (completion.kind) {
      case spi::CompletionKind::kArrival: arrivals.push_back(completion); continue;
      case spi::CompletionKind::kClosed: closed.push_back(completion); continue;
      case spi::CompletionKind::kBroken: broken.push_back(completion); continue;
      case spi::CompletionKind::kSend:
      case spi::CompletionKind::kRecv: break;
    }
    if (completion.context == nullptr) {
      ++repeated_;
      continue;
    }
    Op& op = *static_cast<Op*>(completion.context);
    if (op.completions++ > 0) ++repeated_;
    else --open_;
    op.last = std::move(completion);
  }
  return count;
}

bool drive(std::initializer_list<Peer*> peers, const std::function<bool()>& done, TimePoint deadline) {
  while (!done()) {
    std::size_t completions = 0;
    for (Peer* peer : peers) completions += peer->step();
    if (completions > 0) continue;
    const TimePoint now = Clock::now();
    if (now >= deadline) return false;
    std::vector<pollfd> waits;
    bool block = true;
    for (Peer* peer : peers) {
      const int fd = peer->endpoint().wait_fd();
      block = block && fd >= 0;
      waits.push_back({fd, POLLIN, 0});
      block = peer->endpoint().arm() && block;
    }
    if (block) {
      ::poll(waits.data(), waits.size(), poll_timeout_ms(now, deadline));
    } else {
      ::sched_yield();
    }
  }
  return true;
}

Pair::Pair(spi::Transport& transport, std::size_t eager_credit, int lanes)
    : a(transport, 1, eager_credit), b(transport, 2, eager_credit) {
  a.connect(2, b.address(), in_time(), lanes);
  b.connect(1, a.address(), in_time(), lanes);
}

SharedBytes::SharedBytes(Peer& owner, const Bytes& bytes)
    : memfd_(::memfd_create("conformance", MFD_CLOEXEC | MFD_ALLOW_SEALING)) {
  if (::ftruncate(memfd_.get(), static_cast<off_t>(bytes.size())) != 0) std::abort();
  if (::fcntl(memfd_.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) != 0) std::abort();
  void* memory = ::mmap(nullptr, bytes.size(), PROT_READ | PROT_WRITE, MAP_SHARED, memfd_.get(), 0);
  if (memory == MAP_FAILED) std::abort();
  bytes_ = std::span(static_cast<std::byte*>(memory), bytes.size());
  std::copy(bytes.begin(), bytes.end(), bytes_.begin());
  auto region = owner.endpoint().share_memory(bytes_, memfd_.get());
  if (!region.ok()) std::abort();
  region_ = std::move(*region);
}

SharedBytes::~SharedBytes() {
  region_.reset();
  ::munmap(bytes_.data(), bytes_.size());
}

bool Line::tell(const std::string& text) const {
  return ::send(fd_.get(), text.data(), text.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(text.size());
}

std::string Line::hear(TimePoint deadline) const {
  pollfd wait{fd_.get(), POLLIN, 0};
  if (::poll(&wait, 1, poll_timeout_ms(Clock::now(), deadline)) <= 0) return {};
  std::array<char, 4096> buffer;
  const ssize_t got = ::recv(fd_.get(), buffer.data(), buffer.size(), 0);
  return got > 0 ? std::string(buffer.data(), static_cast<std::size_t>(got)) : std::string();
}

Child::Child(const std::function<void(Line&)>& body) {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) std::abort();
  std::fflush(nullptr);
  pid_ = ::fork();
  if (pid_ < 0) std::abort();
  if (pid_ == 0) {
    ::close(ends[0]);
    Line line{Fd(ends[1])};
    body(line);
    ::_exit(0);
  }
  ::close(ends[1]);
  line_ = std::make_unique<Line>(Fd(ends[0]));
}

Child::~Child() { kill(); }

void Child::kill() {
  if (pid_ <= 0) return;
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
  pid_ = -1;
}

}  // namespace longspan::conformance
