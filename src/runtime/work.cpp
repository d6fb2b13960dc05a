#include "longspan/work.hpp"

#include "base/clock.hpp"
#include "runtime/communicator_impl.hpp"
#include "runtime/work_state.hpp"

namespace longspan {

Status Work::wait() {
  if (state_ == nullptr) return {};
  if (state_->done.load(std::memory_order_acquire)) return state_->status;
  return state_->comm->wait(*state_, TimePoint::max());
}

Status Work::wait_for(std::chrono::nanoseconds timeout) {
  if (state_ == nullptr) return {};
  if (state_->done.load(std::memory_order_acquire)) return state_->status;
  return state_->comm->wait(*state_, Clock::now() + timeout);
}

bool Work::test() {
  return state_ == nullptr || state_->done.load(std::memory_order_acquire) || state_->comm->test(*state_);
}

Status Work::status() const {
  if (state_ == nullptr || !state_->done.load(std::memory_order_acquire)) return {};
  return state_->status;
}

void Work::then(std::function<void(const Status&)> callback) {
  if (state_ == nullptr || state_->done.load(std::memory_order_acquire)) return callback(status());
  {
    const auto lock = state_->comm->domain().lock();
    if (!state_->done.load(std::memory_order_relaxed)) {
      state_->callbacks.push_back(std::move(callback));
      return;
    }
  }
  callback(state_->status);
}

int Work::source() const { return state_ == nullptr ? kAnySource : state_->peer; }

std::size_t Work::received_count() const {
  return state_ == nullptr ? 0 : state_->bytes / state_->element_size;
}

}  // namespace longspan
