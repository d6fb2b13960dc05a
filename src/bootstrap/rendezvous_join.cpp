#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>

#include "base/log.hpp"
#include "bootstrap/rendezvous_messages.hpp"
#include "bootstrap/rendezvous_sides.hpp"

namespace longspan::bootstrap {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kFirstTry{250};   // how long one address may take to answer, at first
constexpr milliseconds kLongestTry{4000};
constexpr milliseconds kPause{20};       // between two rounds over all addresses
constexpr milliseconds kLongestPause{200};
// Rank 0 ends the rendezvous at the earliest deadline; its word needs time to arrive.
constexpr milliseconds kGrace{1500};

/// One rank looks for rank 0, introduces itself, and waits for the answer.
class Joiner {
 public:
  Joiner(MeetingPlace& place, RendezvousRequest request) : place_(place), request_(std::move(request)) {
    hello_.run_id = request_.launch.run_id;
    hello_.rank = request_.launch.rank;
    hello_.size = request_.launch.size;
    hello_.nonce = random_number();
    hello_.pid = static_cast<std::uint32_t>(::getpid());
    hello_.host = request_.host;
    hello_.payload = std::move(request_.payload);
  }

  Result<Rendezvous> run() {
    LONGSPAN_ASSIGN(listener_, listen_on_port_of(request_.ports));
    hello_.control_port = local_address(listener_.get()).port();
    milliseconds pause = kPause;
    milliseconds patience = kFirstTry;
    while (Clock::now() < request_.deadline) {
      auto met = try_once(patience);
      if (!met.ok()) return met.status();
      if (met->valid()) return await_all(std::move(*met));
      warn_once();
      ::poll(nullptr, 0, poll_timeout_ms(Clock::now(), std::min(request_.deadline, Clock::now() + pause)));
      pause = std::min(pause * 2, kLongestPause);
      patience = std::min(patience * 2, kLongestTry);
    }
    return Status(
        StatusCode::kTimeout,
        fmt::format("rank {} (host {}) did not reach rank 0 at {} within {:.1f} s: {}; is rank 0 running there, "
                    "and is the port open?",
                    hello_.rank, hello_.host, place_.describe(), seconds_since_start(), last_problem_));
  }

 private:
  double seconds_since_start() const { return std::chrono::duration<double>(Clock::now() - start_).count(); }

  /// The connection to rank 0; an invalid one: try again. A failure is final.
  Result<Stream> try_once(milliseconds patience) {
    auto addresses = place_.find(std::min(request_.deadline, Clock::now() + kLongestTry));
    if (!addresses.ok()) {
      last_problem_ = addresses.status().message();
      return Stream();
    }
    for (const SocketAddress& address : *addresses) {
      const TimePoint begin = Clock::now();
      auto connected = connect_to(address, std::min(request_.deadline, begin + patience));
      if (!connected.ok()) {
        last_problem_ = connected.status().message();
        continue;
      }
      // An answer takes a round trip, as the connection did, and a moment for rank 0 to look up.
      const TimePoint now = Clock::now();
      const Duration answer = std::max<Duration>(8 * (now - begin), 2 * patience);
      Stream stream = Stream::dialed(std::move(*connected), request_.guard.get(), introduction_to_rank_0(hello_));
      auto greeted = greet(stream, address, std::min(request_.deadline, now + answer));
      if (!greeted.ok()) return greeted.status();
      if (*greeted) return stream;
      LONGSPAN_TRY(judge_keys(address));
      place_.not_there(address, request_.deadline);
    }
    return Stream();
  }

  /// Whether it is time to give up over keys that do not fit.
  Status judge_keys(const SocketAddress& address) {
    if (key_problem_.empty()) return {};
    const TimePoint now = Clock::now();
    if (key_problem_since_ == TimePoint::max()) key_problem_since_ = now;
    if (keyless_refused_) introduce_without_key(address);
    if (now - key_problem_since_ < kKeyPatience && now < request_.deadline) return {};
    return Status(
        StatusCode::kMismatch,
        fmt::format("rank {} (host {}): {} (at {}); give the same LONGSPAN_KEY or LONGSPAN_KEY_FILE to all ranks",
                    hello_.rank, hello_.host, key_problem_, place_.describe()));
  }

  /// So that rank 0 can tell the others who has no key. Its answer says nothing new.
  void introduce_without_key(const SocketAddress& address) {
    const auto keyless = security::Guard::keyless();
    auto connected = connect_to(address, std::min(request_.deadline, Clock::now() + kLongestTry));
    if (keyless == nullptr || !connected.ok()) return;
    Stream stream = Stream::dialed(std::move(*connected), keyless.get(), introduction_to_rank_0(hello_, true));
    char byte = 0;
    const TimePoint until = std::min(request_.deadline, Clock::now() + kLongestTry);
    while (stream.receive(&byte, 1) < 0 && errno == EAGAIN && wait_ready(stream.fd(), POLLIN, until)) {
    }
  }

