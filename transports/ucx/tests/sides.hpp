#pragma once

#include <poll.h>

#include <array>
#include <deque>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/clock.hpp"
#include "support/catch.hpp"
#include "support/pattern.hpp"
#include "ucx/endpoint.hpp"

namespace longspan::ucx::testing {

using Bytes = std::vector<std::byte>;
using longspan::testing::pattern;

struct Operation {
  int completions = 0;
  spi::Completion last;
  bool done() const { return completions > 0; }
  bool ok() const { return completions == 1 && last.status.ok(); }
};

/// One endpoint, in the test's thread.
class Side {
 public:
  explicit Side(spi::PeerId self, std::uint64_t job = 0xbeef, const std::string& key = {},
                std::size_t credit = std::size_t{1} << 20, const std::string& ip = "127.0.0.1") {
    spi::EndpointOptions options;
    options.self = self;
    options.job = job;
    options.bind_address = ip;
    options.key = key;
    options.eager_credit_bytes = credit;
    auto opened = UcxEndpoint::open(options);
    INFO(opened.status().to_string());
    REQUIRE(opened.ok());
    endpoint = *std::move(opened);
  }
  void connect(spi::PeerId peer, const std::string& address,
               std::chrono::milliseconds patience = std::chrono::seconds(10)) {
    spi::ChannelOptions options;
    options.peer_name = "rank " + std::to_string(peer) + " of the test";
    auto made = endpoint->connect(peer, address, options, Clock::now() + patience);
    REQUIRE(made.ok());
    channel = *made;
  }
  Operation& send(std::uint32_t number, std::span<const std::byte> data, std::uint64_t comm = 1) {
    Operation& operation = operations.emplace_back();
    channel->send({{comm, number, 0, 0}, 1, data, nullptr, &operation});
    return operation;
  }
  Operation& receive(std::uint32_t number, std::span<std::byte> data, std::uint64_t comm = 1) {
    Operation& operation = operations.emplace_back();
    channel->post_recv({{comm, number, 0, 0}, 1, data, nullptr, false, false, &operation});
    return operation;
  }
  std::size_t step() {
    std::array<spi::Completion, 64> completions;
    const std::size_t count = endpoint->poll(completions);
    for (std::size_t i = 0; i < count; ++i) {
      spi::Completion& completion = completions[i];
      if (completion.kind == spi::CompletionKind::kArrival) arrivals.push_back(completion);
      if (completion.kind == spi::CompletionKind::kBroken) broken.push_back(completion);
      if (completion.kind == spi::CompletionKind::kClosed) closed.push_back(completion);
      if (completion.context == nullptr) continue;
      auto& operation = *static_cast<Operation*>(completion.context);
      ++operation.completions;
      operation.last = std::move(completion);
    }
    return count;
  }

  std::unique_ptr<UcxEndpoint> endpoint;
  spi::Channel* channel = nullptr;
  std::deque<Operation> operations;
  std::vector<spi::Completion> arrivals;
  std::vector<spi::Completion> broken;
  std::vector<spi::Completion> closed;
};

/// Until `done`; false when that takes too long.
inline bool drive(std::initializer_list<Side*> sides, const std::function<bool()>& done,
                  std::chrono::milliseconds limit = std::chrono::seconds(20)) {
  const TimePoint deadline = Clock::now() + limit;
  while (!done()) {
    std::size_t completions = 0;
    for (Side* side : sides) completions += side->step();
    if (completions > 0) continue;
    if (Clock::now() >= deadline) return false;
    std::vector<pollfd> waits;
    bool block = true;
    for (Side* side : sides) {
      waits.push_back({side->endpoint->wait_fd(), POLLIN, 0});
      block = side->endpoint->arm() && block;
    }
    if (block) ::poll(waits.data(), waits.size(), poll_timeout_ms(Clock::now(), deadline, 100));
  }
  return true;
}

/// Two that know each other.
struct Two {
  explicit Two(const std::string& key = {}, std::size_t credit = std::size_t{1} << 20)
      : a(1, 0xbeef, key, credit), b(2, 0xbeef, key, credit) {
    a.connect(2, b.endpoint->address());
    b.connect(1, a.endpoint->address());
  }
  bool drive(const std::function<bool()>& done) { return testing::drive({&a, &b}, done); }
  Side a;
  Side b;
};

}  // namespace longspan::ucx::testing
