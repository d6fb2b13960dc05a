#include "runtime/communicator_impl.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "base/log.hpp"
#include "executor/reduce/reduce.hpp"
#include "longspan/spi/registry.hpp"
#include "runtime/epoch_desk.hpp"
#include "runtime/job.hpp"

namespace longspan::runtime {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t kPrivatePlanBytes = 1 << 20;  // a size all ranks know when lengths are the pair's secret

std::uint64_t mix(std::uint64_t hash, std::uint64_t value) {
  hash ^= value + 0x9e3779b97f4a7c15ULL + (hash << 6) + (hash >> 2);
  return hash * 0xff51afd7ed558ccdULL;
}

/// Offsets that lay blocks of these lengths one after the other.
std::vector<std::size_t> packed(std::span<const std::size_t> counts) {
  std::vector<std::size_t> offsets(counts.size());
  std::size_t next = 0;
  for (std::size_t i = 0; i < counts.size(); ++i) {
    offsets[i] = next;
    next += counts[i];
  }
  return offsets;
}

}  // namespace

std::size_t extent_of(std::span<const std::size_t> counts, std::span<const std::size_t> offsets) {
  std::size_t end = 0;
  for (std::size_t i = 0; i < counts.size(); ++i) end = std::max(end, (offsets.empty() ? end : offsets[i]) + counts[i]);
  return end;
}

std::uint64_t child_id(std::uint64_t parent, std::uint32_t split, int color) {
  return mix(mix(parent, split), static_cast<std::uint64_t>(color)) & ~kPointToPointBit;
}

std::uint64_t group_id(std::uint64_t parent, std::uint32_t tag, std::span<const int> ranks) {
  constexpr std::uint64_t kGroup = 0x67726f7570;  // never what a split mixes in first
  std::uint64_t id = mix(mix(parent, kGroup), tag);
  for (const int rank : ranks) id = mix(id, static_cast<std::uint64_t>(rank));
  return id & ~kPointToPointBit;
}

CommunicatorImpl::CommunicatorImpl(std::shared_ptr<Job> job, Members members)
    : job_(std::move(job)),
      domain_(job_->domain()),
      members_(std::move(members)),
      stated_(members_.cluster, spi::all_algorithms(), job_->planner_options()),
      timeout_(job_->timeout()),
      look_again_at_(EpochDesk::kNoLimit),
      point_to_point_(*this) {
  for (auto& [seq, call] : recent_calls_) seq = bootstrap::kNoSeq;
  for (int r = 0; r < size(); ++r) rank_of_peer_[members_.peers[static_cast<std::size_t>(r)].id] = r;
}

CommunicatorImpl::~CommunicatorImpl() = default;

int CommunicatorImpl::rank_of(spi::PeerId peer) const {
  const auto found = rank_of_peer_.find(peer);
  return found == rank_of_peer_.end() ? -1 : found->second;
}

CollectiveShape CommunicatorImpl::shape_of(const CollectiveCall& call) const {
  CollectiveShape shape;
  shape.kind = call.kind;
  shape.root = has_root(call.kind) ? call.root : 0;
  const bool listed = !call.in_counts.empty() || !call.out_counts.empty();
  shape.private_lengths = call.private_lengths;
  shape.uneven = listed && (call.kind == Collective::kAllGather || call.kind == Collective::kReduceScatter);
  return shape;
}

Status CommunicatorImpl::validate(const CollectiveCall& call) const {
  const auto bad = [&](std::string text) {
    return Status(StatusCode::kInvalidArgument, fmt::format("{}: {}", name_of(call.kind), std::move(text)));
  };
  if (has_root(call.kind) && (call.root < 0 || call.root >= size())) {
    return bad(fmt::format("root {} is not a rank of this communicator (0 to {})", call.root, size() - 1));
  }
  const auto ranks = static_cast<std::size_t>(size());
  for (const auto& [list, name] :
       {std::pair(call.in_counts, "in_counts"), std::pair(call.out_counts, "out_counts"),
        std::pair(call.in_offsets, "in_offsets"), std::pair(call.out_offsets, "out_offsets")}) {
    if (!list.empty() && list.size() != ranks) {
      return bad(fmt::format("{} has {} entries for {} ranks", name, list.size(), ranks));
    }
  }
  const CollectiveShape shape = shape_of(call);
  const bool any = call.count > 0 || extent_of(call.in_counts, call.in_offsets) > 0 ||
                   extent_of(call.out_counts, call.out_offsets) > 0;
  if (any && call.in == nullptr && blocks_in(shape, size(), rank()) > 0 &&
      (call.in_counts.empty() ? call.count > 0 : extent_of(call.in_counts, call.in_offsets) > 0)) {
    return bad("the input buffer is null");
  }
  if (any && call.out == nullptr && blocks_out(shape, size(), rank()) > 0 &&
      (call.out_counts.empty() ? call.count > 0 : extent_of(call.out_counts, call.out_offsets) > 0)) {
    return bad("the output buffer is null");
  }
  return {};
}

