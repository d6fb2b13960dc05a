#include <fmt/format.h>
#include <poll.h>

#include <algorithm>
#include <map>
#include <optional>

#include "base/log.hpp"
#include "bootstrap/rendezvous_messages.hpp"
#include "bootstrap/rendezvous_sides.hpp"

namespace longspan::bootstrap {
namespace {

using std::chrono::milliseconds;

constexpr std::chrono::seconds kStrangerLimit{5};   // for a connection to prove the key and say who it is
constexpr std::size_t kMaxStrangers = 256;          // open at once; the oldest goes first
constexpr std::chrono::seconds kReturn{2};         // for a rank that came and is gone to try again
constexpr milliseconds kFarewell{1000};             // to hand out the news of a failure

/// A rank that came, or somebody who has not said yet.
struct Guest {
  Stream stream;
  FrameReader reader{kMaxHello};
  FrameWriter writer;
  std::string from;
  SocketAddress address;
  TimePoint since;
  std::optional<Hello> hello;
  std::optional<TimePoint> ended;  ///< the connection of a rank that had come
  bool gone = false;
};

/// Who introduced itself as a rank of ours but did not prove the key.
struct Claim {
  TimePoint since;
  security::Introduction who;
  std::string from;
};

/// Rank 0 waits for all ranks, then gives everyone the answer.
class Gatherer {
 public:
  Gatherer(MeetingPlace& place, RendezvousRequest request)
      : place_(place), request_(std::move(request)), size_(request_.launch.size), deadline_(request_.deadline) {}

  Result<Rendezvous> run() {
    LONGSPAN_ASSIGN(listener_, place_.open(deadline_));
    ranks_.resize(static_cast<std::size_t>(size_));
    const Status came = wait_for_all();
    if (!came.ok()) (void)fail(came);
    if (!came.ok() && came.code() != StatusCode::kTimeout) tell_late_ranks(came);
    place_.close();
    // Before the answer goes out: a rank that has it may at once look for the next rendezvous on this port.
    listener_.reset();
    strangers_.clear();
    if (dropped_ > 0) {
      log::info("rendezvous: {} connections were not ours and were turned away; the last: {}", dropped_, last_dropped_);
    }
    if (!came.ok()) return came;
    Rendezvous r = collect();
    if (request_.make_context) {
      auto context = request_.make_context(r.payloads);
      if (!context.ok()) return fail(context.status());
      r.context = std::move(*context);
    }
    choose_standby(r);
    broadcast(encode_joined(r));
    if (const Status sent = flush_all(std::max(deadline_, Clock::now() + kFarewell)); !sent.ok()) return fail(sent);
    for (std::size_t i = 0; i < ranks_.size(); ++i) {
      r.links.to_rank.push_back(i == 0 ? Stream() : std::move(ranks_[i]->stream));
    }
    r.links.guard = request_.guard;
    return r;
  }

 private:
  Status wait_for_all() {
    while (count_present() < size_) {
      if (Clock::now() >= deadline_) return missing();
      wait_for_news(deadline_);
      accept_all();
      LONGSPAN_TRY(hear_strangers());
      LONGSPAN_TRY(hear_claims());
      LONGSPAN_TRY(hear_ranks());
    }
    return {};
  }

  void wait_for_news(TimePoint until) {
    std::vector<pollfd> polls = {{listener_.get(), POLLIN, 0}};
    for (const auto& g : strangers_) polls.push_back({g->stream.fd(), POLLIN, 0});
    for (const auto& g : ranks_) {
      if (!g || g->ended) continue;
      polls.push_back({g->stream.fd(), static_cast<short>(g->writer.empty() ? POLLIN : POLLIN | POLLOUT), 0});
    }
    ::poll(polls.data(), polls.size(), poll_timeout_ms(Clock::now(), until, 500));
  }

