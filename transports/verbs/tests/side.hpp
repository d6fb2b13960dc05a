#pragma once

#include <fmt/format.h>
#include <poll.h>

#include <array>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.hpp"
#include "support/catch.hpp"
#include "support/pattern.hpp"
#include "verbs/endpoint.hpp"

namespace longspan::verbs::testing {

using Bytes = std::vector<std::byte>;
using longspan::testing::pattern;

/// Whether this machine has a device; says so where it has none (tests/rdma_vm has one).
inline bool has_device() {
  const auto device = open_device({});
  if (device.ok()) return true;
  fmt::print("SKIP: verbs: {}\n", device.status().message());
  SUCCEED("skipped");
  return false;
}

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
                const std::string& ip = "127.0.0.1") {
    spi::EndpointOptions options;
    options.self = self;
    options.job = job;
    options.bind_address = ip;
    options.key = key;
    auto opened = VerbsEndpoint::open(options);
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
  void step() {
    std::array<spi::Completion, 64> completions;
    const std::size_t count = endpoint->poll(completions);
    for (std::size_t i = 0; i < count; ++i) {
      spi::Completion& completion = completions[i];
      if (completion.kind == spi::CompletionKind::kBroken) broken.push_back(completion);
      if (completion.context == nullptr) continue;
      auto& operation = *static_cast<Operation*>(completion.context);
      ++operation.completions;
      operation.last = std::move(completion);
    }
  }
  std::string why() const { return broken.empty() ? std::string() : broken.front().status.to_string(); }

  std::unique_ptr<spi::Endpoint> endpoint;
  spi::Channel* channel = nullptr;
  std::deque<Operation> operations;
  std::vector<spi::Completion> broken;
};

inline bool drive(Side& a, Side& b, const std::function<bool()>& done,
                  std::chrono::milliseconds patience = std::chrono::seconds(15)) {
  const TimePoint deadline = Clock::now() + patience;
  while (!done()) {
    a.step();
    b.step();
    if (Clock::now() > deadline) return false;
  }
  return true;
}

}  // namespace longspan::verbs::testing