std::shared_ptr<WorkState> CommunicatorImpl::start(const CollectiveCall& call, bool blocking) {
  auto work = std::make_shared<WorkState>();
  work->comm = shared_from_this();
  work->call = call;
  if (refuse_child(*work)) return work;
  work->in_place = device::place_of(call.in);
  work->out_place = device::place_of(call.out);
  if (call.stream != nullptr) {
    start_in_stream(work, false);
    return work;
  }
  Domain::Lock lock = domain_->lock();
  set_deadline(*work, call.timeout);
  launch(lock, work);
  // Whoever calls and blocks drives until he has his answer, and no further.
  const bool left_alone = work->done.load(std::memory_order_relaxed) ? work->execution != nullptr : !blocking;
  if (left_alone) domain_->work_started(lock);
  domain_->run_deferred();
  return work;
}

void CommunicatorImpl::launch(Domain::Lock& lock, const std::shared_ptr<WorkState>& work) {
  if (work->point_to_point) return launch_message(work);
  const CollectiveCall& call = work->call;
  Status status = follow_epoch(lock, work->deadline);
  work->seq = next_seq_++;
  if (!error_.ok()) status = error_;
  const Prepared* before = known(call);
  if (status.ok() && before == nullptr) status = validate(call);
  if (status.ok()) status = find_devices(*work);
  const bool invalid = !status.ok();
  if (status.ok()) {
    active_.push_back(work);
    if (size() > 1) status = begin(*work, before);
    else if (!work->in_stream) status = run_alone(*work);
  }
  if (!status.ok()) {
    finish(*work, status);
    // Ranks that did start would wait for us until their deadline; an argument error is ours to tell at once.
    if (!invalid) report(status, rank());
  } else if (work->execution != nullptr && !work->in_stream) {
    settle(*work);
  }
}

std::size_t CommunicatorImpl::planning_epoch() {
  const Domain::Lock lock = domain_->lock();
  return epoch_;
}

Status CommunicatorImpl::follow_epoch(Domain::Lock& lock, TimePoint deadline) {
  EpochDesk* const epochs = job_->epochs();
  if (epochs == nullptr || (epochs->version() == seen_epochs_ && next_seq_ < look_again_at_)) return {};
  const auto may_start = [&] { return !error_.ok() || next_seq_ < epochs->limit(id()); };
  if (!may_start() && !domain_->drive_until(lock, may_start, deadline)) {
    return Status(StatusCode::kTimeout,
                  "not all ranks answered when the measured rates of the WAN links were to be planned with");
  }
  const std::size_t epoch = epochs->epoch_of(id(), next_seq_, members_.birth_epoch);
  if (epoch != epoch_) plan_from(epoch);
  seen_epochs_ = epochs->version();
  look_again_at_ = std::min(epochs->limit(id()), epochs->next_change(id(), next_seq_));
  return {};
}

void CommunicatorImpl::plan_from(std::size_t epoch) {
  Cluster cluster = members_.cluster;
  const std::vector<double>& shares = job_->epochs()->epoch(epoch).shares;
  std::string text;
  for (std::size_t w = 0; w < shares.size(); ++w) {
    cluster.topology.wan[w].bandwidth.bytes_per_second *= shares[w];
    text += fmt::format("{}{:.2f}", w == 0 ? "" : ", ", shares[w]);
  }
  log::debug("from collective #{} on, plans take the WAN links for {} of what is stated", next_seq_, text);
  corrected_ = std::make_unique<planner::Planner>(std::move(cluster), spi::all_algorithms(), job_->planner_options());
  epoch_ = epoch;
  prepared_ = {};
  // What runs, and what may be asked about, keeps its plan.
  std::erase_if(entries_, [this](const auto& each) {
    const PlanEntry* entry = each.second.get();
    return std::none_of(active_.begin(), active_.end(), [&](const auto& work) { return work->entry == entry; }) &&
           std::none_of(recent_calls_.begin(), recent_calls_.end(),
                        [&](const auto& call) { return call.second.entry == entry; });
  });
}

