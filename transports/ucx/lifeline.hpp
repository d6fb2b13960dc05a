#pragma once

#include <memory>
#include <string>

#include "base/clock.hpp"
#include "base/fd.hpp"
#include "security/session.hpp"
#include "ucx/wire.hpp"

namespace longspan::ucx {

/// A socket beside UCX, between two endpoints: over it they prove the job's key, greet, and part; its end without a
/// goodbye is a death, noticed at once whatever UCX runs over. No message travels on it.
class Lifeline {
 public:
  explicit Lifeline(Fd fd) : fd_(std::move(fd)) {}

  int fd() const noexcept { return fd_.get(); }
  /// The job's key is proved with `session` before anything else passes; everything after is encrypted.
  void protect(std::unique_ptr<security::Session> session) { session_ = std::move(session); }
  const security::Introduction* introduction() const noexcept {
    return session_ != nullptr && session_->introduction() ? &*session_->introduction() : nullptr;
  }

  /// Moves what can be moved.
  void step();
  /// Of the connection and the proof; what is said before waits.
  bool up() const noexcept { return state_ == State::kUp; }
  bool ended() const noexcept { return state_ == State::kEnded; }
  /// Why it ended, in a few words.
  const std::string& why() const noexcept { return why_; }
  /// The other side is one of ours, without a key.
  bool refused_key() const noexcept { return refused_key_; }

  void say(const wire::Greeting& greeting, std::string_view address);
  /// To one who could not prove the key: it learns that, and nothing else.
  void say_in_plain(wire::Verdict verdict) noexcept;
  /// After that: reads on until the other side has closed, since what is unread would turn the end into a reset, which
  /// may overtake the answer. True once it has.
  bool drained() noexcept;
  void say(wire::NoteKind kind, std::uint64_t value);
  /// False: not all of it is there. A greeting that makes no sense ends the lifeline.
  bool hear(wire::Greeting& greeting, std::string& address);
  bool hear(wire::Note& note);
  bool greeted = false;  ///< notes follow
  bool unsaid() const noexcept { return !ended() && !unsaid_.empty(); }

 private:
  enum class State : std::uint8_t { kConnecting, kProving, kUp, kEnded };

  void end(std::string why);
  void prove();
  void write();
  void read();

  State state_ = State::kConnecting;
  Fd fd_;
  std::unique_ptr<security::Session> session_;  // before the socket that it uses
  std::string unsaid_;
  std::string heard_;
  std::string why_;
  bool refused_key_ = false;
};

}  // namespace longspan::ucx
