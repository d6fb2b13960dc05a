#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/clock.hpp"
#include "base/fd.hpp"
#include "longspan/spi/transport.hpp"
#include "support/pattern.hpp"

/// What the conformance tests are written with: peers that keep book of their completions, and a driver that blocks
/// where the contract says it may, so that a lost wake-up shows as a missed deadline.
namespace longspan::conformance {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool kSanitized = true;
#elif defined(__has_feature)
inline constexpr bool kSanitized = __has_feature(address_sanitizer) || __has_feature(thread_sanitizer);
#else
inline constexpr bool kSanitized = false;
#endif

inline constexpr std::size_t kHuge = kSanitized ? (std::size_t{8} << 20) + 13 : (std::size_t{64} << 20) + 13;
inline constexpr std::uint32_t kMany = kSanitized ? 1'000 : 10'000;

using Bytes = std::vector<std::byte>;

/// Bytes that differ at every position and between seeds.
using longspan::testing::pattern;

inline TimePoint within(std::chrono::milliseconds time) { return Clock::now() + time; }
inline TimePoint in_time() { return within(std::chrono::seconds(20)); }

inline spi::MessageId id(std::uint32_t seq, std::uint32_t stream = 0, std::uint32_t chunk = 0, std::uint64_t comm = 1) {
  return {comm, seq, stream, chunk};
}

/// One operation and how it ended.
struct Op {
  int completions = 0;
  spi::Completion last;
  bool done() const { return completions > 0; }
  bool ok() const { return completions == 1 && last.status.ok(); }
  StatusCode code() const { return last.status.code(); }
};

/// An endpoint that counts what it is told. Used by one thread.
class Peer {
 public:
  Peer(spi::Transport& transport, spi::PeerId self, std::size_t eager_credit = std::size_t{1} << 20,
       std::uint64_t job = 0xbeef);

  spi::PeerId self() const { return self_; }
  std::string address() const { return endpoint_->address(); }
  spi::Endpoint& endpoint() { return *endpoint_; }
  void destroy() { endpoint_.reset(); }

  spi::Channel& connect(spi::PeerId peer, const std::string& address, TimePoint deadline = in_time(), int lanes = 0);
  spi::Channel& channel(spi::PeerId peer) { return *channels_.at(peer); }
  Op& send(spi::PeerId to, spi::MessageId message, std::span<const std::byte> data, std::uint64_t digest = 1,
           MemoryKind memory = MemoryKind::kHost);
  Op& recv(spi::PeerId from, spi::MessageId message, std::span<std::byte> data, std::uint64_t digest = 1,
           bool any_length = false, bool view_ok = false, MemoryKind memory = MemoryKind::kHost);
  /// Polls once; how many completions came.
  std::size_t step();

  std::vector<spi::Completion> arrivals;
  std::vector<spi::Completion> closed;
  std::vector<spi::Completion> broken;
  /// Operations not yet completed.
  std::size_t open_operations() const { return open_; }
  /// No operation completed twice, and none that was never asked for.
  bool exactly_once() const { return repeated_ == 0; }

 private:
  spi::PeerId self_;
  std::unique_ptr<spi::Endpoint> endpoint_;
  std::map<spi::PeerId, spi::Channel*> channels_;
  std::deque<Op> ops_;
  std::size_t open_ = 0;
  std::size_t repeated_ = 0;
};

/// Drives `peers` until `done`, blocking on their wait_fds when all are armed. False: the deadline passed.
bool drive(std::initializer_list<Peer*> peers, const std::function<bool()>& done, TimePoint deadline = in_time());

/// Two peers in this process, connected both ways.
struct Pair {
  explicit Pair(spi::Transport& transport, std::size_t eager_credit = std::size_t{1} << 20, int lanes = 0);
  bool drive(const std::function<bool()>& done, TimePoint deadline = in_time()) {
    return conformance::drive({&a, &b}, done, deadline);
  }
  /// Until nothing is in flight.
  bool settle(TimePoint deadline = in_time()) {
    return drive([this] { return a.open_operations() + b.open_operations() == 0; }, deadline);
  }
  Peer a;
  Peer b;
};

/// A copy of bytes in memory that peers of this host may map.
class SharedBytes {
 public:
  SharedBytes(Peer& owner, const Bytes& bytes);
  SharedBytes(const SharedBytes&) = delete;
  SharedBytes& operator=(const SharedBytes&) = delete;
  ~SharedBytes();
  std::span<std::byte> bytes() const { return bytes_; }

 private:
  Fd memfd_;
  std::span<std::byte> bytes_;
  std::unique_ptr<spi::MemoryRegion> region_;
};

/// A line to a forked process: whole messages, with deadlines. Both ends throw nothing and return false when it broke.
class Line {
 public:
  explicit Line(Fd fd) : fd_(std::move(fd)) {}
  bool tell(const std::string& text) const;
  /// Empty when nothing came in time.
  std::string hear(TimePoint deadline = in_time()) const;

 private:
  Fd fd_;
};

/// A forked process that runs `body`; killed and reaped when it goes. Make it before any thread and any endpoint.
class Child {
 public:
  explicit Child(const std::function<void(Line&)>& body);
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  ~Child();
  Line& line() { return *line_; }
  void kill();

 private:
  pid_t pid_ = -1;
  std::unique_ptr<Line> line_;
};

}  // namespace longspan::conformance