bool CommunicatorImpl::refuse_child(WorkState& work) const {
  if (!domain_->inherited()) return false;
  work.status = Status(StatusCode::kInvalidArgument,
                       "this process is a fork of the one that made the communicator; make one of its own");
  work.comm = nullptr;
  work.done.store(true, std::memory_order_release);
  return true;
}

Status CommunicatorImpl::run_alone(WorkState& work) {
  const CollectiveCall& call = work.call;
  const std::size_t count =
      call.in_counts.empty() ? (call.out_counts.empty() ? call.count : call.out_counts[0]) : call.in_counts[0];
  const std::size_t bytes = count * size_of(call.type);
  if (call.kind != Collective::kBarrier && bytes > 0) {
    const auto offset = [&](std::span<const std::size_t> offsets) {
      return offsets.empty() ? 0 : offsets[0] * size_of(call.type);
    };
    const std::byte* in = static_cast<const std::byte*>(call.in) + offset(call.in_offsets);
    std::byte* out = static_cast<std::byte*>(call.out) + offset(call.out_offsets);
    if (work.in_copier != nullptr || work.out_copier != nullptr) {
      LONGSPAN_TRY(run_alone_on_device(work, out, in, bytes));
    } else if (call.op == ReduceOp::kPremulSum && reduces(call.kind)) {
      reduce::scale(call.type, out, in, count, call.factor);
    } else if (in != out) {
      std::memmove(out, in, bytes);
    }
  }
  finish(work, {});
  return {};
}

std::size_t CommunicatorImpl::planning_bytes(const WorkState& work, const CollectiveShape& shape) const {
  if (shape.private_lengths) return kPrivatePlanBytes;
  if (!shape.uneven) return work.call.count * size_of(work.call.type);
  const auto& counts = work.call.kind == Collective::kAllGather ? work.out_counts : work.in_counts;
  std::size_t sum = 0;
  for (const std::size_t each : counts) sum += each;
  return sum / counts.size() * size_of(work.call.type);
}

executor::Call CommunicatorImpl::lay_out(WorkState& work) const {
  const CollectiveCall& call = work.call;
  const auto me = static_cast<std::size_t>(rank());
  const auto side = [](const void* base, std::size_t uniform, std::span<const std::size_t> counts,
                       std::span<const std::size_t> offsets) {
    executor::BlockBuffer buffer;
    buffer.base = static_cast<std::byte*>(const_cast<void*>(base));
    buffer.uniform = uniform;
    buffer.counts = counts;
    buffer.offsets = offsets;
    return buffer;
  };
  // A side without a list of its own holds this rank's block of the other side's list.
  const std::size_t in_uniform =
      call.kind == Collective::kAllGather && !work.out_counts.empty() ? work.out_counts[me] : call.count;
  const std::size_t out_uniform =
      call.kind == Collective::kReduceScatter && !work.in_counts.empty() ? work.in_counts[me] : call.count;
  executor::Call run;
  run.in = side(call.in, in_uniform, work.in_counts, work.in_offsets);
  run.out = side(call.out, out_uniform, work.out_counts, work.out_offsets);
  run.type = call.type;
  run.op = call.op;
  run.comm = members_.id;
  run.seq = work.seq;
  return run;
}

Prepared* CommunicatorImpl::slot_for(const CollectiveCall& call) {
  const bool listed = !call.in_counts.empty() || !call.out_counts.empty() || call.private_lengths;
  if (listed || call.op == ReduceOp::kPremulSum || call.count == 0) return nullptr;
  return &prepared_[mix(call.count, static_cast<std::uint64_t>(call.kind)) % prepared_.size()];
}

const Prepared* CommunicatorImpl::known(const CollectiveCall& call) {
  const Prepared* slot = slot_for(call);
  if (slot == nullptr || slot->entry == nullptr || call.in == nullptr || call.out == nullptr) return nullptr;
  const bool same = slot->kind == call.kind && slot->type == call.type && slot->op == call.op &&
                    slot->root == call.root && slot->count == call.count;
  return same ? slot : nullptr;
}

