#include "runtime/job.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

#include "base/log.hpp"
#include "bootstrap/rendezvous.hpp"
#include "bootstrap/wire.hpp"
#include "longspan/bootstrap.hpp"
#include "planner/network.hpp"
#include "planner/tier_transports.hpp"
#include "runtime/announcement.hpp"
#include "runtime/communicator_impl.hpp"
#include "runtime/epoch_desk.hpp"
#include "runtime/fault_desk.hpp"
#include "runtime/lease_desk.hpp"
#include "security/secret.hpp"
#include "security/session.hpp"
#include "topology/placement.hpp"

namespace longspan::runtime {
namespace {

Result<std::optional<Topology>> own_topology(const Options& options) {
  if (options.topology_text) {
    LONGSPAN_ASSIGN(Topology parsed, parse_topology(*options.topology_text, "(topology given by the program)"));
    return std::optional<Topology>(std::move(parsed));
  }
  if (!options.topology_file) return std::optional<Topology>();
  LONGSPAN_ASSIGN(Topology loaded, load_topology(*options.topology_file));
  return std::optional<Topology>(std::move(loaded));
}

std::string host_name() {
  std::string name(256, '\0');
  if (::gethostname(name.data(), name.size() - 1) != 0) return "localhost";
  name.resize(name.find('\0'));
  return name;
}

Result<Context> make_context(const std::optional<Topology>& topology, const Options& options,
                             std::span<const std::string> payloads) {
  std::vector<Whereabouts> where;
  for (std::size_t r = 0; r < payloads.size(); ++r) {
    LONGSPAN_ASSIGN(Announcement each, Announcement::decode(payloads[r], r));
    where.push_back(std::move(each.where));
  }
  std::vector<std::string> warnings;
  LONGSPAN_ASSIGN(const Cluster placed,
                  topology ? place(*topology, where, &warnings) : place_without_file(where, &warnings));
  for (const std::string& warning : warnings) log::warn("{}", warning);
  Context context;
  context.topology = to_toml(placed.topology);
  context.source = placed.topology.source;
  context.host_of_rank = placed.host_of_rank;
  context.algorithm = options.algorithm.value_or("");
  return context;
}

/// Once per job. Within one host a stranger needs an account there; between hosts only a way to their ports.
void warn_of_no_key(const Cluster& cluster) {
  const auto& hosts = cluster.host_of_rank;
  const bool one_host = std::all_of(hosts.begin(), hosts.end(), [&](int host) { return host == hosts.front(); });
  constexpr std::string_view text =
      "no LONGSPAN_KEY: whoever reaches a port of this job can disturb it, and read along";
  if (one_host) log::info("{}", text);
  else log::warn("{} (docs/security.md)", text);
}

}  // namespace

/// Carries the EpochDesk's notes over the control plane.
class EpochHost final : public EpochDesk::Host {
 public:
  EpochHost(Domain& domain, FaultDesk& faults) : domain_(domain), faults_(faults) {}
  void send(int rank, std::string note) override { faults_.send_note(rank, std::move(note)); }
  bool gone(int rank) const override { return faults_.gone(rank); }
  std::vector<EpochDesk::Position> positions() const override {
    std::vector<EpochDesk::Position> all;
    for (const CommunicatorImpl* comm : domain_.communicators()) all.emplace_back(comm->id(), comm->next_seq());
    return all;
  }
  void changed() override { domain_.wake_waiters(); }

