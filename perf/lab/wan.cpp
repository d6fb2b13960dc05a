#include "lab/wan.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <thread>

namespace longspan::lab {
namespace {

/// What one thread carries of links that are all busy, without being late on a slow core.
constexpr double kBytesPerSecondOfWorker = 4e9 / 8;

std::size_t at(int index) { return static_cast<std::size_t>(index); }

Duration to_duration(Latency latency) { return std::chrono::duration_cast<Duration>(latency); }

/// For each region the worker that carries what leaves it: the busiest regions first, each to whoever has least.
std::vector<std::size_t> share_out(const Topology& topology, std::size_t* workers) {
  std::vector<double> rates(topology.regions.size(), 0);
  for (const WanLink& link : topology.wan) rates[at(link.from)] += link.bandwidth.bytes_per_second;
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
  if (network.topology().regions.size() < 2) return wan;
  LONGSPAN_TRY(wan->attach());
  wan->make_workers();
  return wan;
}

Status Wan::attach() {
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
    routes.push_back({i, link.from, link.to, ports_[at(link.to)].get(),
                      EmulatedLink(settings, ceiling, options_.seed * 1'000'003 + i)});
  }
  return routes;
}

void Wan::make_workers() {
  std::size_t workers = 0;
  const std::vector<std::size_t> worker_of = share_out(network_.topology(), &workers);
  std::vector<std::vector<WanPort>> ports(workers);
  std::vector<std::vector<WanRoute>> routes(workers);
  for (std::size_t region = 0; region < ports_.size(); ++region) {
    ports[worker_of[region]].push_back({static_cast<int>(region), ports_[region].get()});
  }
  for (WanRoute& route : make_routes()) routes[worker_of[at(route.from)]].push_back(std::move(route));
  for (std::size_t i = 0; i < workers; ++i) {
    workers_.push_back(
        std::make_unique<WanWorker>(lookup_, std::move(ports[i]), std::move(routes[i]), options_.realtime));
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
  report_.links.resize(network_.topology().wan.size());
  if (std::exchange(stopped_, true)) return report_;
  for (const auto& worker : workers_) worker->stop();
  for (const auto& worker : workers_) {
    const WorkerReport& report = worker->report();
    report_.lateness.merge(report.lateness);
    report_.unroutable_packets += report.unroutable_packets;
    report_.kernel_drops += report.refused_packets;
    report_.core_share += report.core_share;
    report_.scheduling = report.scheduling;
    for (const WanRoute& route : worker->routes()) report_.links[route.number] = route.link.counters();
  }
  // All of them hear the same from the kernel.
  if (!workers_.empty()) report_.warnings = workers_.front()->report().warnings;
  for (const auto& port : ports_) report_.kernel_drops += port->kernel_drops();
  return report_;
}

}  // namespace longspan::lab