Result<Prepared> CommunicatorImpl::prepare(WorkState& work) {
  CollectiveCall& call = work.call;
  Prepared* const slot = slot_for(call);
  const CollectiveShape shape = shape_of(call);
  const auto keep = [](std::vector<std::size_t>& to, std::span<const std::size_t> from) {
    to.assign(from.begin(), from.end());
  };
  keep(work.in_counts, call.in_counts);
  keep(work.out_counts, call.out_counts);
  keep(work.in_offsets, call.in_offsets);
  keep(work.out_offsets, call.out_offsets);
  if (work.in_offsets.empty() && !work.in_counts.empty()) work.in_offsets = packed(work.in_counts);
  if (work.out_offsets.empty() && !work.out_counts.empty()) work.out_offsets = packed(work.out_counts);
  call.in_counts = call.out_counts = call.in_offsets = call.out_offsets = {};  // the caller's memory may go now
  const std::size_t bytes = planning_bytes(work, shape);
  Prepared made{call.kind, call.type, call.op, call.root, call.count, nullptr, 0};
  LONGSPAN_ASSIGN(made.entry, entry_for(shape, bytes));
  made.digest = made.entry->plan->plan().decision.digest;
  const std::uint64_t length = shape.private_lengths ? 0 : shape.uneven ? bytes : call.count;
  const std::uint64_t op = reduces(call.kind) ? static_cast<std::uint64_t>(call.op) : 0;
  for (const std::uint64_t part : {static_cast<std::uint64_t>(call.kind), length, static_cast<std::uint64_t>(call.type),
                                   op, static_cast<std::uint64_t>(shape.root)}) {
    made.digest = mix(made.digest, part);
  }
  if (slot != nullptr) *slot = made;
  made.count = static_cast<std::size_t>(length);
  return made;
}

Status CommunicatorImpl::begin(WorkState& work, const Prepared* known) {
  Prepared made;
  if (known == nullptr) {
    LONGSPAN_ASSIGN(made, prepare(work));
    known = &made;
  }
  CollectiveCall& call = work.call;
  work.entry = known->entry;
  LONGSPAN_TRY(connect(*work.entry, work.deadline));
  executor::Call run = lay_out(work);
  run.digest = work.digest = known->digest;
  const ReduceOp op = reduces(call.kind) ? call.op : ReduceOp::kSum;
  recent_calls_[work.seq % recent_calls_.size()] = {
      work.seq,
      {call.kind, known->count, call.type, op, has_root(call.kind) ? call.root : 0, work.entry, known->digest}};
  if (!early_digests_.empty()) check_early_digests(work, run.digest);
  auto& idle = work.entry->idle;
  if (idle.empty()) {
    work.execution = std::make_unique<executor::Execution>(work.entry->plan);
  } else {
    work.execution = std::move(idle.back());
    idle.pop_back();
  }
  work.execution->owner = &work;
  if (!work.in_stream) return run_prepared(work, run);
  work.waiting_call = run;
  return {};
}

Status CommunicatorImpl::run_prepared(WorkState& work, executor::Call run) {
  run.there = stays_on(work);
  if (run.there != nullptr) {
    run.takes_devices = work.entry->takes_devices;
    lease(work, work.entry->flows);
    return work.execution->start(run, work.entry->channels, domain_->scratch());
  }
  run.in_copier = work.in_copier;
  run.out_copier = work.out_copier;
  if (work.call.op == ReduceOp::kPremulSum && reduces(work.call.kind)) {
    if (run.in_copier != nullptr) run.in_factor = work.call.factor;
    else LONGSPAN_TRY(premultiply(work, run));
  }
  if (work.call.kind == Collective::kAllToAll && run.in_copier == nullptr) LONGSPAN_TRY(set_aside(work, run));
  lease(work, work.entry->flows);
  return work.execution->start(run, work.entry->channels, domain_->scratch());
}

Status CommunicatorImpl::set_aside(WorkState& work, executor::Call& call) {
  const std::size_t element = size_of(call.type);
  const auto end = [&](const executor::BlockBuffer& side) {
    std::size_t most = 0;
    for (std::uint32_t b = 0; b < static_cast<std::uint32_t>(size()); ++b) {
      most = std::max(most, side.offset(b) + side.count(b));
    }
    return side.base + most * element;
  };
  const std::byte* in_end = end(call.in);
  if (call.in.base >= end(call.out) || call.out.base >= in_end) return {};
  const auto bytes = static_cast<std::size_t>(in_end - call.in.base);
  LONGSPAN_ASSIGN(work.own_input, domain_->scratch().take(bytes));
  if (bytes > 0) std::memcpy(work.own_input.data(), call.in.base, bytes);
  call.in.base = work.own_input.data();
  return {};
}

