#include "driver.hpp"

using fake_cuda::Code;

CUstream_st::CUstream_st(CUctx_st* its_context) : context(its_context), thread_([this] { work(); }) {}

CUstream_st::~CUstream_st() {
  {
    const std::lock_guard guard(mutex_);
    ends_ = true;
    changed_.notify_all();
  }
  thread_.join();
}

Code CUstream_st::put(std::function<Code()> operation) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return queue_.size() < fake_cuda::kMostQueued || failure_ != 0; });
  if (failure_ != 0) return failure_;
  queue_.push_back(std::move(operation));
  changed_.notify_all();
  return 0;
}

Code CUstream_st::query() {
  const std::lock_guard guard(mutex_);
  if (failure_ != 0) return failure_;
  return queue_.empty() && !busy_ ? 0 : longspan::device::cuda::kNotReady;
}

Code CUstream_st::synchronize() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return (queue_.empty() && !busy_) || failure_ != 0; });
  return failure_;
}

void CUstream_st::work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return ends_ || !queue_.empty(); });
    if (queue_.empty() || failure_ != 0) {
      if (ends_) return;
      changed_.wait(lock, [this] { return ends_; });
      return;
    }
    const auto operation = std::move(queue_.front());
    queue_.pop_front();
    busy_ = true;
    lock.unlock();
    const Code code = operation();
    lock.lock();
    busy_ = false;
    if (code != 0) failure_ = code;
    changed_.notify_all();
  }
}