 private:
  Domain& domain_;
  FaultDesk& faults_;
};

Job::Job() = default;

/// Every rank has all announcements, so all price alike.
void Job::price_tiers() {
  std::vector<std::vector<planner::EndpointOffer>> offers;
  for (const Peer& peer : peers_) {
    auto& all = offers.emplace_back();
    for (const EndpointAddress& each : peer.endpoints) all.push_back(each.offer);
  }
  const auto tiers = planner::transports_by_tier(cluster_, offers);
  planner::apply(tiers, planner_options_.parameters);
  if (rank_ != 0) return;
  for (const planner::TierTransport& each : tiers) {
    log::info("{}: {} ({})", name_of(each.tier), each.choice.transport.empty() ? "no transport" : each.choice.transport,
              each.choice.reason);
  }
}

/// Domain lock held.
void Job::lease_links() {
  const auto& links = cluster_.topology.wan;
  const planner::Network network(cluster_, planner_options_.parameters);
  std::vector<double> budgets;
  for (std::size_t w = 0; w < links.size(); ++w) budgets.push_back(network.wan_budget(w));
  auto leases = std::make_unique<LeaseDesk>(*domain_, cluster_, peers_, rank_, std::move(budgets));
  epoch_host_ = std::make_unique<EpochHost>(*domain_, *faults_);
  epochs_ = std::make_unique<EpochDesk>(*epoch_host_, rank_, cluster_.size(), links.size());
  domain_->watch(epochs_.get());
  leases->on_measured([epochs = epochs_.get()](std::uint32_t link, double share) { epochs->measured(link, share); });
  domain_->set_leases(std::move(leases));
}

Result<std::shared_ptr<Job>> Job::join(const LaunchInfo& launch, const Options& given) {
  LONGSPAN_ASSIGN(const Options options, resolve(given));
  LONGSPAN_ASSIGN(const std::optional<Topology> topology, own_topology(options));
  log::set_identity(fmt::format("rank {}", launch.rank));
  std::shared_ptr<Job> job(new Job);
  job->rank_ = launch.rank;
  job->timeout_ = *options.timeout;

  Announcement me;
  me.id = bootstrap::random_number();
  me.where.declared_host = options.host.value_or("");
  me.where.hostname = host_name();
  if (topology) me.where.topology_digest = topology_digest(*topology);
  DomainOptions domain;
  domain.self = me.id;
  domain.transports = options.transports.value_or(std::vector<std::string>());
  domain.local_ranks = launch.local_size;
  domain.advertise_address = options.advertise.value_or("");
  domain.congestion_control = options.congestion_control.value_or("");
  domain.rdma = options.rdma.value_or("");
  domain.nics = options.nics.value_or(std::vector<std::string>());
  domain.ports = options.ports.value_or(std::pair<std::uint16_t, std::uint16_t>{0, 0});
  if (topology) {
    const int host = topology->find_host(me.where.declared_host.empty() ? me.where.hostname : me.where.declared_host);
    if (host >= 0) domain.bind_address = topology->hosts[static_cast<std::size_t>(host)].address;
  }
  me.where.address = domain.bind_address;
  LONGSPAN_ASSIGN(domain.key, security::load_secret(options.key, options.key_file));
  domain.encryption = *options.encryption;
  LONGSPAN_ASSIGN(job->domain_, Domain::create(domain));
  me.endpoints = job->domain_->addresses();

  bootstrap::RendezvousRequest request;
  request.launch = launch;
  request.host = me.where.declared_host.empty() ? me.where.hostname : me.where.declared_host;
  request.payload = me.encode();
  request.deadline = Clock::now() + job->timeout_;
  LONGSPAN_ASSIGN(request.guard, security::Guard::open(domain.key));
  request.ports = {domain.ports.first, domain.ports.second};
  if (domain.advertise_address != "none") request.advertise = domain.advertise_address;
  request.make_context = [&](std::span<const std::string> payloads) -> Result<std::string> {
    LONGSPAN_ASSIGN(const Context context, make_context(topology, options, payloads));
    return context.encode();
  };
  LONGSPAN_ASSIGN(bootstrap::Rendezvous met, bootstrap::exchange(std::move(request)));

  LONGSPAN_ASSIGN(Context context, Context::decode(met.context));
  LONGSPAN_ASSIGN(job->cluster_.topology, parse_topology(context.topology, context.source));
  job->cluster_.topology.source = context.source;
  job->cluster_.host_of_rank = std::move(context.host_of_rank);
  if (job->cluster_.size() != launch.size) {
    return Status(StatusCode::kInternal, "rank 0's planning context has another number of ranks");
  }
  LONGSPAN_TRY(check_places(job->cluster_));
  job->id_ = met.job & ~kPointToPointBit;
  job->planner_options_.forced = std::move(context.algorithm);
  for (std::size_t r = 0; r < met.payloads.size(); ++r) {
    LONGSPAN_ASSIGN(Announcement each, Announcement::decode(met.payloads[r], r));
    job->peers_.push_back(Peer{each.id, job->cluster_.describe(static_cast<int>(r)), std::move(each.endpoints)});
  }
  job->price_tiers();
  log::set_identity(job->cluster_.describe(launch.rank));
  if (domain.key.empty() && launch.rank == 0) warn_of_no_key(job->cluster_);
  LONGSPAN_ASSIGN(job->faults_, FaultDesk::open(*job, std::move(met)));
  const auto lock = job->domain_->lock();
  job->domain_->watch(job->faults_.get());
  if (!job->cluster_.topology.wan.empty()) job->lease_links();
  return job;
}

Job::~Job() {
  if (domain_ == nullptr || faults_ == nullptr) return;
  const auto lock = domain_->lock();
  domain_->unwatch(faults_.get());
  if (epochs_ != nullptr) {
    domain_->unwatch(epochs_.get());
    domain_->leases()->on_measured(nullptr);
  }
  faults_->close();
}

bool Job::send_fault(CommunicatorImpl& comm, const Status& status, int blamed_rank) {
  return faults_ != nullptr && faults_->send(comm, status, blamed_rank);
}

void Job::on_note(int from, const std::string& text) {
  if (epochs_ != nullptr) epochs_->handle(from, text);
}

void Job::add(CommunicatorImpl& comm) {
  const auto lock = domain_->lock();
  domain_->add(comm.id(), &comm);
}

}  // namespace longspan::runtime