Status CommunicatorImpl::premultiply(WorkState& work, executor::Call& call) {
  const int blocks = blocks_in(shape_of(work.call), size(), rank());
  const std::size_t elements = work.in_counts.empty() ? call.in.uniform * static_cast<std::size_t>(blocks)
                                                      : extent_of(work.in_counts, work.in_offsets);
  LONGSPAN_ASSIGN(work.own_input, domain_->scratch().take(elements * size_of(call.type)));
  if (elements > 0) reduce::scale(call.type, work.own_input.data(), call.in.base, elements, work.call.factor);
  call.in.base = work.own_input.data();
  return {};
}

Result<PlanEntry*> CommunicatorImpl::entry_for(const CollectiveShape& shape, std::size_t bytes) {
  LONGSPAN_ASSIGN(const std::shared_ptr<const Plan> plan, planner().plan_for(shape, bytes, rank()));
  auto& entry = entries_[plan.get()];
  if (entry == nullptr) {
    entry = std::make_unique<PlanEntry>();
    entry->plan = std::make_shared<const executor::CompiledPlan>(plan);
    log::debug("plan for {} of {} bytes: {}, {} chunks, window {}", name_of(shape.kind), bytes,
               plan->decision.full_name(), plan->decision.chunks, plan->decision.window);
    entry->name = plan->decision.full_name();
    if (job_->epochs() != nullptr) entry->shares = job_->epochs()->epoch(epoch_).shares;
  }
  return entry.get();
}

int CommunicatorImpl::wan_between(int peer) const {
  const Cluster& cluster = members_.cluster;
  if (cluster.tier_between(rank(), peer) != Tier::kWan) return -1;
  const WanLink* link = cluster.topology.wan_link(cluster.region_of(rank()), cluster.region_of(peer));
  return link == nullptr ? -1 : static_cast<int>(link - cluster.topology.wan.data());
}

ChannelPlan CommunicatorImpl::point_to_point_channel(int peer) const {
  // Nobody knows which other ranks send at the same time, so each starts with the share that it has when all of its
  // region do; the lease gives it what they leave.
  const Cluster& cluster = members_.cluster;
  ChannelPlan plan;
  plan.rtt_seconds = (cluster.latency(rank(), peer) + cluster.latency(peer, rank())).count();
  const int wan = wan_between(peer);
  if (wan < 0 || domain_->leases() == nullptr) return plan;
  int senders = 0;
  for (int r = 0; r < size(); ++r) senders += cluster.region_of(r) == cluster.region_of(rank()) ? 1 : 0;
  const double budget = domain_->leases()->budget(static_cast<std::uint32_t>(wan));
  plan.rate_bytes_per_second = budget / senders;
  plan.window_bytes = static_cast<std::size_t>(budget * plan.rtt_seconds * 1.25);
  plan.loss = cluster.topology.wan[static_cast<std::size_t>(wan)].loss;
  return plan;
}

void CommunicatorImpl::lease(WorkState& work, std::span<const LeasedFlow> flows) {
  if (flows.empty() || domain_->leases() == nullptr) return;
  work.leased.assign(flows.begin(), flows.end());
  domain_->leases()->begin(work.leased);
}

Status CommunicatorImpl::connect(PlanEntry& entry, TimePoint deadline) {
  if (entry.channel_epoch == domain_->channel_epoch()) return {};
  const Schedule& schedule = entry.plan->schedule();
  const auto& uses = entry.plan->plan().channels;
  entry.channels.resize(schedule.channels.size());
  entry.flows.clear();
  entry.takes_devices.clear();
  for (std::size_t i = 0; i < schedule.channels.size(); ++i) {
    const ScheduleChannel& to = schedule.channels[i];
    const Peer& peer = members_.peers[static_cast<std::size_t>(to.peer)];
    const ChannelPlan use = i < uses.size() ? uses[i] : ChannelPlan{};
    LONGSPAN_ASSIGN(entry.channels[i], domain_->channel(peer, to.tier, use, deadline));
    entry.takes_devices.push_back(domain_->takes_devices(peer.id) ? 1 : 0);
    const int wan = wan_between(to.peer);
    if (wan < 0 || use.rate_bytes_per_second <= 0) continue;
    // Leases are in terms of what is stated, whatever it was planned from.
    const double rate =
        use.rate_bytes_per_second / (entry.shares.empty() ? 1 : entry.shares[static_cast<std::size_t>(wan)]);
    entry.flows.push_back(LeasedFlow{entry.channels[i], static_cast<std::uint32_t>(wan), Claim{rate, rate}});
  }
  entry.channel_epoch = domain_->channel_epoch();
  return {};
}

