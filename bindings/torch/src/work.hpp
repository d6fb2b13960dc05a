#pragma once

#include <ATen/core/ivalue.h>
#include <torch/csrc/distributed/c10d/Work.hpp>

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include <longspan/work.hpp>

namespace longspan::torch_binding {

class LongspanWork;

/// Ends works whose communication is over when nobody waits for them: copies results out and runs the callbacks of
/// their futures, which may be Python and slow, away from the thread that drives the network. A callback may wait for
/// another work's future (PowerSGD's does), so there is another thread whenever all are busy. Threads start when first
/// needed.
class Finisher {
 public:
  struct State;
  Finisher();
  Finisher(const Finisher&) = delete;
  Finisher& operator=(const Finisher&) = delete;
  /// Ends what it has; works that are still handed over afterwards are ended too.
  ~Finisher();
  const std::shared_ptr<State>& state() const noexcept { return state_; }

 private:
  std::shared_ptr<State> state_;  // the threads' too: a callback may destroy the process group
};

/// One call of torch.distributed: one or more operations of longspan, and what is to be done when all are over.
class LongspanWork final : public c10d::Work {
 public:
  struct Plan {
    c10d::OpType type = c10d::OpType::UNKNOWN;
    const char* title = nullptr;
    std::uint64_t sequence = 0;
    std::vector<at::Tensor> inputs;    ///< for the profiler
    std::vector<at::Tensor> outputs;   ///< result()
    std::vector<at::Tensor> held;      ///< memory that the operations use
    std::function<void()> conclude;    ///< copies results to where they belong; may be empty
  };
  LongspanWork(int rank, Plan plan);

  /// Hands over the operations, started in order; once. What is over already is ended here and now.
  void follow(std::vector<longspan::Work> operations, const std::shared_ptr<Finisher::State>& finisher);
  /// Ends it, if nobody did: results out, futures completed. All operations are over.
  void conclude();

  bool isSuccess() const override;
  int sourceRank() const override;
  std::vector<at::Tensor> result() override { return plan_.outputs; }
  void synchronize() override { wait(kNoTimeout); }
  /// The host is blocked instead: results pass through its memory, no stream has them before it has.
  void blockCurrentStream() override { wait(kNoTimeout); }
  /// Blocks until it is over, drives it meanwhile, and throws what went wrong. `timeout` > 0: gives up after it with an
  /// error; the operation itself goes on to its own deadline.
  bool wait(std::chrono::milliseconds timeout) override;
  c10::intrusive_ptr<c10::ivalue::Future> getFuture() override;
  c10::intrusive_ptr<c10::ivalue::Future> getFutureResult() override;
  float getDuration() const override;
  std::uint64_t getSequencenumber() const override { return plan_.sequence; }

 private:
  using FuturePtr = c10::intrusive_ptr<c10::ivalue::Future>;
  void wait_for_operations(std::chrono::milliseconds timeout);
  /// Completes the futures that were asked for, when it is over.
  void settle_futures();

  Plan plan_;
  std::vector<longspan::Work> operations_;
  std::atomic<std::size_t> open_{0};     // operations, and one until all are handed over
  std::atomic<int> waiting_{0};          // threads in wait(), one of which will conclude
  std::atomic<bool> concluding_{false};
  c10d::WorkResult outcome_ = c10d::WorkResult::UNKNOWN;
  std::chrono::steady_clock::time_point started_ = std::chrono::steady_clock::now();
  std::chrono::steady_clock::time_point ended_{};
  FuturePtr future_;         // made when asked for, under mutex_
  FuturePtr result_future_;
  bool future_settled_ = false;
  bool result_settled_ = false;
};

}  // namespace longspan::torch_binding
