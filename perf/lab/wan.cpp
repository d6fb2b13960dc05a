#include "lab/wan.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <thread>

namespace longspan::lab {
namespace {

/// What one thread carries of links that are all busy, without being late on a slow core.
constexpr double kBytesPerSecondOfWorker = 4e9 / 8;

std::size_t at(int index) { return static_cast<std::size_t>(index); }

Duration to_duration(Latency latency) { return std::chrono::duration_cast<Duration>(latency); }

/// A rack's uplink may be much faster than the cards of the hosts in it.
constexpr double kMostOfUplink = kBytesPerSecondOfWorker / 2;

/// What an uplink's queue holds: 10 ms, as a switch port might.
LinkSettings settings_of(const DelayedUplink& uplink) {
  LinkSettings settings;
  settings.rate = uplink.rate;
  settings.delay = to_duration(uplink.latency);
  settings.buffer_bytes = static_cast<std::uint64_t>(std::max(1e6, uplink.rate.bytes_per_second * 0.010));
  return settings;
}

/// For each region the worker that carries what leaves it, and its uplinks: the busiest regions first, each to whoever
/// has least.
std::vector<std::size_t> share_out(const Network& network, std::size_t* workers) {
  const Topology& topology = network.topology();
  std::vector<double> rates(topology.regions.size(), 0);
  for (const WanLink& link : topology.wan) rates[at(link.from)] += link.bandwidth.bytes_per_second;
  for (const DelayedUplink& uplink : network.delayed_uplinks()) {
    rates[at(uplink.region)] += 2 * std::min(uplink.rate.bytes_per_second, kMostOfUplink);
  }
  const double all = std::accumulate(rates.begin(), rates.end(), 0.0);
  const std::size_t cores = std::max(1U, std::thread::hardware_concurrency());
  *workers = std::clamp(static_cast<std::size_t>(std::ceil(all / kBytesPerSecondOfWorker)), std::size_t{1},
                        std::min(cores, rates.size()));
  std::vector<std::size_t> order(rates.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&rates](std::size_t a, std::size_t b) { return rates[a] > rates[b]; });
  std::vector<double> load(*workers, 0);
  std::vector<std::size_t> worker_of(rates.size(), 0);
  for (const std::size_t region : order) {
    const auto least = std::min_element(load.begin(), load.end());
    worker_of[region] = static_cast<std::size_t>(least - load.begin());
    *least += rates[region];
  }
  return worker_of;
}

}  // namespace

Wan::Wan(const Network& network, WanOptions options)
    : network_(network), options_(std::move(options)), lookup_(network.topology(), network.addresses()) {}

Wan::~Wan() { (void)stop(); }

Result<std::unique_ptr<Wan>> Wan::create(const Network& network, WanOptions options) {
  std::sort(options.changes.begin(), options.changes.end(),
            [](const LinkChange& a, const LinkChange& b) { return a.at < b.at; });
  std::unique_ptr<Wan> wan(new Wan(network, std::move(options)));
  if (network.topology().regions.size() > 1) LONGSPAN_TRY(wan->attach_regions());
  LONGSPAN_TRY(wan->attach_uplinks());
  if (!wan->report_.port.empty()) wan->make_workers();
  return wan;
}

Status Wan::attach_regions() {
  for (std::size_t r = 0; r < network_.topology().regions.size(); ++r) {
    const int region = static_cast<int>(r);
    LONGSPAN_ASSIGN(auto port,
                    open_port(options_.port, network_.router(region), network_.options().mtu, options_.offload));
    LONGSPAN_TRY(network_.route_wan(region));
    report_.port = port->kind();
    ports_.push_back(std::move(port));
  }
  return {};
}

Status Wan::attach_uplinks() {
  for (const DelayedUplink& uplink : network_.delayed_uplinks()) {
    for (const std::string& device : {uplink.below, uplink.above}) {
      auto port = open_tap_port(network_.router(uplink.region), device, options_.offload);
      if (!port.ok()) {
        return port.status().with_context(fmt::format(
            "the latency of {}'s uplink needs a TAP device (without it, leave that latency out)", uplink.name));
      }
      uplink_ports_.push_back(std::move(port).value());
    }
    LONGSPAN_TRY(network_.attach(uplink));
    if (report_.port.empty()) report_.port = uplink_ports_.back()->kind();
  }
  return {};
}

