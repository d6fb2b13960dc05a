#include "bindings/torch/src/work.hpp"

#include <c10/util/Exception.h>
#include <torch/csrc/distributed/c10d/exception.h>

#include <algorithm>
#include <thread>
#include <utility>

#include <longspan/status.hpp>

namespace longspan::torch_binding {
namespace {

constexpr std::size_t kMostThreads = 16;  // callbacks that wait for each other deeper than this would wait for ever

std::exception_ptr error_of(const Status& status) {
  if (status.ok()) return nullptr;
  // Programs that know other backends look for these words.
  const std::string what = status.code() == StatusCode::kTimeout ? "Timed out waiting: " + std::string(status.message())
                                                                 : status.to_string();
  return std::make_exception_ptr(c10::DistBackendError(
      c10::SourceLocation{__func__, __FILE__, static_cast<std::uint32_t>(__LINE__)}, "longspan: " + what));
}

c10d::WorkResult outcome_of(const Status& status, bool failed) {
  if (!failed) return c10d::WorkResult::SUCCESS;
  return status.code() == StatusCode::kTimeout ? c10d::WorkResult::TIMEOUT : c10d::WorkResult::COMM_ERROR;
}

/// Devices other than the host: a future records and waits for their streams.
std::vector<c10::Device> devices_of(const std::vector<at::Tensor>& tensors) {
  std::vector<c10::Device> devices;
  for (const at::Tensor& tensor : tensors) {
    const c10::Device device = tensor.device();
    if (device.is_cpu() || std::find(devices.begin(), devices.end(), device) != devices.end()) continue;
    devices.push_back(device);
  }
  return devices;
}

}  // namespace

struct Finisher::State {
  std::mutex mutex;
  std::condition_variable wake;
  std::deque<c10::intrusive_ptr<LongspanWork>> queue;
  std::size_t idle = 0;
  bool stopping = false;
  std::vector<std::thread> threads;

  static void run(State& state);
  static void take(const std::shared_ptr<State>& state, c10::intrusive_ptr<LongspanWork> work);
};

Finisher::Finisher() : state_(std::make_shared<State>()) {}

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

void Finisher::State::take(const std::shared_ptr<State>& state, c10::intrusive_ptr<LongspanWork> work) {
  {
    const std::lock_guard lock(state->mutex);
    state->queue.push_back(std::move(work));
    if (state->stopping) {
      // Started beside the end of the process group: nobody joins, so nobody is joined.
      std::thread([state] { run(*state); }).detach();
    } else if (state->idle < state->queue.size() && state->threads.size() < kMostThreads) {
      state->threads.emplace_back([state] { run(*state); });
    }
  }
  state->wake.notify_one();
}

void Finisher::State::run(State& state) {
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
    : c10d::Work(rank, plan.type, plan.title, plan.inputs), plan_(std::move(plan)) {}

void LongspanWork::follow(std::vector<longspan::Work> operations, const std::shared_ptr<Finisher::State>& finisher) {
  operations_ = std::move(operations);
  open_.store(operations_.size() + 1);
  for (longspan::Work& operation : operations_) {
    operation.then([self = c10::intrusive_ptr<LongspanWork>::reclaim_copy(this), finisher](const Status&) {
      // A thread in wait() ends it without a change of threads; one that gives up looks once more at what is open.
      if (self->open_.fetch_sub(1) == 1 && self->waiting_.load() == 0 && !self->concluding_.load()) {
        Finisher::State::take(finisher, self);
      }
    });
  }
  // Over already: a small message that its peers were waiting with, or a group of one. Nobody has seen its future yet.
  if (open_.fetch_sub(1) == 1) conclude();
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
  outcome_ = outcome_of(first, error != nullptr);
  // What was only needed on the way is freed now: a caller may keep its Work for long.
  plan_.conclude = nullptr;
  plan_.held.clear();
  plan_.inputs.clear();
  finish(error);
  settle_futures();
}

void LongspanWork::settle_futures() {
  FuturePtr future, result;
  std::exception_ptr error;
  {
    const std::lock_guard lock(mutex_);
    if (!completed_) return;
    if (future_ && !std::exchange(future_settled_, true)) future = future_;
    if (result_future_ && !std::exchange(result_settled_, true)) result = result_future_;
    error = exception_;
  }
  if (result) result->markCompleted(at::IValue(static_cast<std::int64_t>(outcome_)));
  if (!future) return;
  if (error != nullptr) {
    future->setError(error);
  } else {
    future->markCompleted(at::IValue(plan_.outputs));
  }
}

c10::intrusive_ptr<c10::ivalue::Future> LongspanWork::getFuture() {
  static const c10::TypePtr type = c10::ListType::create(c10::TensorType::get());
  FuturePtr future;
  {
    const std::lock_guard lock(mutex_);
    if (!future_) future_ = c10::make_intrusive<c10::ivalue::Future>(type, devices_of(plan_.outputs));
    future = future_;
  }
  settle_futures();
  return future;
}

c10::intrusive_ptr<c10::ivalue::Future> LongspanWork::getFutureResult() {
  FuturePtr future;
  {
    const std::lock_guard lock(mutex_);
    if (!result_future_) result_future_ = c10::make_intrusive<c10::ivalue::Future>(c10::IntType::get());
    future = result_future_;
  }
  settle_futures();
  return future;
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

void LongspanWork::wait_for_operations(std::chrono::milliseconds timeout) {
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
}

bool LongspanWork::wait(std::chrono::milliseconds timeout) {
  if (!concluding_.load()) {
    waiting_.fetch_add(1);
    try {
      wait_for_operations(timeout);
    } catch (...) {
      waiting_.fetch_sub(1);
      if (open_.load() == 0) conclude();  // it ended just now, and whoever saw that left it to us
      throw;
    }
    waiting_.fetch_sub(1);
    conclude();
  }
  std::unique_lock lock(mutex_);
  cv_.wait(lock, [this] { return completed_; });  // another thread may be at it
  if (exception_ != nullptr) std::rethrow_exception(exception_);
  return true;
}

float LongspanWork::getDuration() const {
  const std::lock_guard lock(mutex_);
  TORCH_CHECK(completed_, "getDuration can only be called after the work has completed");
  return std::chrono::duration<float, std::milli>(ended_ - started_).count();
}

}  // namespace longspan::torch_binding
