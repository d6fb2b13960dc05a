#include "sim/core.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

namespace longspan::sim {
namespace {

/// A port that was not polled for this long in real time is out of the game: a rank that has finished, or computes.
constexpr std::chrono::milliseconds kQuiet{5};

}  // namespace

std::shared_ptr<Core> Core::of_job(std::uint64_t job) {
  static std::mutex mutex;
  static std::map<std::uint64_t, std::weak_ptr<Core>> cores;
  const std::lock_guard lock(mutex);
  auto core = cores[job].lock();
  if (core == nullptr) cores[job] = core = std::make_shared<Core>(job);
  return core;
}

// ---- links ----

Core::LinkState& Core::link(spi::PeerId from, spi::PeerId to) {
  LinkState& state = links_[{from, to}];
  if (!state.own) state.link = default_link_;
  return state;
}

void Core::set_default_link(const Link& value) {
  const std::lock_guard lock(mutex_);
  default_link_ = value;
}

void Core::set_link(spi::PeerId from, spi::PeerId to, const Link& value) {
  const std::lock_guard lock(mutex_);
  LinkState& state = links_[{from, to}];
  state.link = value;
  state.own = true;
}

LinkUse Core::use(spi::PeerId from, spi::PeerId to) {
  const std::lock_guard lock(mutex_);
  return links_[{from, to}].use;
}

Time Core::now() {
  const std::lock_guard lock(mutex_);
  return now_;
}

// ---- time ----

void Core::schedule(Time at, std::function<void()> run) { events_.push({at, events_made_++, std::move(run)}); }

void Core::run_due() {
  while (!events_.empty() && events_.top().at <= now_) {
    const auto run = events_.top().run;
    events_.pop();
    run();
  }
}

bool Core::all_idle() {
  const TimePoint real = Clock::now();
  return std::all_of(ports_.begin(), ports_.end(), [real](const auto& entry) {
    return entry.second->armed || real - entry.second->touched > kQuiet;
  });
}

void Core::advance() {
  run_due();
  while (!events_.empty() && all_idle()) {
    now_ = events_.top().at;
    run_due();
  }
}

void Core::push(Port& port, spi::Completion completion) {
  port.completions.push_back(std::move(completion));
  if (std::exchange(port.armed, false)) {
    // It has work from now on, also before its thread wakes: time must stand until then.
    port.touched = Clock::now();
    port.wake.set(port.touched);
  }
}

std::size_t Core::poll(Port& port, std::span<spi::Completion> completions) {
  const std::lock_guard lock(mutex_);
  if (std::exchange(port.armed, false)) port.wake.set(TimePoint::max());
  port.touched = Clock::now();
  run_due();
  std::size_t count = 0;
  while (count < completions.size() && !port.completions.empty()) {
    completions[count++] = std::move(port.completions.front());
    port.completions.pop_front();
  }
  return count;
}

bool Core::arm(Port& port) {
  const std::lock_guard lock(mutex_);
  run_due();
  if (!port.completions.empty()) return false;
  port.armed = true;
  // Wakes up by itself to look whether the others have gone quiet.
  port.wake.set(Clock::now() + kQuiet);
  advance();
  return true;
}

// ---- peers ----

Port* Core::find(spi::PeerId peer) {
  const auto found = ports_.find(peer);
  return found == ports_.end() ? nullptr : found->second;
}

End& Core::end(Port& port, spi::PeerId peer) {
  const auto [found, made] = port.ends.try_emplace(peer);
  if (made) found->second.peer_name = fmt::format("peer {:x}", peer);
  return found->second;
}

Status Core::enter(Port& port) {
  const std::lock_guard lock(mutex_);
  port.touched = Clock::now();
  if (ports_.try_emplace(port.self, &port).second) return {};
  return Status(StatusCode::kInvalidArgument, fmt::format("sim: peer {:x} is already in job {:x}", port.self, job_));
}

void Core::leave(Port& port, bool goodbye) {
  const std::lock_guard lock(mutex_);
  if (ports_.erase(port.self) == 0) return;
  for (auto& [peer, end] : port.ends) {
    if (goodbye) {  // flushed: what waits to leave is the network's from now on
      for (const MessagePtr& message : std::vector(end.unsent)) {
        message->bytes.assign(message->source.begin(), message->source.end());
        message->source = message->bytes;
        push(port, {spi::CompletionKind::kSend, std::exchange(message->context, nullptr), peer, message->id, 0,
                    message->bytes.size(), nullptr, 0, {}});
      }
    } else {
      for (const MessagePtr& message : end.unsent) message->dropped = true;
    }
    const LinkState& way = link(port.self, peer);
    Time at = now_ + way.link.latency;
    if (goodbye) at = std::max({at, way.busy_until + way.link.latency, way.last_arrival});
    schedule(at, [this, gone_from = peer, self = port.self, goodbye] { peer_left(gone_from, self, goodbye); });
    end.over = true;
    end.why = Status(StatusCode::kAborted, "sim: the endpoint was closed");
    end.unsent.clear();
    fail_operations(port, peer, end);
  }
  advance();
}

void Core::peer_left(spi::PeerId self, spi::PeerId peer, bool goodbye) {
  Port* const port = find(self);
  if (port == nullptr) return;
  const auto found = port->ends.find(peer);
  if (found == port->ends.end() || found->second.over) return;
  End& end = found->second;
  end.over = true;
  end.why = Status(StatusCode::kPeerLost, fmt::format("{} {}", end.peer_name,
                                                      goodbye ? "has said goodbye" : "ended without a goodbye"));
  if (!goodbye) push(*port, {spi::CompletionKind::kBroken, nullptr, peer, {}, 0, 0, nullptr, 0, end.why});
  for (const MessagePtr& message : end.unsent) {
    message->dropped = true;
    if (message->context == nullptr) continue;
    push(*port, {spi::CompletionKind::kSend, message->context, peer, message->id, 0, 0, nullptr, 0, end.why});
  }
  end.unsent.clear();
  fail_operations(*port, peer, end);
  if (goodbye) push(*port, {spi::CompletionKind::kClosed, nullptr, peer, {}, 0, 0, nullptr, 0, {}});
}

void Core::fail_operations(Port& port, spi::PeerId peer, End& end) {
  for (const auto& [id, request] : end.posted) {
    push(port, {spi::CompletionKind::kRecv, request.context, peer, id, 0, 0, nullptr, 0, end.why});
  }
  end.posted.clear();
}

void Core::connect(Port& port, spi::PeerId peer, const spi::ChannelOptions& options) {
  const std::lock_guard lock(mutex_);
  End& mine = end(port, peer);
  if (!options.peer_name.empty()) mine.peer_name = options.peer_name;
  mine.rate = options.rate_bytes_per_second;
  if (mine.over) return;
  if (Port* const other = find(peer)) {
    end(*other, port.self);  // so that it hears of our end
    return;
  }
  // Addresses come from open endpoints, so it was there once.
  mine.over = true;
  mine.why =
      Status(StatusCode::kPeerLost, fmt::format("{} has left job {:x}: it cannot be reached", mine.peer_name, job_));
  push(port, {spi::CompletionKind::kBroken, nullptr, peer, {}, 0, 0, nullptr, 0, mine.why});
}

// ---- messages ----

void Core::send(Port& port, spi::PeerId peer, const spi::SendRequest& request) {
  const std::lock_guard lock(mutex_);
  port.forgotten.erase(request.id.comm);
  End& mine = end(port, peer);
  if (mine.over) {
    if (request.context == nullptr) return;
    return push(port, {spi::CompletionKind::kSend, request.context, peer, request.id, 0, 0, nullptr, 0, mine.why});
  }
  auto message = std::make_shared<Message>();
  message->from = port.self;
  message->to = peer;
  message->id = request.id;
  message->digest = request.digest;
  message->source = request.data;
  message->context = request.context;
  mine.unsent.push_back(message);
  LinkState& way = link(port.self, peer);
  double rate = way.link.bytes_per_second;
  if (mine.rate > 0 && (rate <= 0 || mine.rate < rate)) rate = mine.rate;
  const Time transmission(rate > 0 ? static_cast<std::int64_t>(static_cast<double>(request.data.size()) / rate * 1e9)
                                   : 0);
  way.busy_until = std::max(now_, way.busy_until) + transmission;
  Time arrival = way.busy_until + way.link.latency;
  ++way.use.messages;
  way.use.bytes += request.data.size();
  while (std::uniform_real_distribution<>()(random_) < way.link.loss) {
    ++way.use.lost;
    ++mine.stats.retransmits;
    arrival += 2 * way.link.latency + way.link.retransmission;
  }
  way.last_arrival = std::max(way.last_arrival, arrival);
  mine.stats.min_rtt = mine.stats.rtt = 2 * way.link.latency;
  schedule(way.busy_until, [this, message] { message_left(message); });
  schedule(arrival, [this, message] { message_arrived(message); });
}

void Core::message_left(const MessagePtr& message) {
  message->left = true;
  if (message->dropped) return;
  if (message->source.data() != message->bytes.data() || message->bytes.empty()) {
    message->bytes.assign(message->source.begin(), message->source.end());
  }
  Port* const port = find(message->from);
  if (port == nullptr) return;
  End& mine = end(*port, message->to);
  std::erase(mine.unsent, message);
  mine.stats.bytes_sent += message->bytes.size();
  ++mine.stats.messages_sent;
  if (message->context == nullptr) return;
  push(*port, {spi::CompletionKind::kSend,
               message->context,
               message->to,
               message->id,
               0,
               message->bytes.size(),
               nullptr,
               0,
               {}});
}

void Core::message_arrived(const MessagePtr& message) {
  Port* const port = find(message->to);
  if (port == nullptr || message->dropped || port->forgotten.contains(message->id.comm)) return;
  End& mine = end(*port, message->from);
  if (mine.over) return;
  mine.stats.bytes_received += message->bytes.size();
  if (const auto posted = mine.posted.find(message->id); posted != mine.posted.end()) {
    match(*port, mine, *message, posted->second);
    mine.posted.erase(posted);
    return;
  }
  mine.stats.eager_bytes += message->bytes.size();
  mine.arrived.emplace(message->id, message);
  push(*port, {spi::CompletionKind::kArrival, nullptr, message->from, message->id, message->digest,
               message->bytes.size(), nullptr, 0, {}});
}

void Core::match(Port& port, End& mine, const Message& message, const spi::RecvRequest& request) {
  const std::size_t size = message.bytes.size();
  const spi::Match match{message.digest, size, request.digest, request.data.size(), request.any_length};
  if (match.ok()) {
    if (size > 0) std::memcpy(request.data.data(), message.bytes.data(), size);
    ++mine.stats.messages_received;
  }
  push(port, {spi::CompletionKind::kRecv, request.context, message.from, message.id, message.digest, size, nullptr, 0,
              match.ok() ? Status() : spi::mismatch(message.id, mine.peer_name, match)});
}

void Core::post(Port& port, spi::PeerId peer, const spi::RecvRequest& request) {
  const std::lock_guard lock(mutex_);
  port.forgotten.erase(request.id.comm);
  End& mine = end(port, peer);
  if (const auto arrived = mine.arrived.find(request.id); arrived != mine.arrived.end()) {
    match(port, mine, *arrived->second, request);
    mine.arrived.erase(arrived);
  } else if (mine.over) {
    push(port, {spi::CompletionKind::kRecv, request.context, peer, request.id, 0, 0, nullptr, 0, mine.why});
  } else {
    mine.posted.emplace(request.id, request);
  }
}

void Core::set_rate(Port& port, spi::PeerId peer, double bytes_per_second) {
  const std::lock_guard lock(mutex_);
  end(port, peer).rate = bytes_per_second;
}

spi::ChannelStats Core::stats(Port& port, spi::PeerId peer) {
  const std::lock_guard lock(mutex_);
  return end(port, peer).stats;
}

void Core::forget(Port& port, std::uint64_t comm) {
  const std::lock_guard lock(mutex_);
  port.forgotten.insert(comm);
  for (auto& [peer, end] : port.ends) {
    std::erase_if(end.posted, [comm](const auto& entry) { return entry.first.comm == comm; });
    std::erase_if(end.arrived, [comm](const auto& entry) { return entry.first.comm == comm; });
    std::erase_if(end.unsent, [comm](const MessagePtr& message) {
      if (message->id.comm == comm) message->dropped = true;
      return message->id.comm == comm;
    });
  }
  std::erase_if(port.completions, [comm](const spi::Completion& completion) { return completion.is_of(comm); });
}

}  // namespace longspan::sim
