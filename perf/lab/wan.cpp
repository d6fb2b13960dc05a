#include "lab/wan.hpp"

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
#include <cmath>

namespace longspan::lab {
namespace {

/// Packets are looked at this often while they flow: the most that a delay is wrong by on a machine that keeps up.
/// Waking for each packet at 1 Gbit/s took 14 % more of a core, which belongs to the ranks.
constexpr Duration kRound = std::chrono::microseconds(200);
/// One port may not keep the others waiting.
constexpr int kReadsPerRound = 64;
constexpr std::size_t kMostPieces = 64;
constexpr int kRealtimePriority = 20;
/// Of each such period, the share that the thread may have: one that wants more waits for a tenth of a millisecond.
constexpr Duration kDeadlinePeriod = std::chrono::milliseconds(1);
constexpr Duration kDeadlineRuntime = std::chrono::microseconds(900);

std::size_t at(int index) { return static_cast<std::size_t>(index); }

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

Duration to_duration(Latency latency) { return std::chrono::duration_cast<Duration>(latency); }

}  // namespace

Wan::Wan(const Network& network, WanOptions options)
    : network_(network), options_(std::move(options)), lookup_(network.topology(), network.addresses()) {}

Wan::~Wan() { (void)stop(); }

Result<std::unique_ptr<Wan>> Wan::create(const Network& network, WanOptions options) {
  std::sort(options.changes.begin(), options.changes.end(),
            [](const LinkChange& a, const LinkChange& b) { return a.at < b.at; });
  std::unique_ptr<Wan> wan(new Wan(network, std::move(options)));
  LONGSPAN_TRY(wan->attach());
  wan->make_links();
  return wan;
}

Status Wan::attach() {
  epoll_.reset(::epoll_create1(EPOLL_CLOEXEC));
  wake_.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!epoll_ || !wake_) return system_error("epoll_create1 or eventfd", errno);
  std::vector<int> fds{wake_.get()};
  const std::size_t regions = network_.topology().regions.size();
  for (std::size_t r = 0; r < regions && regions > 1; ++r) {
    const int region = static_cast<int>(r);
    LONGSPAN_ASSIGN(auto port,
                    open_port(options_.port, network_.router(region), network_.options().mtu, options_.offload));
    LONGSPAN_TRY(network_.route_wan(region));
    report_.port = port->kind();
    fds.push_back(port->fd());
    ports_.push_back(std::move(port));
  }
  for (const int fd : fds) {
    epoll_event event{};
    event.events = EPOLLIN;
    if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) return system_error("epoll_ctl", errno);
  }
  scratch_.resize(PacketTrain::kLargestFrame);
  return {};
}

void Wan::make_links() {
  const Topology& topology = network_.topology();
  const std::size_t regions = topology.regions.size();
  link_of_pair_.assign(regions * regions, -1);
  links_.reserve(topology.wan.size());
  for (std::size_t i = 0; i < topology.wan.size(); ++i) {
    const WanLink& link = topology.wan[i];
    const WanLink* back = topology.wan_link(link.to, link.from);
    LinkSettings settings = settings_of(link, to_duration(back != nullptr ? back->latency : link.latency));
    // The latency of a region's uplink belongs to every packet that leaves or enters it.
    settings.delay += to_duration(topology.regions[at(link.from)].uplink_latency) +
                      to_duration(topology.regions[at(link.to)].uplink_latency);
    LinkSettings ceiling = settings;
    for (const LinkChange& change : options_.changes) {
      if (change.link != i) continue;
      if (change.rate) ceiling.rate = std::max(ceiling.rate, *change.rate);
      if (change.delay) ceiling.delay = std::max(ceiling.delay, *change.delay);
    }
    links_.emplace_back(settings, ceiling, options_.seed * 1'000'003 + i);
    link_of_pair_[at(link.from) * regions + at(link.to)] = static_cast<int>(i);
  }
}

Status Wan::start() {
  if (ports_.empty()) return {};
  thread_ = std::thread([this] { run(); });
  return {};
}

void Wan::start_changes(TimePoint origin) {
  origin_ns_.store(origin.time_since_epoch().count());
  const std::uint64_t one = 1;
  (void)!::write(wake_.get(), &one, sizeof one);
}

WanReport Wan::stop() {
  if (thread_.joinable()) {
    stopping_.store(true);
    const std::uint64_t one = 1;
    (void)!::write(wake_.get(), &one, sizeof one);
    thread_.join();
    for (const auto& port : ports_) report_.kernel_drops += port->kernel_drops();
    for (const EmulatedLink& link : links_) report_.links.push_back(link.counters());
  }
  report_.links.resize(links_.size());
  return report_;
}