void Wan::add_uplink_routes(std::vector<WanRoute>* routes) {
  for (std::size_t i = 0; i < network_.delayed_uplinks().size(); ++i) {
    const LinkSettings settings = settings_of(network_.delayed_uplinks()[i]);
    PacketPort* const below = uplink_ports_[2 * i].get();
    PacketPort* const above = uplink_ports_[2 * i + 1].get();
    for (const auto& [from, to] : {std::pair(below, above), std::pair(above, below)}) {
      const std::uint64_t seed = options_.seed;  // nothing is lost at random
      routes->push_back({routes->size(), from, to, WanRoute::kAnywhere, EmulatedLink(settings, settings, seed)});
    }
  }
}

std::vector<WanRoute> Wan::make_routes() {
  const Topology& topology = network_.topology();
  std::vector<WanRoute> routes;
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
    routes.push_back({i, ports_[at(link.from)].get(), ports_[at(link.to)].get(), link.to,
                      EmulatedLink(settings, ceiling, options_.seed * 1'000'003 + i)});
  }
  add_uplink_routes(&routes);
  return routes;
}

void Wan::make_workers() {
  std::size_t workers = 0;
  const std::vector<std::size_t> worker_of = share_out(network_, &workers);
  std::map<const PacketPort*, std::size_t> reader;
  std::vector<std::vector<PacketPort*>> ports(workers);
  const auto read = [&](PacketPort* port, std::size_t region) {
    reader[port] = worker_of[region];
    ports[worker_of[region]].push_back(port);
  };
  for (std::size_t region = 0; region < ports_.size(); ++region) read(ports_[region].get(), region);
  for (std::size_t i = 0; i < uplink_ports_.size(); ++i) {
    read(uplink_ports_[i].get(), at(network_.delayed_uplinks()[i / 2].region));
  }
  std::vector<std::vector<WanRoute>> routes(workers);
  for (WanRoute& route : make_routes()) routes[reader[route.from]].push_back(std::move(route));
  for (std::size_t i = 0; i < workers; ++i) {
    workers_.push_back(
        std::make_unique<WanWorker>(lookup_, ports[i], std::move(routes[i]), options_.realtime));
    workers_.back()->set_changes({options_.changes.begin(), options_.changes.end()});
  }
}

Status Wan::start() {
  for (const auto& worker : workers_) LONGSPAN_TRY(worker->start());
  return {};
}

void Wan::start_changes(TimePoint origin) {
  for (const auto& worker : workers_) worker->start_changes(origin);
}

WanReport Wan::stop() {
  const std::size_t links = network_.topology().wan.size();
  report_.links.resize(links);
  report_.uplinks.resize(uplink_ports_.size());
  if (std::exchange(stopped_, true)) return report_;
  for (const auto& worker : workers_) worker->stop();
  for (const auto& worker : workers_) {
    const WorkerReport& report = worker->report();
    report_.lateness.merge(report.lateness);
    report_.stalls.merge(report.stalls);
    report_.unroutable_packets += report.unroutable_packets;
    report_.kernel_drops += report.refused_packets;
    report_.core_share += report.core_share;
    report_.scheduling = report.scheduling;
    for (const WanRoute& route : worker->routes()) {
      LinkCounters& counters =
          route.number < links ? report_.links[route.number] : report_.uplinks[route.number - links];
      counters = route.link.counters();
    }
  }
  // All of them hear the same from the kernel.
  if (!workers_.empty()) report_.warnings = workers_.front()->report().warnings;
  for (const auto* ports : {&ports_, &uplink_ports_}) {
    for (const auto& port : *ports) report_.kernel_drops += port->kernel_drops();
  }
  return report_;
}

}  // namespace longspan::lab
