#pragma once

#include <chrono>
#include <cstdint>
#include <memory>

#include "longspan/spi/transport.hpp"

/// A network inside the process, with a clock of its own: for tests of what happens between ranks, in no real time and
/// the same way each time.
namespace longspan::sim {

class Core;

/// One direction between two peers: first in, first out.
struct Link {
  std::chrono::nanoseconds latency{1'000};          ///< one way
  double bytes_per_second = 10e9;                   ///< 0: without limit
  double loss = 0;                                  ///< chance that a message must be sent again, [0, 1)
  std::chrono::nanoseconds retransmission{200'000}; ///< what a loss costs, beside another round trip
};

/// What crossed a link so far.
struct LinkUse {
  std::uint64_t messages = 0;
  std::uint64_t bytes = 0;
  std::uint64_t lost = 0;
};

/// The network that all endpoints of one job share. Virtual time stands while any endpoint is busy, and jumps to the
/// next event when all are idle: armed, or not polled for some real milliseconds (a rank that has left the game).
///
///     auto fabric = sim::Fabric::of_job(options.job);   // before or after its endpoints are opened
///     fabric.set_link(0, 1, {.latency = 20ms, .bytes_per_second = 125e6});
///     ... run ranks as threads over the transport "sim" ...
///     CHECK(fabric.now() < 25ms);
///
/// Thread safe. The fabric lives as long as an endpoint or a test holds it; a new one starts at time 0.
class Fabric {
 public:
  static Fabric of_job(std::uint64_t job);

  /// For links without one of their own; for what is sent from now on.
  void set_default_link(const Link& link) const;
  void set_link(spi::PeerId from, spi::PeerId to, const Link& link) const;
  LinkUse use(spi::PeerId from, spi::PeerId to) const;
  /// Virtual time since the fabric began.
  std::chrono::nanoseconds now() const;

 private:
  explicit Fabric(std::shared_ptr<Core> core) : core_(std::move(core)) {}
  std::shared_ptr<Core> core_;  // also owned by the endpoints on it
};

}  // namespace longspan::sim