  /// What came of the proof of the key.
  bool note_key_problem(const Stream& stream) {
    if (stream.failure() == security::Failure::kOtherKey) key_problem_ = "its key differs from rank 0's";
    if (stream.failure() == security::Failure::kNoKey) key_problem_ = "it has the job's key and rank 0 has none";
    return stream.failure() == security::Failure::kOtherKey || stream.failure() == security::Failure::kNoKey;
  }

  /// True when rank 0 has counted this rank; false when what answers is not our rank 0.
  Result<bool> greet(Stream& stream, const SocketAddress& address, TimePoint until) {
    const auto left = std::chrono::duration_cast<milliseconds>(request_.deadline - Clock::now()).count();
    hello_.remaining_ms = static_cast<std::uint32_t>(std::clamp<std::int64_t>(left, 1, UINT32_MAX));
    key_problem_.clear();
    if (const Status sent = send_all(stream, encode(hello_), until); !sent.ok()) {
      note_key_problem(stream);
      last_problem_ =
          fmt::format("{}: what listens there did not answer as a rank 0 of longspan does ({})", address.to_string(),
                      sent.code() == StatusCode::kTimeout ? "no answer" : sent.message());
      return false;
    }
    reader_ = FrameReader(kMaxContext);
    auto frame = next_frame(stream, until);
    if (!frame.ok()) {
      note_key_problem(stream);
      last_problem_ = fmt::format("{}: what listens there did not answer as a rank 0 of longspan does ({})",
                                  address.to_string(), frame.status().message());
      return false;
    }
    switch (static_cast<RendezvousMessage>(frame->type)) {
      case RendezvousMessage::kWelcome: return true;
      case RendezvousMessage::kFailed: return decode_failure(frame->body);
      case RendezvousMessage::kKeyNeeded:
        key_problem_ = "rank 0 requires LONGSPAN_KEY and this rank has none";
        last_problem_ = fmt::format("{}: {}", address.to_string(), key_problem_);
        keyless_refused_ = true;
        return false;
      default: break;
    }
    last_problem_ = fmt::format("{} is rank 0 of another job", address.to_string());
    return false;
  }

  Result<Frame> next_frame(Stream& stream, TimePoint until) {
    while (true) {
      switch (reader_.read(stream)) {
        case FrameReader::State::kFrame: return reader_.take();
        case FrameReader::State::kMalformed: return Status(StatusCode::kInvalidArgument, "it speaks another protocol");
        case FrameReader::State::kClosed: return Status(StatusCode::kPeerLost, "it closed the connection");
        case FrameReader::State::kNeedMore: break;
      }
      if (!wait_ready(stream.fd(), POLLIN, until)) return Status(StatusCode::kTimeout, "no answer");
    }
  }

  Result<Rendezvous> await_all(Stream link) {
    auto frame = next_frame(link, request_.deadline + kGrace);
    if (!frame.ok()) {
      return Status(frame.status().code(),
                    fmt::format("rank {} (host {}) reached rank 0 at {}, but then {} before all ranks had come",
                                hello_.rank, hello_.host, place_.describe(), frame.status().message()));
    }
    if (frame->type == static_cast<std::uint16_t>(RendezvousMessage::kFailed)) return decode_failure(frame->body);
    if (frame->type != static_cast<std::uint16_t>(RendezvousMessage::kJoined)) {
      return Status(StatusCode::kInternal, fmt::format("rank 0 sent message {} in place of its answer", frame->type));
    }
    Rendezvous r;
    r.rank = hello_.rank;
    r.size = hello_.size;
    LONGSPAN_TRY(decode_joined(frame->body, r));
    r.links.to_rank.resize(1);
    r.links.to_rank[0] = std::move(link);
    r.links.guard = request_.guard;
    if (r.links.standby == r.rank) r.links.standby_listener = std::move(listener_);
    return r;
  }

  void warn_once() {
    if (warned_ || Clock::now() - start_ < std::chrono::seconds(5)) return;
    warned_ = true;
    log::warn("rank {} still waits for rank 0 at {}: {}", hello_.rank, place_.describe(), last_problem_);
  }

  MeetingPlace& place_;
  RendezvousRequest request_;
  Hello hello_;
  Fd listener_;
  FrameReader reader_{kMaxContext};
  TimePoint start_ = Clock::now();
  std::string last_problem_ = "the deadline passed at once";
  bool warned_ = false;
  std::string key_problem_;  // of the last attempt
  TimePoint key_problem_since_ = TimePoint::max();
  bool keyless_refused_ = false;
};

}  // namespace

Result<Rendezvous> join_ranks(MeetingPlace& place, RendezvousRequest request) {
  return Joiner(place, std::move(request)).run();
}

}  // namespace longspan::bootstrap
