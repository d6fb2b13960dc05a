#include "verbs/connection.hpp"

#include <fmt/format.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "base/log.hpp"
#include "verbs/channel.hpp"
#include "verbs/endpoint.hpp"

namespace longspan::verbs {
namespace {

/// For a connection to stand, to prove the key and to say who it is.
constexpr std::chrono::seconds kGreetingTime{5};

}  // namespace

Connection::Connection(VerbsEndpoint& endpoint, Fd socket)
    : endpoint_(endpoint), socket_(std::move(socket)), deadline_(Clock::now() + kGreetingTime) {
  if (endpoint_.guard() != nullptr) session_ = endpoint_.guard()->accept(socket_.get());
  endpoint_.watch(socket_.get(), *this);
}

Connection::Connection(VerbsEndpoint& endpoint, VerbsChannel& channel, const SocketAddress& address)
    : endpoint_(endpoint),
      channel_(&channel),
      dialed_(true),
      state_(State::kConnecting),
      deadline_(Clock::now() + kGreetingTime) {
  Result<Fd> socket = longspan::dial(address);
  if (!socket.ok()) {
    fail(std::string(socket.status().message()));
    return;
  }
  socket_ = std::move(*socket);
  introduction_ = endpoint_.introduction(endpoint_.self(), channel.peer());
  if (endpoint_.guard() != nullptr) session_ = endpoint_.guard()->dial(socket_.get(), introduction_);
  endpoint_.watch(socket_.get(), *this);
}

Connection::~Connection() {
  if (socket_.valid()) endpoint_.unwatch(socket_.get());
  session_.reset();
}

void Connection::fail(std::string why) {
  if (state_ == State::kOver) return;
  state_ = State::kOver;
  why_ = std::move(why);
  if (channel_ != nullptr) endpoint_.mark_dirty(*channel_);
}

void Connection::on_events() {
  if (state_ == State::kConnecting && !stand()) return;
  if (state_ == State::kProving && !prove()) return;
  if (state_ == State::kGreeting && hear()) settle();
  if (state_ != State::kUp) return;
  // Nothing is said here any more: whatever can be read is the end.
  char byte = 0;
  const ssize_t got = ::recv(socket_.get(), &byte, 1, MSG_DONTWAIT);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  fail(got == 0  ? "its end closed without a goodbye: the process died"
       : got < 0 ? std::strerror(errno)
                 : "it said what does not belong there");
}

bool Connection::stand() {
  const int error = connect_result(socket_.get());
  if (error == EINPROGRESS) return false;
  if (error != 0) {
    fail(std::strerror(error));
    return false;
  }
  state_ = State::kProving;
  return true;
}

bool Connection::prove() {
  if (session_ != nullptr) {
    switch (session_->handshake()) {
      case security::Session::Progress::kWantsRead:
      case security::Session::Progress::kWantsWrite: return false;
      case security::Session::Progress::kFailed:
        hopeless_ = session_->failure() == security::Failure::kOtherKey;
        fail(std::string(security::describe(session_->failure())));
        return false;
      case security::Session::Progress::kDone: break;
    }
    introduction_ = *session_->introduction();
    session_.reset();  // what follows names queue pairs, and is no secret
  }
  state_ = State::kGreeting;
  if (!dialed_) return true;
  link_ = std::make_unique<Link>(endpoint_.adapter(), *channel_);
  if (Status made = link_->create(channel_->lanes()); !made.ok()) {
    fail(std::string(made.message()));
    return false;
  }
  wire::Greeting greeting = endpoint_.greeting(channel_->peer());
  link_->describe(greeting);
  return say(greeting);
}

bool Connection::say(const wire::Greeting& greeting) {
  // The first bytes of a connection always fit into its buffer.
  if (::send(socket_.get(), &greeting, sizeof greeting, MSG_NOSIGNAL | MSG_DONTWAIT) ==
      static_cast<ssize_t>(sizeof greeting)) {
    return true;
  }
  fail(std::strerror(errno));
  return false;
}

/// True once the whole greeting of the other side is there, and makes sense.
bool Connection::hear() {
  auto* const bytes = reinterpret_cast<char*>(&heard_);
  while (heard_bytes_ < sizeof heard_) {
    const ssize_t got = ::recv(socket_.get(), bytes + heard_bytes_, sizeof heard_ - heard_bytes_, MSG_DONTWAIT);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EAGAIN) return false;
    if (got <= 0) {
      fail(got == 0 ? "it hung up before it said who it is" : std::strerror(errno));
      return false;
    }
    heard_bytes_ += static_cast<std::size_t>(got);
    if (heard_bytes_ >= 2 && security::begins_handshake(std::as_bytes(std::span(bytes, 2)))) {
      fail("it proves a key, and there is none here (LONGSPAN_KEY)");
      return false;
    }
    if (heard_bytes_ >= sizeof heard_.magic && heard_.magic != wire::Greeting{}.magic) break;
  }
  if (const std::string_view wrong = wire::check(heard_); !wrong.empty()) {
    fail(std::string(wrong));
    return false;
  }
  return true;
}

void Connection::settle() {
  if (!dialed_) return endpoint_.admit(*this);
  if (heard_.version != wire::kVersion || heard_.verdict != wire::Verdict::kWelcome) {
    hopeless_ = heard_.version != wire::kVersion || heard_.verdict != wire::Verdict::kNoResources;
    return fail(
        std::string(wire::describe(heard_.version != wire::kVersion ? wire::Verdict::kOtherVersion : heard_.verdict)));
  }
  if (heard_.job != endpoint_.job() || heard_.from != channel_->peer() || heard_.to != endpoint_.self()) {
    return fail("another peer answers");
  }
  if (Status connected = link_->connect(heard_); !connected.ok()) return fail(std::string(connected.message()));
  state_ = State::kUp;
  set_keepalive(socket_.get());
  link_->open();
  link_->push({});  // kReady
  channel_->link_is_up(*this);
}

Status Connection::welcome(VerbsChannel& channel) {
  channel_ = &channel;
  link_ = std::make_unique<Link>(endpoint_.adapter(), channel);
  LONGSPAN_TRY(link_->create(heard_.lanes));
  LONGSPAN_TRY(link_->connect(heard_));
  wire::Greeting greeting = endpoint_.greeting(heard_.from);
  link_->describe(greeting);
  if (!say(greeting)) return Status(StatusCode::kPeerLost, why_);
  state_ = State::kUp;
  set_keepalive(socket_.get());
  return {};
}

void Connection::refuse(wire::Verdict verdict) {
  wire::Greeting greeting = endpoint_.greeting(heard_.from);
  greeting.verdict = verdict;
  say(greeting);
  fail(std::string(wire::describe(verdict)));
}

}  // namespace longspan::verbs