Status CommunicatorImpl::wait(WorkState& work, TimePoint deadline) {
  if (work.done.load(std::memory_order_acquire)) return work.status;
  Domain::Lock lock = domain_->lock();
  const auto done = [&work] { return work.done.load(std::memory_order_relaxed); };
  if (domain_->drive_until(lock, done, std::min(deadline, work.deadline))) return work.status;
  if (Clock::now() < work.deadline) {
    return Status(StatusCode::kTimeout, "the operation still runs; this wait's time is over");
  }
  check_deadlines(Clock::now());
  if (!domain_->drive_until(lock, done, Clock::now() + kVerdictGrace)) {
    domain_->defer([this] { fail(suspected_); });
    domain_->run_deferred();
  }
  return work.status;
}

bool CommunicatorImpl::test(WorkState& work) {
  if (work.done.load(std::memory_order_acquire)) return true;
  Domain::Lock lock = domain_->lock();
  domain_->progress(lock);
  return work.done.load(std::memory_order_relaxed);
}

void CommunicatorImpl::set_timeout(std::chrono::nanoseconds timeout) {
  const Domain::Lock lock = domain_->lock();
  timeout_ = timeout;
}

void CommunicatorImpl::set_deadline(WorkState& work, std::chrono::nanoseconds timeout) const {
  work.timeout = timeout.count() > 0 ? timeout : timeout_;
  work.deadline = Clock::now() + work.timeout;
}

Status CommunicatorImpl::error() {
  Domain::Lock lock = domain_->lock();
  return error_;
}

Result<PlanSummary> CommunicatorImpl::explain(const CollectiveShape& shape, std::size_t bytes) {
  Domain::Lock lock = domain_->lock();
  PlanSummary summary;
  const Bound bound = stated_.bound(shape, static_cast<double>(bytes));
  summary.bound_seconds = bound.seconds;
  summary.bound_cut = bound.cut;
  if (size() == 1) {
    summary.algorithm = "copy";
    return summary;
  }
  LONGSPAN_ASSIGN(const Decision decision, planner().decide(shape, bytes));
  summary.algorithm = decision.full_name();
  summary.chunks = decision.chunks;
  summary.predicted_seconds = decision.predicted_seconds;
  return summary;
}

void CommunicatorImpl::settle(WorkState& work) {
  if (const Status& failure = work.execution->failure(); !failure.ok()) {
    return report(failure.with_context(fmt::format("{} #{} on {}", name_of(work.call.kind), work.seq,
                                                   members_.cluster.describe(rank()))),
                  rank());
  }
  if (work.execution->done()) return finish(work, {});
  if (!work.execution->answered() || work.done.load(std::memory_order_relaxed)) return;
  domain_->trail_begins();
  answer(work, {});
}

void CommunicatorImpl::answer(WorkState& work, Status status) {
  leave_stream(work);
  work.status = std::move(status);
  work.done.store(true, std::memory_order_release);
  for (const auto& callback : work.callbacks) callback(work.status);
  work.callbacks.clear();
  domain_->wake_waiters();
}

void CommunicatorImpl::finish(WorkState& work, Status status) {
  const auto self = std::find_if(active_.begin(), active_.end(), [&](const auto& each) { return each.get() == &work; });
  const bool answered = work.done.load(std::memory_order_relaxed);
  if (self == active_.end() && answered) return;
  const std::shared_ptr<WorkState> keep = self == active_.end() ? nullptr : std::move(*self);
  if (self != active_.end()) active_.erase(self);
  if (work.execution != nullptr) {
    work.execution->reset();
    if (status.ok()) work.entry->idle.push_back(std::move(work.execution));
    else work.execution.reset();
  }
  if (work.point_to_point) point_to_point_.drop(work);
  if (work.staged != nullptr) work.staged->end();
  if (!work.leased.empty()) domain_->leases()->end(work.leased);
  work.own_input = {};
  if (!answered) return answer(work, std::move(status));
  domain_->trail_ends();
  domain_->wake_waiters();  // close() waits for the last
}

}  // namespace longspan::runtime