  /// Ranks that start a little later than the one that spoils it all would else look for rank 0 until their deadline.
  void tell_late_ranks(const Status& why) {
    failed_ = why;
    const int late = size_ - count_present();
    for (auto& guest : ranks_) guest.reset();
    for (const TimePoint until = Clock::now() + kFarewell; late > told_ && Clock::now() < until;) {
      wait_for_news(until);
      accept_all();
      (void)hear_strangers();
    }
  }

  int count_present() const {
    return 1 +
           static_cast<int>(std::count_if(ranks_.begin(), ranks_.end(), [](const auto& g) { return g && !g->ended; }));
  }

  void accept_all() {
    while (true) {
      auto guest = std::make_unique<Guest>();
      Fd fd = accept_next(listener_.get());
      if (!fd.valid()) return;
      guest->stream = Stream::accepted(std::move(fd), request_.guard.get());
      guest->address = peer_address(guest->stream.fd());
      guest->from = guest->address.to_string();
      guest->since = Clock::now();
      strangers_.push_back(std::move(guest));
      if (strangers_.size() > kMaxStrangers) {
        drop(*strangers_.front(), "too many connections that do not say who they are");
        strangers_.erase(strangers_.begin());
      }
    }
  }

  void drop(Guest& guest, std::string_view why) {
    ++dropped_;
    last_dropped_ = fmt::format("{} ({})", guest.from, why);
    log::debug("rendezvous: dropped {}", last_dropped_);
    guest.gone = true;
  }

  /// A connection that ended, or did not prove the job's key.
  void part_with(Guest& guest) {
    const security::Failure failure = guest.stream.failure();
    if (failure == security::Failure::kNone) return drop(guest, "closed before it said who it is");
    guest.stream.tell_of_key();
    drop(guest, security::describe(failure));
    const security::Introduction* who = guest.stream.introduction();
    if (failure != security::Failure::kOtherKey || who == nullptr) return;
    const int rank = claimed_rank(*who, request_.launch.run_id, size_);
    if (rank > 0) claims_.try_emplace(rank, Claim{Clock::now(), *who, guest.from});
  }

  /// A rank without the right key will not come, and the others need not wait for it until their deadline. What it said
  /// of itself is only a claim: it counts when that rank has not come for a while after it.
  Status hear_claims() const {
    for (const auto& [rank, claim] : claims_) {
      const auto& present = ranks_[static_cast<std::size_t>(rank)];
      if (present || Clock::now() - claim.since < kKeyPatience) continue;
      const std::string who = fmt::format("rank {} (host {}, from {})", rank, claim.who.host, claim.from);
      const char* const all = "give the same LONGSPAN_KEY or LONGSPAN_KEY_FILE to all ranks";
      if (request_.guard == nullptr) {
        return Status(
            StatusCode::kMismatch,
            fmt::format("{} has the job's key and rank 0 (host {}) has none: {}, or to none", who, request_.host, all));
      }
      const bool keyless = claim.who.purpose == kKeylessPurpose;
      return Status(StatusCode::kMismatch,
                    keyless ? fmt::format("rank 0 requires LONGSPAN_KEY and {} has none: {}", who, all)
                            : fmt::format("the key of {} differs from rank 0's: {}", who, all));
    }
    return {};
  }

  Status hear_strangers() {
    Status outcome;
    for (auto& guest : strangers_) {
      switch (guest->reader.read(guest->stream)) {
        case FrameReader::State::kNeedMore:
          if (Clock::now() - guest->since > kStrangerLimit) drop(*guest, "said nothing");
          break;
        case FrameReader::State::kClosed: part_with(*guest); break;
        case FrameReader::State::kMalformed: drop(*guest, "speaks another protocol"); break;
        case FrameReader::State::kFrame:
          if (Status met = meet(guest); !met.ok()) outcome = std::move(met);
          break;
      }
    }
    std::erase_if(strangers_, [](const auto& g) { return g == nullptr || g->gone; });
    return outcome;
  }

