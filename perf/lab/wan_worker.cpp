#include "lab/wan_worker.hpp"

#include <fmt/format.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace longspan::lab {
namespace {

/// Packets are looked at this often while they flow: the most that a delay is wrong by on a machine that keeps up.
/// Waking for each packet at 1 Gbit/s took 14 % more of a core, which belongs to the ranks.
constexpr Duration kRound = std::chrono::microseconds(200);
/// One port may not keep the others waiting, nor what is due: reading a train of 64 KiB takes about 20 us.
constexpr std::size_t kReadsPerRound = 16;
constexpr std::size_t kMostPieces = 64;
/// Later than that, and what waits is taken to have come while nobody looked. A round of work takes less.
constexpr Duration kStall = std::chrono::milliseconds(1);
/// What is read at once after a stall: more trains than the kernel keeps for us.
constexpr std::size_t kMostAfterStall = 4096;
constexpr int kRealtimePriority = 20;
/// Of each such period, the share that the thread may have. A long period, because the kernel looks at the time used
/// only at its ticks (4 ms here): with a period of 1 ms, a thread that was busy across one tick had used up five
/// periods and was kept waiting for 5 ms.
constexpr Duration kDeadlinePeriod = std::chrono::milliseconds(100);
constexpr Duration kDeadlineRuntime = std::chrono::milliseconds(90);

timespec to_timespec(Duration duration) {
  const auto whole = std::chrono::duration_cast<std::chrono::seconds>(duration);
  return {static_cast<time_t>(whole.count()), static_cast<long>((duration - whole).count())};
}

/// struct sched_attr; glibc has neither it nor its call before 2.41.
struct SchedulingAttributes {
  std::uint32_t size = sizeof(SchedulingAttributes);
  std::uint32_t policy = 0;
  std::uint64_t flags = 0;
  std::int32_t nice = 0;
  std::uint32_t priority = 0;
  std::uint64_t runtime = 0;
  std::uint64_t deadline = 0;
  std::uint64_t period = 0;
};

bool set_scheduling(std::uint32_t policy) {
  constexpr std::uint64_t kResetOnFork = 1;  // nothing that this thread might start inherits the priority
  SchedulingAttributes attributes;
  attributes.policy = policy;
  attributes.flags = kResetOnFork;
  if (policy == SCHED_FIFO) {
    attributes.priority = kRealtimePriority;
  } else {
    attributes.runtime = static_cast<std::uint64_t>(kDeadlineRuntime.count());
    attributes.deadline = attributes.period = static_cast<std::uint64_t>(kDeadlinePeriod.count());
  }
  return ::syscall(SYS_sched_setattr, 0, &attributes, 0U) == 0;
}

/// Room for what is in flight and a part of the queue: it is rarely full, and more is found when it is.
std::size_t expected_bytes(const std::vector<WanRoute>& routes) {
  double bytes = 0;
  for (const WanRoute& route : routes) {
    const LinkSettings& link = route.link.settings();
    const double in_flight = link.rate.bytes_per_second * std::chrono::duration<double>(link.delay).count();
    bytes += 1.5 * in_flight + static_cast<double>(link.buffer_bytes) / 8;
  }
  return static_cast<std::size_t>(bytes);
}

}  // namespace

WanWorker::WanWorker(const RegionLookup& lookup, const std::vector<PacketPort*>& ports,
                     std::vector<WanRoute> routes, bool realtime)
    : lookup_(lookup),
      memory_(expected_bytes(routes)),
      routes_(std::move(routes)),
      realtime_(realtime) {
  for (PacketPort* const port : ports) sources_.push_back({port});
}

WanWorker::~WanWorker() { stop(); }

Status WanWorker::start() {
  epoll_.reset(::epoll_create1(EPOLL_CLOEXEC));
  wake_.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!epoll_ || !wake_) return system_error("epoll_create1 or eventfd", errno);
  std::vector<int> fds{wake_.get()};
  for (const Source& source : sources_) fds.push_back(source.port->fd());
  for (const int fd : fds) {
    epoll_event event{};
    event.events = EPOLLIN;
    if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) return system_error("epoll_ctl", errno);
  }
  thread_ = std::thread([this] { run(); });
  return {};
}

void WanWorker::wake() {
  const std::uint64_t one = 1;
  (void)!::write(wake_.get(), &one, sizeof one);
}

