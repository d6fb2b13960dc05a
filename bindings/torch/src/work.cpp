#include "bindings/torch/src/work.hpp"

#include <c10/util/Exception.h>
#include <torch/csrc/distributed/c10d/exception.h>

#include <thread>
#include <utility>

#include <longspan/status.hpp>

namespace longspan::torch_binding {
namespace {

constexpr std::size_t kMostThreads = 16;  // callbacks that wait for each other deeper than this would wait for ever

std::exception_ptr error_of(const Status& status) {
  if (status.ok()) return nullptr;
  // Programs that know other backends look for these words.
  const std::string what = status.code() == StatusCode::kTimeout ? "Timed out waiting: " + std::string(status.message()) : status.to_string();
  return std::make_exception_ptr(
      c10::DistBackendError(c10::SourceLocation{__func__, __FILE__, static_cast<std::uint32_t>(__LINE__)}, "longspan: " + what));
}

}  // namespace

Finisher::~Finisher() {
  std::vector<std::thread> threads;
  {
    const std::lock_guard lock(state_->mutex);
    state_->stopping = true;
    threads.swap(state_->threads);
  }
  state_->wake.notify_all();
  for (std::thread& thread : threads) {
    if (thread.get_id() == std::this_thread::get_id()) {
      thread.detach();  // it ends by itself when what it runs now is over
    } else {
      thread.join();
    }
  }
}

void Finisher::take(c10::intrusive_ptr<LongspanWork> work) {
  {
    const std::lock_guard lock(state_->mutex);
    state_->queue.push_back(std::move(work));
    if (state_->idle < state_->queue.size() && state_->threads.size() < kMostThreads && !state_->stopping) {
      state_->threads.emplace_back([state = state_] { run(*state); });
    }
  }
  state_->wake.notify_one();
}

void Finisher::run(State& state) {
  std::unique_lock lock(state.mutex);
  while (true) {
    ++state.idle;
    state.wake.wait(lock, [&] { return state.stopping || !state.queue.empty(); });
    --state.idle;
    if (state.queue.empty()) return;
    c10::intrusive_ptr<LongspanWork> work = std::move(state.queue.front());
    state.queue.pop_front();
    lock.unlock();
    work->conclude();
    work.reset();  // frees tensors, and perhaps Python objects: not under the lock
    lock.lock();
  }
}

LongspanWork::LongspanWork(int rank, Plan plan)
    : c10d::Work(rank, plan.type, plan.title, plan.inputs),
      plan_(std::move(plan)),
      future_(c10::make_intrusive<c10::ivalue::Future>(c10::ListType::create(c10::TensorType::get()))) {}

void LongspanWork::follow(std::vector<longspan::Work> operations, Finisher& finisher) {
  operations_ = std::move(operations);
  open_.store(operations_.size() + 1);
  const auto one_over = [self = c10::intrusive_ptr<LongspanWork>::reclaim_copy(this), &finisher](const Status&) {
    if (self->open_.fetch_sub(1) == 1) finisher.take(self);
  };
  for (longspan::Work& operation : operations_) operation.then(one_over);
  one_over({});
}

void LongspanWork::conclude() {
  if (concluding_.exchange(true)) return;
  Status first;
  for (const longspan::Work& operation : operations_) {
    if (first.ok()) first = operation.status();
  }
  std::exception_ptr error = error_of(first);
  if (error == nullptr && plan_.conclude) {
    try {
      plan_.conclude();
    } catch (...) {
      error = std::current_exception();
    }
  }
  ended_ = std::chrono::steady_clock::now();
  // What was only needed on the way is freed now: a caller may keep its Work for long.
  plan_.conclude = nullptr;
  plan_.held.clear();
  plan_.inputs.clear();
  finish(error);
  if (error != nullptr) {
    future_->setError(error);
  } else {
    future_->markCompleted(at::IValue(plan_.outputs));
  }
}

bool LongspanWork::isSuccess() const {
  const std::lock_guard lock(mutex_);
  return completed_ && exception_ == nullptr;
}

int LongspanWork::sourceRank() const {
  TORCH_CHECK(operations_.size() == 1 && (opType_ == c10d::OpType::RECV || opType_ == c10d::OpType::RECVANYSOURCE),
              "sourceRank() may only be called on work objects that correspond to a recv or recv-from-any call.");
  return operations_[0].source();
}

bool LongspanWork::wait(std::chrono::milliseconds timeout) {
  const auto give_up = std::chrono::steady_clock::now() + timeout;
  for (longspan::Work& operation : operations_) {
    if (timeout <= kNoTimeout) {
      (void)operation.wait();  // its status is taken when it is concluded
      continue;
    }
    const Status status = operation.wait_for(give_up - std::chrono::steady_clock::now());
    TORCH_CHECK_WITH(DistBackendError, operation.test(), "longspan: Timed out waiting ", timeout.count(), "ms for ",
                     c10d::opTypeToString(opType_), ": ", status.to_string());
  }
  conclude();
  std::unique_lock lock(mutex_);
  cv_.wait(lock, [this] { return completed_; });  // the finisher may be at it
  if (exception_ != nullptr) std::rethrow_exception(exception_);
  return true;
}

float LongspanWork::getDuration() const {
  const std::lock_guard lock(mutex_);
  TORCH_CHECK(completed_, "getDuration can only be called after the work has completed");
  return std::chrono::duration<float, std::milli>(ended_ - started_).count();
}

}  // namespace longspan::torch_binding