  /// A failure ends the rendezvous for all.
  Status meet(std::unique_ptr<Guest>& guest) {
    const Frame frame = guest->reader.take();
    auto hello = decode_hello(frame);
    if (!hello.ok()) {
      drop(*guest, hello.status().message());
      return {};
    }
    // What was proved with the key is who it is; anything else in its words is somebody else's.
    if (request_.guard != nullptr && guest->stream.introduction()->from != std::to_string(hello->rank)) {
      drop(*guest, "it is not the rank that it introduced itself as");
      return {};
    }
    if (hello->run_id != request_.launch.run_id) {
      guest->writer.push(make_frame(static_cast<std::uint16_t>(RendezvousMessage::kRetry), ""));
      guest->writer.flush(guest->stream);
      drop(*guest, fmt::format("rank {} of another job, run id '{}'", hello->rank, hello->run_id));
      return {};
    }
    Status fits = failed_.ok() ? check(*hello, frame.version, *guest) : failed_;
    if (!fits.ok()) {
      if (!failed_.ok()) ++told_;
      guest->writer.push(encode_failure(fits));
      guest->writer.flush(guest->stream);
      guest->gone = true;
      return fits;
    }
    deadline_ = std::min(deadline_, Clock::now() + milliseconds(hello->remaining_ms));
    guest->hello = std::move(*hello);
    guest->writer.push(make_frame(static_cast<std::uint16_t>(RendezvousMessage::kWelcome), ""));
    guest->writer.flush(guest->stream);
    ranks_[static_cast<std::size_t>(guest->hello->rank)] = std::move(guest);
    return {};
  }

  Status check(const Hello& hello, std::uint16_t version, const Guest& guest) const {
    const auto who =
        fmt::format("rank {} (host {}, process {}, from {})", hello.rank, hello.host, hello.pid, guest.from);
    if (version != kProtocolVersion) {
      return Status(
          StatusCode::kMismatch,
          fmt::format("rank {} (from {}) speaks version {} of longspan's protocol, rank 0 version {}: install the "
                      "same longspan everywhere",
                      hello.rank, guest.from, version, kProtocolVersion));
    }
    if (hello.size != size_) {
      return Status(StatusCode::kMismatch,
                    fmt::format("{} was started with WORLD_SIZE={}, rank 0 (host {}) with {}", who, hello.size,
                                request_.host, size_));
    }
    if (hello.rank < 0 || hello.rank >= size_) {
      return Status(StatusCode::kInvalidArgument, fmt::format("{} is not in 0..{}", who, size_ - 1));
    }
    if (hello.rank == 0) return Status(StatusCode::kMismatch, twice(0, request_.host, who));
    const auto& present = ranks_[static_cast<std::size_t>(hello.rank)];
    if (present && present->hello->nonce != hello.nonce) {
      const Hello& first = *present->hello;
      return Status(
          StatusCode::kMismatch,
          twice(hello.rank, fmt::format("{}, process {}, from {}", first.host, first.pid, present->from), who));
    }
    return {};
  }

  static std::string twice(int rank, std::string_view first, std::string_view second) {
    return fmt::format("two processes claim to be rank {}: the one on host {}, and {}", rank, first, second);
  }

  Status hear_ranks() {
    for (auto& guest : ranks_) {
      if (!guest) continue;
      if (!guest->ended) {
        guest->writer.flush(guest->stream);
        if (guest->reader.read(guest->stream) != FrameReader::State::kNeedMore) guest->ended = Clock::now();
      }
      if (!guest->ended || Clock::now() - *guest->ended < kReturn) continue;
      const auto who = fmt::format("rank {} (host {})", guest->hello->rank, guest->hello->host);
      guest.reset();
      return Status(StatusCode::kPeerLost,
                    fmt::format("{} came and ended before all ranks had come; {}", who, who_came()));
    }
    return {};
  }

  std::string who_came() const {
    std::vector<int> present = {0};
    std::vector<int> absent;
    for (int i = 1; i < size_; ++i) {
      const auto& guest = ranks_[static_cast<std::size_t>(i)];
      (guest && !guest->ended ? present : absent).push_back(i);
    }
    return fmt::format("of {} ranks, {} came: {}; missing: {}", size_, present.size(), describe_ranks(present),
                       describe_ranks(absent));
  }