void WanWorker::start_changes(TimePoint origin) {
  origin_ns_.store(origin.time_since_epoch().count());
  wake();
}

void WanWorker::stop() {
  if (!thread_.joinable()) return;
  stopping_.store(true);
  wake();
  thread_.join();
}

void WanWorker::take_realtime_priority() {
  // Timers of ordinary threads may be 50 us late by design.
  ::prctl(PR_SET_TIMERSLACK, 1);
  report_.scheduling = "no real-time priority";
  if (!realtime_) return;
  // A deadline, because a FIFO thread that is busy for long can be stopped for 50 ms in favour of ordinary ones.
  constexpr std::uint32_t kDeadlinePolicy = 6;
  for (const auto& [policy, name] :
       {std::pair(kDeadlinePolicy, "SCHED_DEADLINE"), std::pair(std::uint32_t{SCHED_FIFO}, "SCHED_FIFO")}) {
    if (!set_scheduling(policy)) continue;
    report_.scheduling = name;
    return;
  }
  const int reason = errno;
  ::setpriority(PRIO_PROCESS, 0, -20);
  report_.warnings.push_back(
      fmt::format("{}: busy ranks may make packets late (allow it with CAP_SYS_NICE or "
                  "`ulimit -r {}`; sysctl kernel.sched_rt_runtime_us must not be 0)",
                  system_error("SCHED_FIFO was refused", reason).message(), kRealtimePriority));
}

void WanWorker::run() {
  take_realtime_priority();
  const TimePoint started = Clock::now();
  TimePoint expected = started;
  while (!stopping_.load(std::memory_order_relaxed)) {
    const TimePoint now = Clock::now();
    apply_changes(now);
    const Arrivals arrivals = read_ports(std::min(expected, now));
    deliver(Clock::now());
    expected = now;
    if (arrivals == Arrivals::kMore) continue;
    const TimePoint round = now + kRound;
    if (arrivals == Arrivals::kSome) {
      // More will come at once: sleeping a fixed round instead of waking for each packet leaves the cores to the ranks.
      const timespec until = to_timespec(round.time_since_epoch());
      while (::clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, nullptr) == EINTR) {
      }
      expected = round;
    } else {
      expected = std::min(std::max(next_due(), round), next_change());
      wait_for_packets(expected);
    }
  }
  timespec used{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
  const auto cpu = std::chrono::seconds(used.tv_sec) + std::chrono::nanoseconds(used.tv_nsec);
  report_.core_share = std::chrono::duration<double>(cpu) / std::chrono::duration<double>(Clock::now() - started);
}

void WanWorker::wait_for_packets(TimePoint until) {
  epoll_event event{};
  if (until == TimePoint::max()) {
    (void)::epoll_wait(epoll_.get(), &event, 1, -1);
  } else {
    const timespec left = to_timespec(std::max(Duration{0}, until - Clock::now()));
    (void)::epoll_pwait2(epoll_.get(), &event, 1, &left, nullptr);
  }
  std::uint64_t ignored = 0;
  (void)!::read(wake_.get(), &ignored, sizeof ignored);
}

WanWorker::Arrivals WanWorker::read_ports(TimePoint expected) {
  Arrivals arrivals = Arrivals::kNone;
  Duration stall{0};
  for (Source& source : sources_) {
    arrivals = std::max(arrivals, read_port(source, std::max(expected, source.read), &stall));
  }
  if (stall > kStall) report_.stalls.add(stall);
  return arrivals;
}

WanWorker::Arrivals WanWorker::read_port(Source& source, TimePoint expected, Duration* stall) {
  std::size_t most = kReadsPerRound;
  source.read = Clock::now();
  while (waiting_.size() < most) {
    TrainMemory::Block& block = memory_.next();
    const std::size_t length = source.port->receive(block.bytes());
    source.read = Clock::now();
    if (source.read - expected > kStall) most = kMostAfterStall;
    if (length == 0) break;
    waiting_.add(block, length);
    // What is due goes on meanwhile.
    if (waiting_.size() % kReadsPerRound == 0) deliver(source.read);
  }
  const Duration late = source.read - expected;
  *stall = std::max(*stall, late);
  if (waiting_.empty()) return Arrivals::kNone;
  const Arrivals arrivals = waiting_.size() < most ? Arrivals::kSome : Arrivals::kMore;
  const bool stalled = late > kStall;
  waiting_.spread(stalled ? expected : source.read, source.read,
                  [&](TrainMemory::Block& block, std::size_t length, TimePoint instant) {
                    offer(*source.port, block, length, instant, stalled ? Duration{0} : std::max(late, Duration{0}));
                  });
  return arrivals;
}

