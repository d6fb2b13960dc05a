#pragma once

#include <poll.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.hpp"
#include "base/fd.hpp"

namespace longspan::tcp::testing {

/// What happens to a connection once `at` bytes of it have passed in one direction.
struct Fault {
  enum class Kind : std::uint8_t {
    kReset,     ///< both ends get a RST
    kEnd,       ///< both ends get a FIN
    kSwallow,   ///< everything is taken and nothing passes, in both directions: what a NAT does that has forgotten
    kStall,     ///< nothing is taken and nothing passes, until `resume`
    kHalfOpen,  ///< the dialed end gets a RST, the dialing end learns nothing
  };
  Kind kind = Kind::kReset;
  std::size_t connection = 0;  ///< in the order in which they were made
  bool forward = true;         ///< counted from the side that dials
  std::size_t at = 0;
};

/// A middlebox between one listening address and another, in the thread of the test: `step` moves what can be moved.
class Proxy {
 public:
  explicit Proxy(const std::string& upstream);
  ~Proxy();

  const std::string& address() const { return address_; }
  void inject(const Fault& fault) { faults_.push_back(fault); }
  /// From now on new connections are taken and lead nowhere.
  void swallow_new(bool on) { swallow_new_ = on; }
  /// Connection number `connection` carries no more than this, in each direction.
  void throttle(std::size_t connection, double bytes_per_second);
  /// All stalled connections go on.
  void resume();
  /// Nobody listens here any more, and all connections are reset.
  void vanish();

  /// Moves bytes; true when it did something.
  bool step();
  void add_waits(std::vector<pollfd>& waits) const;

  std::size_t connections() const { return links_.size(); }
  std::size_t faults_done() const { return done_; }
  std::size_t bytes(std::size_t connection, bool forward) const;
  /// When bytes last passed this way; the epoch when none did.
  TimePoint last_passed(std::size_t connection, bool forward) const;

 private:
  struct Direction {
    std::vector<std::byte> buffer;
    std::size_t begin = 0;
    std::size_t passed = 0;
    TimePoint last{};
    bool ended = false;
  };
  struct Link {
    Fd client;
    Fd server;
    Direction forward;
    Direction backward;
    bool swallow = false;
    bool stalled = false;
    double rate = 0;
    TimePoint since{};
    double passed_then = 0;
  };

  void accept_all();
  bool move(std::size_t index, bool forward);
  bool swallow(Link& link);
  std::size_t room(const Link& link, const Direction& way, std::size_t index, bool forward) const;
  bool strike(std::size_t index, bool forward);
  void strike(Link& link, Fault::Kind kind);

  std::string upstream_;
  std::string address_;
  Fd listener_;
  std::vector<std::unique_ptr<Link>> links_;
  std::vector<Fault> faults_;
  std::vector<std::pair<std::size_t, double>> throttles_;
  std::size_t done_ = 0;
  bool swallow_new_ = false;
};

}  // namespace longspan::tcp::testing
