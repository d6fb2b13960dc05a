#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <queue>
#include <random>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "base/clock.hpp"
#include "base/timer.hpp"
#include "longspan/spi/transport.hpp"
#include "sim/fabric.hpp"

namespace longspan::sim {

struct Port;
using Time = std::chrono::nanoseconds;

/// A message on its way. The fabric owns it; its bytes are the sender's until it has left.
struct Message {
  spi::PeerId from = 0;
  spi::PeerId to = 0;
  spi::MessageId id;
  std::uint64_t digest = 0;
  std::span<const std::byte> source;
  std::vector<std::byte> bytes;  // once it has left
  void* context = nullptr;
  bool left = false;
  bool dropped = false;  // forgotten, or its sender died before it left
};
using MessagePtr = std::shared_ptr<Message>;  // of the two events of a message, and the sender's list of unsent ones

/// One end of the way between two peers.
struct End {
  std::string peer_name;
  double rate = 0;
  bool over = false;
  bool broken = false;
  Status why;
  std::unordered_map<spi::MessageId, spi::RecvRequest> posted;
  std::unordered_map<spi::MessageId, MessagePtr> arrived;
  std::vector<MessagePtr> unsent;
  spi::ChannelStats stats;
};

/// What the fabric knows of an endpoint.
struct Port {
  spi::PeerId self = 0;
  Timer wake;          // readable at once when there is work
  bool armed = false;
  TimePoint touched;   // real time of its last poll
  std::deque<spi::Completion> completions;
  std::map<spi::PeerId, End> ends;
  std::unordered_set<std::uint64_t> forgotten;
};

/// Clock, links and events. Every function locks; virtual time advances inside `arm` and `poll`.
class Core {
 public:
  explicit Core(std::uint64_t job) : job_(job), random_(job) {}
  static std::shared_ptr<Core> of_job(std::uint64_t job);

  std::uint64_t job() const noexcept { return job_; }

  // For tests.
  void set_default_link(const Link& value);
  void set_link(spi::PeerId from, spi::PeerId to, const Link& value);
  LinkUse use(spi::PeerId from, spi::PeerId to);
  Time now();

  // For endpoints.
  Status enter(Port& port);
  /// Says goodbye, or dies, and leaves.
  void leave(Port& port, bool goodbye);
  void connect(Port& port, spi::PeerId peer, const spi::ChannelOptions& options);
  void send(Port& port, spi::PeerId peer, const spi::SendRequest& request);
  void post(Port& port, spi::PeerId peer, const spi::RecvRequest& request);
  void set_rate(Port& port, spi::PeerId peer, double bytes_per_second);
  spi::ChannelStats stats(Port& port, spi::PeerId peer);
  void forget(Port& port, std::uint64_t comm);
  std::size_t poll(Port& port, std::span<spi::Completion> completions);
  bool arm(Port& port);

 private:
  using Key = std::pair<spi::PeerId, spi::PeerId>;
  struct LinkState {
    Link link;
    bool own = false;  // not the default
    Time busy_until{0};
    Time last_arrival{0};
    LinkUse use;
  };
  struct Event {
    Time at;
    std::uint64_t number;
    std::function<void()> run;
    bool operator>(const Event& other) const { return at != other.at ? at > other.at : number > other.number; }
  };

  LinkState& link(spi::PeerId from, spi::PeerId to);
  Port* find(spi::PeerId peer);
  End& end(Port& port, spi::PeerId peer);
  void schedule(Time at, std::function<void()> run);
  void run_due();
  void advance();
  bool all_idle();
  void push(Port& port, spi::Completion completion);
  void message_left(const MessagePtr& message);
  void message_arrived(const MessagePtr& message);
  void match(Port& port, End& mine, const Message& message, const spi::RecvRequest& request);
  void peer_left(spi::PeerId self, spi::PeerId peer, bool goodbye);
  void fail_operations(Port& port, spi::PeerId peer, End& end);

  std::mutex mutex_;
  const std::uint64_t job_;
  Time now_{0};
  Link default_link_;
  std::map<Key, LinkState> links_;
  std::map<spi::PeerId, Port*> ports_;
  std::priority_queue<Event, std::vector<Event>, std::greater<>> events_;
  std::uint64_t events_made_ = 0;
  std::mt19937_64 random_;  // seeded by the job: the same test loses the same messages
};

}  // namespace longspan::sim