void WanWorker::offer(PacketPort& port, TrainMemory::Block& block, std::size_t length, TimePoint instant,
                      Duration lateness) {
  const auto frame = std::span<const std::byte>(block.bytes()).first(length);
  const auto train = PacketTrain::parse(frame, port.framing());
  const int to = train && port.framing() == Framing::kIp
                     ? lookup_.destination_region(frame.subspan(PacketTrain::kPrefix))
                     : WanRoute::kAnywhere;
  const auto is_for = [&port, to](const WanRoute& route) { return route.from == &port && route.to_region == to; };
  const auto route = train ? std::find_if(routes_.begin(), routes_.end(), is_for) : routes_.end();
  if (route == routes_.end()) {
    ++report_.unroutable_packets;
    return;
  }
  route->link.offer(*train, instant, lateness, &block);
}

void WanWorker::deliver(TimePoint now) {
  for (WanRoute& route : routes_) {
    while (route.link.next_due() <= now) deliver_front(route.link, *route.to, now);
  }
}

void WanWorker::add_piece(std::span<const std::byte> bytes) {
  if (bytes.empty()) return;
  auto* const start = const_cast<std::byte*>(bytes.data());  // iovec has no const
  // The parts of a train that stayed where it was read follow each other there.
  if (!pieces_.empty() && static_cast<std::byte*>(pieces_.back().iov_base) + pieces_.back().iov_len == start) {
    pieces_.back().iov_len += bytes.size();
  } else {
    pieces_.push_back({start, bytes.size()});
  }
}

void WanWorker::deliver_front(EmulatedLink& link, PacketPort& port, TimePoint now) {
  PacketRecord& first = link.front();
  const PacketRecord* last = &first;
  std::uint32_t packets = 0;
  std::size_t more = 0;
  pieces_.clear();
  // A record's bytes stay where they are after pop_delivered(), until the next packet is read.
  do {
    PacketRecord& record = link.front();
    report_.lateness.add_together(Clock::now() - record.due + record.read_lateness, record.packets,
                                  record.serialisation);
    const bool starts = pieces_.empty();
    const auto bytes =
        starts ? record.bytes() : record.bytes().subspan(std::size_t{record.layout.prefix} + record.layout.headers);
    add_piece(bytes);
    add_piece(record.elsewhere);
    more += (starts ? 0 : bytes.size()) + record.elsewhere.size();
    packets += record.packets;
    last = &record;
    link.pop_delivered();
    // What is due of the same train goes in one call: whoever is late catches up.
  } while (link.next_due() <= now && link.front().continues && pieces_.size() < kMostPieces);
  if (last != &first) PacketTrain::join(first.layout, first.bytes(), more, last->bytes());
  if (!port.send(pieces_)) report_.refused_packets += packets;
}

TimePoint WanWorker::next_due() {
  TimePoint next = TimePoint::max();
  for (WanRoute& route : routes_) next = std::min(next, route.link.next_due());
  return next;
}

TimePoint WanWorker::next_change() const {
  const std::int64_t origin = origin_ns_.load(std::memory_order_relaxed);
  if (origin < 0 || changes_.empty()) return TimePoint::max();
  return TimePoint(Duration(origin)) + changes_.front().at;
}

void WanWorker::apply_changes(TimePoint now) {
  while (next_change() <= now) {
    const LinkChange change = changes_.front();
    changes_.pop_front();
    const auto route = std::find_if(routes_.begin(), routes_.end(),
                                    [&change](const WanRoute& candidate) { return candidate.number == change.link; });
    if (route == routes_.end()) continue;
    EmulatedLink& link = route->link;
    LinkSettings settings = link.settings();
    if (change.rate) settings.rate = *change.rate;
    if (change.loss) settings.loss = *change.loss;
    if (change.delay) settings.delay = *change.delay;
    link.change(settings, now);
    if (change.down) link.set_down(*change.down, now);
  }
}

}  // namespace longspan::lab
