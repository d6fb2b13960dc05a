#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "longspan/spi/transport.hpp"
#include "proxy.hpp"
#include "support/pattern.hpp"

namespace longspan::tcp::testing {

using Bytes = std::vector<std::byte>;

/// Bytes that differ at every position and between seeds.
using longspan::testing::pattern;

struct Operation {
  int completions = 0;
  spi::Completion last;
  bool ok() const { return completions == 1 && last.status.ok(); }
};

struct Settings {
  int lanes = 1;
  std::size_t credit = std::size_t{1} << 20;
  std::chrono::milliseconds patience{20'000};
  Tier tier = Tier::kSite;
  std::size_t window = 0;
  double rate = 0;
  double loss = 0;
  std::chrono::milliseconds rtt{0};
  bool proxied = true;  ///< else they reach each other directly
  std::string key;      ///< of both ...
  std::optional<std::string> key_of_b;  ///< ... unless b has this one
  Encryption encryption = Encryption::kWan;
  std::optional<Encryption> encryption_of_b;
  bool reflected = false;  ///< what a dials leads back to a
  std::vector<std::string> nics_of_a;
  std::vector<std::string> nics_of_b;
  bool b_unreachable = false;  ///< and b knows it
};

/// Two endpoints that reach each other through a middlebox each way; everything runs in the test's thread.
class TwoEnds {
 public:
  explicit TwoEnds(const Settings& settings);

  struct End {
    std::unique_ptr<spi::Endpoint> endpoint;
    spi::Channel* channel = nullptr;
    std::vector<spi::Completion> broken;
    std::vector<spi::Completion> closed;
  };
  End a;  ///< is peer 1
  End b;  ///< is peer 2
  std::unique_ptr<Proxy> to_b;  ///< carries what a dials
  std::unique_ptr<Proxy> to_a;

  Operation& send(End& from, std::uint32_t number, std::span<const std::byte> data, std::uint64_t comm = 1);
  Operation& receive(End& at, std::uint32_t number, std::span<std::byte> data, std::uint64_t comm = 1);
  /// Until `done`; false when that takes too long.
  bool drive(const std::function<bool()>& done, std::chrono::milliseconds limit = std::chrono::seconds(20));
  /// Until every operation is complete.
  bool settle(std::chrono::milliseconds limit = std::chrono::seconds(20)) {
    return drive([this] { return open_ == 0; }, limit);
  }
  /// Every operation that completed did so once.
  bool exactly_once() const { return repeated_ == 0; }
  std::uint64_t reconnects() const { return a.channel->stats().reconnects + b.channel->stats().reconnects; }

 private:
  bool step(End& end);
  std::deque<Operation> operations_;
  std::size_t open_ = 0;
  std::size_t repeated_ = 0;
};

}  // namespace longspan::tcp::testing
