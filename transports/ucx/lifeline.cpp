#include "ucx/lifeline.hpp"

#include <fmt/format.h>
#include <sys/socket.h>

#include <array>
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <span>

#include "base/sockets.hpp"

namespace longspan::ucx {
namespace {

constexpr std::size_t kMostHeard = std::size_t{64} << 10;  // a greeting and some notes have a few KiB

using security::MoveResult;

security::Moved plain(ssize_t moved, bool reading) {
  if (moved > 0 || (moved == 0 && !reading)) return {MoveResult::kDone, static_cast<std::size_t>(moved), 0};
  if (moved == 0) return {MoveResult::kEnd, 0, 0};
  return {errno == EAGAIN || errno == EINTR ? MoveResult::kBlocked : MoveResult::kFailed, 0, errno};
}

template <class T>
std::string_view bytes_of(const T& value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

}  // namespace

void Lifeline::end(std::string why) {
  if (ended()) return;
  state_ = State::kEnded;
  why_ = std::move(why);
}

void Lifeline::step() {
  if (state_ == State::kConnecting) {
    const int error = connect_result(fd_.get());
    if (error == EINPROGRESS) return;
    if (error != 0) return end(fmt::format("cannot connect: {}", std::strerror(error)));
    state_ = State::kProving;
  }
  if (state_ == State::kProving) prove();
  if (state_ != State::kUp) return;
  write();
  read();
}

void Lifeline::prove() {
  if (session_ == nullptr) {
    state_ = State::kUp;
    return;
  }
  switch (session_->handshake()) {
    case security::Session::Progress::kDone: state_ = State::kUp; return;
    case security::Session::Progress::kFailed:
      refused_key_ = session_->failure() == security::Failure::kNoKey;
      return end(std::string(security::describe(session_->failure())));
    default: return;
  }
}

void Lifeline::write() {
  while (!unsaid_.empty()) {
    const iovec vector{unsaid_.data(), unsaid_.size()};
    const security::Moved moved = session_ != nullptr
                                      ? session_->write(std::span(&vector, 1))
                                      : plain(::send(fd_.get(), unsaid_.data(), unsaid_.size(), MSG_NOSIGNAL), false);
    if (moved.result == MoveResult::kBlocked) return;
    if (moved.result != MoveResult::kDone) return;  // what the other side said before it left is still to be read
    unsaid_.erase(0, moved.bytes);
  }
}

void Lifeline::read() {
  std::array<char, 4096> buffer;
  while (heard_.size() < kMostHeard) {
    const iovec vector{buffer.data(), buffer.size()};
    const security::Moved moved = session_ != nullptr ? session_->read(std::span(&vector, 1))
                                                      : plain(::recv(fd_.get(), buffer.data(), buffer.size(), 0), true);
    switch (moved.result) {
      case MoveResult::kDone: heard_.append(buffer.data(), moved.bytes); break;
      case MoveResult::kBlocked: return;
      case MoveResult::kEnd: return end("its end closed");
      case MoveResult::kFailed: return end(std::strerror(moved.error));
    }
  }
}

void Lifeline::say(const wire::Greeting& greeting, std::string_view address) {
  unsaid_ += bytes_of(greeting);
  unsaid_ += address;
  step();
}

void Lifeline::say_in_plain(wire::Verdict verdict) noexcept {
  wire::Greeting greeting;
  greeting.verdict = verdict;
  session_.reset();
  static_cast<void>(::send(fd_.get(), &greeting, sizeof greeting, MSG_NOSIGNAL));
  ::shutdown(fd_.get(), SHUT_WR);
}

bool Lifeline::drained() noexcept {
  std::array<char, 4096> unread;
  while (true) {
    const ssize_t got = ::recv(fd_.get(), unread.data(), unread.size(), MSG_DONTWAIT);
    if (got <= 0) return got == 0 || errno != EAGAIN;
  }
}

void Lifeline::say(wire::NoteKind kind, std::uint64_t value) {
  wire::Note note;
  note.kind = kind;
  note.value = value;
  unsaid_ += bytes_of(note);
  step();
}

bool Lifeline::hear(wire::Greeting& greeting, std::string& address) {
  // Garbage need not be as long as a greeting.
  const std::size_t begin = std::min(heard_.size(), sizeof greeting.magic);
  if (std::memcmp(heard_.data(), &greeting.magic, begin) != 0 && begin > 0) {
    end(security::begins_handshake(std::as_bytes(std::span(heard_)))
            ? "it proves a key, and there is none here (LONGSPAN_KEY)"
            : "what it says is no greeting of this transport");
    return false;
  }
  if (heard_.size() < sizeof greeting) return false;
  wire::Greeting read;
  std::memcpy(&read, heard_.data(), sizeof read);
  if (read.address_bytes > wire::kMaxAddress ||
      (read.version != wire::kVersion && read.verdict == wire::Verdict::kWelcome)) {
    end("it speaks another version of this transport: all ranks must run the same build");
    return false;
  }
  if (heard_.size() < sizeof read + read.address_bytes) return false;
  greeting = read;
  address.assign(heard_, sizeof read, read.address_bytes);
  heard_.erase(0, sizeof read + read.address_bytes);
  return true;
}

bool Lifeline::hear(wire::Note& note) {
  if (heard_.size() < sizeof note) return false;
  std::memcpy(&note, heard_.data(), sizeof note);
  heard_.erase(0, sizeof note);
  return true;
}

}  // namespace longspan::ucx
