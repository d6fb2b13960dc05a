// Sends and receives: how they begin, and how they fail.
#include <fmt/format.h>

#include "runtime/communicator_impl.hpp"

namespace longspan::runtime {

std::shared_ptr<WorkState> CommunicatorImpl::start_message(const Message& message) {
  auto work = std::make_shared<WorkState>();
  work->comm = shared_from_this();
  work->point_to_point = true;
  work->receives = message.receives;
  work->data = static_cast<std::byte*>(message.data);
  work->element_size = size_of(message.type);
  work->bytes = message.count * work->element_size;
  work->peer = message.peer;
  work->tag = message.tag;
  work->call.stream = message.stream;
  if (refuse_child(*work)) return work;
  (message.receives ? work->out_place : work->in_place) = device::place_of(message.data);
  if (message.stream != nullptr) {
    start_in_stream(work, message.grouped);
    return work;
  }
  Domain::Lock lock = domain_->lock();
  set_deadline(*work, {});
  launch_message(work);
  if (!work->done.load(std::memory_order_relaxed)) domain_->work_started(lock);
  return work;
}

void CommunicatorImpl::launch_message(const std::shared_ptr<WorkState>& work) {
  Status status = error_;
  const bool any = work->receives && work->peer == kAnySource;
  if (status.ok() && !any && (work->peer < 0 || work->peer >= size() || work->peer == rank())) {
    status = Status(StatusCode::kInvalidArgument,
                    fmt::format("{}: peer {} must be another rank of 0 to {}{}", operation_of(*work), work->peer,
                                size() - 1, work->receives ? ", or kAnySource" : ""));
  }
  if (status.ok()) status = find_devices(*work);
  active_.push_back(work);
  if (status.ok()) status = work->receives ? point_to_point_.recv(*work) : point_to_point_.send(*work);
  if (status.ok()) return;
  if (work->staged == nullptr) return finish(*work, status);
  message_failed(*work, status);  // the peer waits for it, and the transport may refer to it
}

std::string CommunicatorImpl::operation_of(const WorkState& work) const {
  if (!work.point_to_point) return std::string(name_of(work.call.kind));
  return work.receives ? "recv" : "send";
}

std::string CommunicatorImpl::describe_operation(const WorkState& work) const {
  if (!work.point_to_point) return fmt::format("{} #{}", name_of(work.call.kind), work.seq);
  return fmt::format("{} {} {} (tag {})", work.receives ? "receive" : "send", work.receives ? "from" : "to",
                     work.peer < 0 ? "any rank" : describe(work.peer), work.tag);
}

void CommunicatorImpl::message_failed(const WorkState& work, const Status& status) {
  report(status.with_context(fmt::format("{} on {}", describe_operation(work), describe(rank()))), rank());
}

}  // namespace longspan::runtime