  Status missing() const {
    const double waited = std::chrono::duration<double>(Clock::now() - start_).count();
    std::string text = fmt::format(
        "rendezvous at {}: {}, after {:.1f} s; start the missing ranks with this address, and see "
        "that their hosts reach it",
        place_.describe(), who_came(), waited);
    if (dropped_ > 0) text += fmt::format(" ({} connections were not ours; the last: {})", dropped_, last_dropped_);
    return Status(StatusCode::kTimeout, std::move(text));
  }

  Rendezvous collect() {
    Rendezvous r;
    r.size = size_;
    r.job = random_number();
    r.hosts.push_back(request_.host);
    r.payloads.push_back(std::move(request_.payload));
    for (std::size_t i = 1; i < ranks_.size(); ++i) {
      r.hosts.push_back(ranks_[i]->hello->host);
      r.payloads.push_back(std::move(ranks_[i]->hello->payload));
    }
    return r;
  }

  /// The first rank on another host, so that one machine's end takes only one of the two; and one that others can
  /// reach.
  void choose_standby(Rendezvous& r) const {
    if (size_ <= 2) return;
    const auto score = [&](int rank) {
      const Guest& g = *ranks_[static_cast<std::size_t>(rank)];
      return (g.address.loopback() ? 0 : 2) + (g.hello->host != request_.host ? 1 : 0);
    };
    int best = 1;
    for (int i = 2; i < size_; ++i) {
      if (score(i) > score(best)) best = i;
    }
    const Guest& g = *ranks_[static_cast<std::size_t>(best)];
    SocketAddress at = g.address;
    if (at.family() == AF_UNIX) at = *make_address("127.0.0.1", 0);
    at.set_port(g.hello->control_port);
    r.links.standby = best;
    r.links.standby_at.push_back(at);
  }

  void broadcast(std::string frame) {
    const auto shared = std::make_shared<const std::string>(std::move(frame));
    for (auto& guest : ranks_) {
      if (guest) guest->writer.push(shared);
    }
  }

  Status flush_all(TimePoint until) {
    while (true) {
      std::vector<pollfd> polls;
      for (auto& guest : ranks_) {
        if (!guest || guest->writer.empty()) continue;
        if (!guest->writer.flush(guest->stream)) {
          guest->writer = FrameWriter();
          const auto who = fmt::format("rank {} (host {})", guest->hello->rank, guest->hello->host);
          return Status(StatusCode::kPeerLost, fmt::format("{} ended before it had rank 0's answer", who));
        }
        if (!guest->writer.empty()) polls.push_back({guest->stream.fd(), POLLOUT, 0});
      }
      if (polls.empty()) return {};
      if (Clock::now() >= until) {
        return Status(StatusCode::kTimeout, "rank 0's answer could not be sent to all ranks in time");
      }
      ::poll(polls.data(), polls.size(), poll_timeout_ms(Clock::now(), until));
    }
  }

  /// Tells every rank that came why this ends, and returns it.
  Status fail(const Status& why) {
    broadcast(encode_failure(why));
    const TimePoint until = Clock::now() + kFarewell;
    while (!flush_all(until).ok() && Clock::now() < until) {
    }
    return why;
  }

  MeetingPlace& place_;
  RendezvousRequest request_;
  int size_;
  TimePoint deadline_;
  TimePoint start_ = Clock::now();
  Fd listener_;
  std::vector<std::unique_ptr<Guest>> strangers_;
  std::vector<std::unique_ptr<Guest>> ranks_;  // [0] stays empty
  Status failed_;  // what latecomers are told
  int told_ = 0;
  std::map<int, Claim> claims_;  // by rank
  std::size_t dropped_ = 0;
  std::string last_dropped_;
};

}  // namespace

Result<Rendezvous> gather_ranks(MeetingPlace& place, RendezvousRequest request) {
  return Gatherer(place, std::move(request)).run();
}

}  // namespace longspan::bootstrap
