#pragma once

#include <memory>
#include <string>

#include "base/clock.hpp"
#include "base/fd.hpp"
#include "base/sockets.hpp"
#include "security/session.hpp"
#include "verbs/link.hpp"

namespace longspan::verbs {

class VerbsEndpoint;
class VerbsChannel;

/// One direction between two peers: the TCP connection over which both sides prove the job's key and name their queue
/// pairs, and then the link. The socket stays open: its end is how a death is seen.
class Connection {
 public:
  enum class State : std::uint8_t {
    kConnecting,
    kProving,
    kGreeting,  ///< the peer's greeting is awaited
    kUp,
    kOver,      ///< the socket ended
  };

  /// Accepted: whose it is shows later.
  Connection(VerbsEndpoint& endpoint, Fd socket);
  /// Dialed, for `channel`.
  Connection(VerbsEndpoint& endpoint, VerbsChannel& channel, const SocketAddress& address);
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  void on_events();
  State state() const noexcept { return state_; }
  bool up() const noexcept { return state_ == State::kUp || (state_ == State::kOver && link_ != nullptr); }
  bool over() const noexcept { return state_ == State::kOver; }
  bool dialed() const noexcept { return dialed_; }
  const std::string& why() const noexcept { return why_; }
  /// Another attempt would end the same way.
  bool hopeless() const noexcept { return hopeless_; }
  Link* link() const noexcept { return link_.get(); }
  const wire::Greeting& heard() const noexcept { return heard_; }
  TimePoint deadline() const noexcept { return deadline_; }

  /// What the dialer proved the key for.
  const security::Introduction& introduction() const noexcept { return introduction_; }
  /// Accepted: answers, and belongs to `channel` from here on.
  Status welcome(VerbsChannel& channel);
  void refuse(wire::Verdict verdict);
  void fail(std::string why);

 private:
  bool stand();
  bool prove();
  bool say(const wire::Greeting& greeting);
  bool hear();
  void settle();

  VerbsEndpoint& endpoint_;
  VerbsChannel* channel_ = nullptr;
  bool dialed_ = false;
  State state_ = State::kProving;
  Fd socket_;
  std::unique_ptr<security::Session> session_;
  security::Introduction introduction_;
  wire::Greeting heard_;
  std::size_t heard_bytes_ = 0;
  std::unique_ptr<Link> link_;
  std::string why_;
  bool hopeless_ = false;
  TimePoint deadline_;
};

}  // namespace longspan::verbs