void Wan::take_realtime_priority() {
  // Timers of ordinary threads may be 50 us late by design.
  ::prctl(PR_SET_TIMERSLACK, 1);
  report_.scheduling = "no real-time priority";
  if (!options_.realtime) return;
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

void Wan::run() {
  take_realtime_priority();
  const TimePoint started = Clock::now();
  Duration lateness{0};
  while (!stopping_.load(std::memory_order_relaxed)) {
    const TimePoint now = Clock::now();
    apply_changes(now);
    const Arrivals arrivals = read_ports(now, lateness);
    deliver(Clock::now());
    const TimePoint round = now + kRound;
    lateness = Duration{0};
    if (arrivals == Arrivals::kMore) continue;
    if (arrivals == Arrivals::kSome) {
      // More will come at once: sleeping a fixed round instead of waking for each packet leaves the cores to the ranks.
      const timespec until = to_timespec(round.time_since_epoch());
      while (::clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, nullptr) == EINTR) {
      }
      lateness = std::max(Duration{0}, Clock::now() - round);
    } else {
      wait_for_packets(std::min(std::max(next_due(), round), next_change()));
    }
  }
  timespec used{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
  const auto cpu = std::chrono::seconds(used.tv_sec) + std::chrono::nanoseconds(used.tv_nsec);
  report_.core_share = std::chrono::duration<double>(cpu) / std::chrono::duration<double>(Clock::now() - started);
}

void Wan::wait_for_packets(TimePoint until) {
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

Wan::Arrivals Wan::read_ports(TimePoint now, Duration lateness) {
  Arrivals arrivals = Arrivals::kNone;
  for (std::size_t region = 0; region < ports_.size(); ++region) {
    for (int i = 0; i < kReadsPerRound; ++i) {
      const std::size_t length = ports_[region]->receive(scratch_);
      if (length == 0) break;
      arrivals = std::max(arrivals, i + 1 < kReadsPerRound ? Arrivals::kSome : Arrivals::kMore);
      route(region, std::span<const std::byte>(scratch_).first(length), now, lateness);
    }
  }
  return arrivals;
}

void Wan::route(std::size_t region, std::span<const std::byte> frame, TimePoint now, Duration lateness) {
  const auto train = PacketTrain::parse(frame);
  const int to = train ? lookup_.destination_region(frame.subspan(PacketTrain::kPrefix)) : -1;
  const int link = to < 0 ? -1 : link_of_pair_[region * ports_.size() + at(to)];
  if (link < 0) {
    ++report_.unroutable_packets;
    return;
  }
  links_[at(link)].offer(*train, now, lateness);
}

void Wan::deliver(TimePoint now) {
  const Topology& topology = network_.topology();
  for (std::size_t i = 0; i < links_.size(); ++i) {
    EmulatedLink& link = links_[i];
    PacketPort& port = *ports_[at(topology.wan[i].to)];
    while (link.next_due() <= now) deliver_front(link, port, now);
  }
}

void Wan::deliver_front(EmulatedLink& link, PacketPort& port, TimePoint now) {
  PacketRecord& first = link.front();
  const PacketRecord* last = &first;
  std::uint32_t packets = 0;
  std::size_t more = 0;
  pieces_.clear();
  // A record's bytes stay where they are after pop_delivered(), until the next packet is offered.
  do {
    PacketRecord& record = link.front();
    report_.lateness.add_together(Clock::now() - record.due + record.read_lateness, record.packets,
                                  record.serialisation);
    const bool starts = pieces_.empty();
    const auto bytes = starts ? record.bytes() : record.bytes().subspan(PacketTrain::kPrefix + record.layout.headers);
    pieces_.push_back({bytes.data(), bytes.size()});
    if (!starts) more += bytes.size();
    packets += record.packets;
    last = &record;
    link.pop_delivered();
    // What is due of the same train goes in one call: whoever is late catches up.
  } while (link.next_due() <= now && link.front().continues && pieces_.size() < kMostPieces);
  if (last != &first) PacketTrain::join(first.layout, first.bytes(), more, last->bytes());
  if (!port.send(pieces_)) report_.kernel_drops += packets;
}

TimePoint Wan::next_due() {
  TimePoint next = TimePoint::max();
  for (EmulatedLink& link : links_) next = std::min(next, link.next_due());
  return next;
}

TimePoint Wan::next_change() const {
  const std::int64_t origin = origin_ns_.load(std::memory_order_relaxed);
  if (origin < 0 || next_change_ >= options_.changes.size()) return TimePoint::max();
  return TimePoint(Duration(origin)) + options_.changes[next_change_].at;
}

void Wan::apply_changes(TimePoint now) {
  while (next_change() <= now) {
    const LinkChange& change = options_.changes[next_change_++];
    EmulatedLink& link = links_[change.link];
    LinkSettings settings = link.settings();
    if (change.rate) settings.rate = *change.rate;
    if (change.loss) settings.loss = *change.loss;
    if (change.delay) settings.delay = *change.delay;
    link.change(settings, now);
    if (change.down) link.set_down(*change.down, now);
  }
}

}  // namespace longspan::lab
