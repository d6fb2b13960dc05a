#include "runtime/fault_desk.hpp"

#include <algorithm>

#include "runtime/communicator_impl.hpp"
#include "runtime/job.hpp"

namespace longspan::runtime {

Result<std::unique_ptr<FaultDesk>> FaultDesk::open(Job& job, bootstrap::Rendezvous met) {
  std::unique_ptr<FaultDesk> desk(new FaultDesk(job));
  bootstrap::ControlOptions options;
  options.hub.describe = [&job](int rank) { return job.cluster().describe(rank); };
  options.wait_report = [raw = desk.get()](std::uint64_t comm, std::uint64_t seq) { return raw->report(comm, seq); };
  LONGSPAN_ASSIGN(desk->control_, bootstrap::ControlPlane::create(std::move(met), std::move(options)));
  return desk;
}

bool FaultDesk::send(CommunicatorImpl& comm, const Status& status, int blamed_rank) {
  if (job_.cluster().size() < 2) return false;
  bootstrap::Fault fault;
  fault.comm = comm.id();
  fault.code = status.code();
  fault.text = std::string(status.message());
  if (blamed_rank >= 0) fault.blamed = comm.members().world_ranks[static_cast<std::size_t>(blamed_rank)];
  if (const WorkState* oldest = comm.oldest();
      oldest != nullptr && !oldest->point_to_point && status.code() != StatusCode::kAborted) {
    fault.seq = oldest->seq;
    if (oldest->execution != nullptr) fault.step = static_cast<int>(oldest->execution->waiting_for().step);
  }
  control_->send_fault(fault);
  poll();  // a hub may decide at once
  return true;
}

void FaultDesk::poll() {
  control_->poll();
  while (const auto note = control_->next_note()) job_.on_note(note->from, note->text);
  while (const auto verdict = control_->next_verdict()) {
    for (CommunicatorImpl* comm : job_.domain()->communicators()) {
      const auto& members = comm->members();
      const bool concerned = verdict->comm == comm->id() ||
                             (verdict->comm == bootstrap::kEveryCommunicator &&
                              std::find(members.world_ranks.begin(), members.world_ranks.end(), verdict->root) !=
                                  members.world_ranks.end());
      if (!concerned) continue;
      job_.domain()->defer([self = comm->shared_from_this(), status = verdict->status()] { self->fail(status); });
    }
  }
}

bootstrap::WaitReport FaultDesk::report(std::uint64_t comm, std::uint64_t seq) const {
  bootstrap::WaitReport report;
  report.comm = comm;
  report.seq = seq;
  for (const CommunicatorImpl* each : job_.domain()->communicators()) {
    if (each->id() == comm) each->fill(report);
  }
  return report;
}

}  // namespace longspan::runtime
