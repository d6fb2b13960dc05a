// How operations end badly: what a transport, a deadline, an abort or another rank reports becomes one error of the
// communicator.
#include <fmt/format.h>

#include <algorithm>

#include "base/log.hpp"
#include "runtime/communicator_impl.hpp"
#include "runtime/job.hpp"

namespace longspan::runtime {
namespace {

using namespace std::chrono_literals;
constexpr std::size_t kEarlyDigests = 4096;

/// What the channels to `peers` say keeps them from moving data: "; rank 3 (host us-1, region us): connection 1 of 2
/// ...".
std::string troubles_of(const WorkState& work, const std::vector<int>& peers, const Cluster& cluster) {
  std::string text;
  if (work.entry == nullptr) return text;
  const auto& planned = work.execution->plan().schedule().channels;
  const auto& open = work.entry->channels;
  for (std::size_t i = 0; i < std::min(planned.size(), open.size()); ++i) {
    if (open[i] == nullptr || std::find(peers.begin(), peers.end(), planned[i].peer) == peers.end()) continue;
    if (const std::string trouble = open[i]->trouble(); !trouble.empty()) {
      text += fmt::format("; {}: {}", cluster.describe(planned[i].peer), trouble);
    }
  }
  return text;
}

}  // namespace

void CommunicatorImpl::on_completion(spi::Completion& completion) {
  const auto raw = reinterpret_cast<std::uintptr_t>(completion.context);
  if (raw == 0) return;
  if ((raw & 1U) != 0) {
    const bool staged = StagedMessage::owns(completion.context);
    auto& work = staged ? StagedMessage::of(completion.context)->work()
                        : *reinterpret_cast<WorkState*>(raw & ~std::uintptr_t{1});
    if (work.done.load(std::memory_order_relaxed)) return;
    CommunicatorImpl& comm = *work.comm;
    if (completion.status.ok()) {
      return staged ? StagedMessage::completed(completion) : comm.point_to_point_.completed(work, completion);
    }
    if (completion.status.code() == StatusCode::kMismatch) {  // too long for its buffer: the pair's affair alone
      return comm.finish(work, Status(StatusCode::kInvalidArgument, std::string(completion.status.message())));
    }
    return comm.report(completion.status, work.peer);
  }
  executor::Execution* execution = executor::Execution::of(completion.context);
  auto& work = *static_cast<WorkState*>(execution->owner);
  CommunicatorImpl& comm = *work.comm;
  if (!completion.status.ok()) {
    const int peer = comm.rank_of(completion.peer);
    const Status status = completion.status.with_context(
        fmt::format("{} #{} on {}", name_of(work.call.kind), work.seq, comm.members_.cluster.describe(comm.rank())));
    return comm.report(status, peer);
  }
  execution->completed(completion);
  comm.settle(work);
}

void CommunicatorImpl::on_arrival(spi::Completion& completion) {
  const int source = rank_of(completion.peer);
  if (source < 0) return;
  if ((completion.id.comm & kPointToPointBit) != 0) return point_to_point_.arrived(source, completion);
  for (const auto& work : active_) {
    if (work->point_to_point || work->seq != completion.id.seq || work->execution == nullptr) continue;
    if (work->digest == completion.digest) return;
    report(Status(StatusCode::kMismatch,
                  fmt::format("{} #{}: {} and {} called it with different arguments (here: {})",
                              name_of(work->call.kind), work->seq, members_.cluster.describe(rank()),
                              members_.cluster.describe(source), describe_call(*work))),
           source);
    return;
  }
  if (completion.id.seq < next_seq_) return;
  if (early_digests_.size() >= kEarlyDigests) early_digests_.erase(early_digests_.begin());
  early_digests_.push_back(EarlyDigest{completion.id.seq, source, completion.digest});
}

void CommunicatorImpl::check_early_digests(const WorkState& work, std::uint64_t digest) {
  for (const EarlyDigest& early : early_digests_) {
    if (early.seq != work.seq || early.digest == digest) continue;
    report(
        Status(StatusCode::kMismatch, fmt::format("{} #{}: {} and {} called it with different arguments (here: {})",
                                                  name_of(work.call.kind), work.seq, members_.cluster.describe(rank()),
                                                  members_.cluster.describe(early.rank), describe_call(work))),
        early.rank);
    break;
  }
  std::erase_if(early_digests_, [&](const EarlyDigest& each) { return each.seq <= work.seq; });
}

void CommunicatorImpl::on_broken(spi::PeerId peer, const Status& status) {
  const int rank = rank_of(peer);
  if (rank < 0) return;
  const bool concerned = std::any_of(active_.begin(), active_.end(), [&](const auto& work) {
    if (work->point_to_point) return work->peer == rank;
    if (work->execution == nullptr) return false;
    const auto& channels = work->execution->plan().schedule().channels;
    return std::any_of(channels.begin(), channels.end(),
                       [&](const ScheduleChannel& each) { return each.peer == rank; });
  });
  if (concerned) report(status, rank);
}

std::string CommunicatorImpl::describe_call(const WorkState& work) const {
  return fmt::format("{} of {} {}, {}, root {}", name_of(work.call.kind), work.call.count, name_of(work.call.type),
                     reduces(work.call.kind) ? name_of(work.call.op) : "no op", work.call.root);
}

void CommunicatorImpl::report(const Status& status, int blamed_rank) {
  if (reported_ || !error_.ok()) return;
  reported_ = true;
  suspected_ = status;
  verdict_by_ = Clock::now() + kVerdictGrace;
  log::debug("{}: reports {}", members_.cluster.describe(rank()), status.to_string());
  if (job_->send_fault(*this, status, blamed_rank)) return;
  domain_->defer([self = shared_from_this()] { self->fail(self->suspected_); });
}

void CommunicatorImpl::check_deadlines(TimePoint now) {
  if (reported_ && error_.ok() && now >= verdict_by_) {
    domain_->defer([self = shared_from_this()] { self->fail(self->suspected_); });
    domain_->run_deferred();
    return;
  }
  for (const auto& work : active_) {
    if (now < work->deadline) continue;
    const auto seconds = std::chrono::duration<double>(work->timeout).count();
    std::string text;
    int blamed = -1;
    if (work->entry_in_stream != 0) {
      blamed = rank();
      text = fmt::format(
          "{}: its stream did not come to it within {} s on {}; what is before it in the stream still runs",
          describe_operation(*work), seconds, describe(rank()));
    } else if (work->point_to_point) {
      blamed = work->peer;
      text = fmt::format("{} did not finish within {} s", describe_operation(*work), seconds);
    } else {
      const auto waiting = work->execution->waiting_for();
      std::string peers;
      for (const int peer : waiting.peers) peers += (peers.empty() ? "" : ", ") + members_.cluster.describe(peer);
      if (!waiting.peers.empty()) blamed = waiting.peers.front();
      text = fmt::format("{} #{} did not finish within {} s; {} waits for {} (step {}, chunk {})",
                         name_of(work->call.kind), work->seq, seconds, members_.cluster.describe(rank()), peers,
                         waiting.step, waiting.chunk);
      text += troubles_of(*work, waiting.peers, members_.cluster);
    }
    report(Status(StatusCode::kTimeout, text), blamed);
    domain_->run_deferred();
    return;
  }
}

void CommunicatorImpl::fail(const Status& status) {
  if (!error_.ok()) return;
  error_ = status;
  reported_ = true;
  domain_->forget(members_.id);  // before buffers and executions go: nothing refers to them afterwards
  point_to_point_.drop_all();
  while (!active_.empty()) finish(*active_.front(), status);
}

const WorkState* CommunicatorImpl::oldest() const {
  const auto waited_for = std::find_if(active_.begin(), active_.end(),
                                       [](const auto& work) { return !work->done.load(std::memory_order_relaxed); });
  if (waited_for != active_.end()) return waited_for->get();
  return active_.empty() ? nullptr : active_.front().get();
}

void CommunicatorImpl::fill(bootstrap::WaitReport& report) const {
  report.member = true;
  report.next_seq = next_seq_;
  report.busy = busy();
  const auto& [seq, call] = recent_calls_[report.seq % recent_calls_.size()];
  if (seq == report.seq && call.entry != nullptr) {
    report.call = {call.kind, call.count, call.type, call.op, call.root, call.entry->name, call.digest};
  }
  for (const auto& work : active_) {
    if (work->execution == nullptr || (report.seq != bootstrap::kNoSeq && work->seq != report.seq)) continue;
    const auto waiting = work->execution->waiting_for();
    for (const int peer : waiting.peers) {
      report.waiting_on.push_back(members_.world_ranks[static_cast<std::size_t>(peer)]);
    }
    report.step = static_cast<int>(waiting.step);
    break;
  }
}

void CommunicatorImpl::abort(const std::string& reason) {
  Domain::Lock lock = domain_->lock();
  if (!error_.ok()) return;
  const Status status(StatusCode::kAborted,
                      fmt::format("{} called abort(): {}", members_.cluster.describe(rank()), reason));
  job_->send_fault(*this, status, rank());
  domain_->defer([self = shared_from_this(), status] { self->fail(status); });
  domain_->run_deferred();
  domain_->work_started(lock);
}

void CommunicatorImpl::close() {
  Domain::Lock lock = domain_->lock();
  if (error_.ok() && busy()) {
    fail(Status(StatusCode::kAborted, "the communicator was destroyed while this operation ran"));
  }
  // Others wait for what this rank's finished calls still send.
  TimePoint deadline{};
  for (const auto& work : active_) deadline = std::max(deadline, work->deadline);
  if (!domain_->drive_until(lock, [this] { return active_.empty(); }, deadline)) {
    fail(
        Status(StatusCode::kTimeout, "the communicator was destroyed, and what it had to send did not go out in time"));
  }
  domain_->remove(members_.id);
  free_all();
}

}  // namespace longspan::runtime
