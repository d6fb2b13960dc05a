#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.hpp"
#include "base/fd.hpp"
#include "bootstrap/hub.hpp"
#include "bootstrap/messages.hpp"
#include "bootstrap/rendezvous.hpp"
#include "bootstrap/wire.hpp"

namespace longspan::bootstrap {

struct ControlOptions {
  Duration heartbeat = std::chrono::seconds(1);
  HubOptions hub;  ///< `describe` names ranks in verdicts: "rank 3 (host eu-1, region eu)"
  /// What this rank waits for, asked by the hub during poll(). Empty: member of nothing.
  std::function<WaitReport(std::uint64_t comm, std::uint64_t seq)> wait_report;
};

/// Keeps all ranks of a job in touch, so that when something fails all of them learn the same root cause.
///
/// Every rank holds a connection to rank 0, and to a standby that takes over when rank 0 is gone. One thread at a time;
/// nothing blocks but `close`. Call `poll` when `wait_fd` is readable or `next_deadline` has come, then take the
/// verdicts:
///
///     control->send_fault(fault);                      // something failed here
///     control->poll();
///     while (auto verdict = control->next_verdict()) fail(verdict->comm, verdict->status());
///
/// A verdict arrives within about 0.35 s of the first fault, that of a death within 0.3, and within 0.8 s where rank 0
/// does not answer; a caller that has none 0.9 s after `send_fault` is on its own and reports what it knows.
class ControlPlane final : private Hub::Outlet {
 public:
  /// Takes over the connections of a rendezvous. A job of one rank has none and decides everything itself.
  static Result<std::unique_ptr<ControlPlane>> create(Rendezvous met, ControlOptions options);
  ControlPlane(const ControlPlane&) = delete;
  ControlPlane& operator=(const ControlPlane&) = delete;
  ~ControlPlane() override;

  /// Readable when poll() has something to do.
  int wait_fd() const noexcept { return epoll_.get(); }
  TimePoint next_deadline() const;
  void poll();

  /// This rank saw a problem, or abort() was called here (kAborted).
  void send_fault(const Fault& fault);
  /// The next root cause; each (communicator) once.
  std::optional<Verdict> next_verdict();
  /// Something for the layer above, from another rank.
  struct Note {
    int from = -1;
    std::string text;
  };
  /// Tells rank 0, or as rank 0 any other; lost where there is no connection.
  void send_note(int rank, std::string text);
  std::optional<Note> next_note();
  /// How a rank stands, as far as this rank knows.
  Life life(int rank) const { return hub_->life(rank); }

  /// Says goodbye to all ranks and ends; takes at most `limit`, normally no time at all.
  void close(Duration limit = std::chrono::seconds(1));

 private:
  /// A connection to one rank, or to a stranger that may be one.
  struct Link {
    Stream stream;
    FrameReader reader{kMaxControlBody};
    FrameWriter writer;
    TimePoint last_sent;
    TimePoint since;
    bool connecting = false;
    bool goodbye = false;
    bool waits_to_write = false;
  };

  /// A fault of this rank that was told to a hub.
  struct OpenFault {
    Fault fault;
    TimePoint answer_due;  ///< then the standby is asked
  };

  ControlPlane(Rendezvous met, ControlOptions options);
  Status start();

  // Hub::Outlet
  void send(int rank, const ControlMessage& message) override;
  void decided(const Verdict& verdict) override;
  WaitReport own_report(std::uint64_t comm, std::uint64_t seq) override;

  bool is_hub() const noexcept { return rank_ == 0 || rank_ == standby_; }
  bool watch(std::uint64_t key, int fd, bool write, bool fresh);
  void push(std::uint64_t key, Link& link, const ControlMessage& message);
  void flush(std::uint64_t key, Link& link);
  void dispatch(std::uint64_t key, std::uint32_t events);
  void read_link(int rank);
  void handle(int rank, const ControlMessage& message);
  void link_ended(int rank);
  void hub_ended();
  void tell(int hub, OpenFault& open);
  void ask_standby(TimePoint now);
  void deliver(const Verdict& verdict);
  int current_hub() const;
  void decide_alone(const Fault& fault);
  void connect_standby();
  void standby_connected();
  void accept_strangers();
  void read_stranger(std::uint64_t key);
  void timers(TimePoint now);

  int rank_;
  int size_;
  std::uint64_t job_;
  int standby_;
  std::vector<SocketAddress> standby_at_;
  Fd standby_listener_;
  std::shared_ptr<const security::Guard> guard_;  // shared with the rendezvous that it comes from; nullptr: no key
  ControlOptions options_;
  // Decides on rank 0 and on the standby; elsewhere it only keeps what is known of the ranks.
  std::unique_ptr<Hub> hub_;
  Fd epoll_;
  std::map<int, Link> links_;                   // by rank
  std::map<std::uint64_t, Link> strangers_;     // by key
  std::uint64_t next_stranger_;
  std::vector<OpenFault> open_faults_;          // without an answer yet
  struct {
    std::uint64_t comm = 0;
    TimePoint at{};
  } hub_asked_;                                 // rank 0's last question
  std::deque<Verdict> verdicts_;
  std::deque<Note> notes_;
  std::vector<std::uint64_t> delivered_;        // communicators that have their verdict
  TimePoint retry_standby_ = TimePoint::max();
  TimePoint hub_lost_at_ = TimePoint::max();    // rank 0's connection broke; the standby is to say so
  TimePoint next_heartbeat_;
  bool closed_ = false;
};

}  // namespace longspan::bootstrap
