#include "tcp/dialer.hpp"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

#include "tcp/channel.hpp"
#include "tcp/endpoint.hpp"

namespace longspan::tcp {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr milliseconds kFirstBackoff{2};
constexpr milliseconds kLongestBackoff{200};
/// Once connected before, a path that drops packets: each attempt is a new socket, and so a new port.
constexpr seconds kConnectTime{1};
constexpr seconds kLongestConnectTime{4};
/// As long as the other side waits for ours.
constexpr seconds kProofTime{5};

/// Why a proof failed, in the words of the system's errors.
int error_of(security::Failure failure) noexcept {
  switch (failure) {
    case security::Failure::kOtherKey: return EKEYREJECTED;
    case security::Failure::kNoKey: return ENOKEY;
    case security::Failure::kStranger: return EPROTO;
    default: return ECONNRESET;
  }
}

}  // namespace

void Dialer::start() {
  stop();
  backoff_ = kFirstBackoff;
  attempts_ = 0;
  last_error_ = 0;
  attempt();
}

void Dialer::stop() noexcept {
  channel_.endpoint().unwatch(connection_.fd());
  connection_.close();
  state_ = State::kIdle;
}

void Dialer::attempt() {
  const SocketAddress& there = channel_.address_for(lane_.index(), attempts_);
  Fd fd(::socket(there.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  ++attempts_;
  if (!fd.valid()) return failed(errno);
  connection_ = Connection(std::move(fd));
  channel_.configure(connection_.fd());
  channel_.endpoint().bind_to_nic(connection_.fd(), there.family(), lane_.index() + attempts_ - 1);
  state_ = State::kConnecting;
  const bool first = lane_.state() == Lane::State::kNew;
  generation_ = first ? 0 : generation_ + 1;
  // A first connection may take its time: the kernel repeats by itself, and ranks start at different times.
  const Duration patience =
      std::max<Duration>(std::min<Duration>(kConnectTime * attempts_, kLongestConnectTime), channel_.silence_limit());
  next_ = first ? TimePoint::max() : Clock::now() + patience;
  if (const int error = begin_connect(connection_.fd(), there); error != 0) return failed(error);
  channel_.endpoint().watch(connection_.fd(), *this);
  channel_.endpoint().request_timer(next_);
}

bool Dialer::adopt(Connection connection) {
  const bool first = lane_.state() == Lane::State::kNew;
  const bool wanted = first || lane_.state() == Lane::State::kDown || (lane_.up() && busy());
  // Where an answer is about to come, another connection would only be in its way.
  const bool answer_due = state_ == State::kGreeting && Clock::now() - greeted_at_ < channel_.silence_limit() / 4;
  if (!wanted || answer_due) return false;
  stop();
  connection_ = std::move(connection);
  channel_.configure(connection_.fd());
  generation_ = first ? 0 : generation_ + 1;
  next_ = TimePoint::max();
  channel_.endpoint().rewatch(connection_.fd(), *this);
  stands();
  return true;
}

void Dialer::failed(int error) {
  last_error_ = error;
  channel_.endpoint().unwatch(connection_.fd());
  connection_.close();
  state_ = State::kPausing;
  next_ = Clock::now() + backoff_;
  backoff_ = std::min<Duration>(2 * backoff_, kLongestBackoff);
  channel_.endpoint().request_timer(next_);
  channel_.dial_failed(lane_, error);
}

TimePoint Dialer::on_timer(TimePoint now) {
  if (state_ != State::kIdle && now >= next_) {
    if (state_ == State::kPausing) {
      attempt();
    } else {
      failed(ETIMEDOUT);
    }
  }
  return state_ == State::kIdle ? TimePoint::max() : next_;
}

void Dialer::on_events(std::uint32_t /*events*/) {
  if (state_ == State::kConnecting) connected();
  if (state_ == State::kProving) prove();
  if (state_ == State::kGreeting) read_answer();
}

void Dialer::connected() {
  const int error = connect_result(connection_.fd());
  if (error == EINPROGRESS) return;  // an event of a socket before this one
  if (error != 0) return failed(error);
  channel_.reached();
  const security::Guard* guard = channel_.endpoint().guard();
  if (guard == nullptr) return stands();
  connection_.protect(guard->dial(connection_.fd(), channel_.introduction()));
  state_ = State::kProving;
  next_ = Clock::now() + std::max<Duration>(kProofTime, channel_.answer_limit(lane_));
  channel_.endpoint().request_timer(next_);
}

void Dialer::prove() {
  if (const auto progress = connection_.prove(); progress != security::Session::Progress::kDone) {
    if (progress == security::Session::Progress::kFailed) failed(error_of(connection_.session()->failure()));
    return;
  }
  connection_.proved();
  stands();
}

/// The connection stands, and leads to one of ours.
void Dialer::stands() {
  if (lane_.state() == Lane::State::kNew) {
    state_ = State::kIdle;
    return channel_.connected(lane_, std::move(connection_));
  }
  greet();
}

void Dialer::greet() {
  wire::HelloHeader hello;
  wire::encode(channel_.hello_of(lane_, generation_), hello);
  iovec vector{hello.data(), hello.size()};
  const Connection::Moved moved = connection_.write(std::span(&vector, 1));
  if (moved.result == Connection::Result::kFailed) return failed(moved.error);
  if (moved.bytes != hello.size()) return failed(ENOBUFS);  // a new socket has room for more than that
  answer_bytes_ = 0;
  state_ = State::kGreeting;
  greeted_at_ = Clock::now();
  next_ = greeted_at_ + channel_.answer_limit(lane_);
  channel_.endpoint().request_timer(next_);
}

void Dialer::read_answer() {
  while (answer_bytes_ < answer_.size()) {
    iovec vector{answer_.data() + answer_bytes_, answer_.size() - answer_bytes_};
    const Connection::Moved moved = connection_.read(std::span(&vector, 1));
    if (moved.result == Connection::Result::kBlocked) return;
    if (moved.result == Connection::Result::kEnd) return failed(ECONNRESET);
    if (moved.result == Connection::Result::kFailed) return failed(moved.error);
    answer_bytes_ += moved.bytes;
  }
  state_ = State::kIdle;
  wire::Frame frame;
  const wire::WireError error = wire::decode(answer_, frame);
  channel_.answered(lane_, std::move(connection_), generation_, error, frame);
}

}  // namespace longspan::tcp
