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

/// Ends works whose communication is over when nobody waits for them: copies results out and runs the callbacks of their
/// futures, which may be Python and slow, away from the thread that drives the network. A callback may wait for another
/// work's future (PowerSGD's does), so there is another thread whenever all are busy.
class Finisher {
 public:
  Finisher() = default;
  Finisher(const Finisher&) = delete;
  Finisher& operator=(const Finisher&) = delete;
  ~Finisher();
  void take(c10::intrusive_ptr<LongspanWork> work);

 private:
  struct State {
    std::mutex mutex;
    std::condition_variable wake;
    std::deque<c10::intrusive_ptr<LongspanWork>> queue;
    std::size_t idle = 0;
    bool stopping = false;
    std::vector<std::thread> threads;
  };
  static void run(State& state);
  std::shared_ptr<State> state_ = std::make_shared<State>();  // the threads' too: a callback may destroy the process group
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

  /// Hands over the operations, started in order; once. `finisher` outlives them.
  void follow(std::vector<longspan::Work> operations, Finisher& finisher);
  /// Ends it, if nobody did: results out, futures completed. All operations are over.
  void conclude();

  bool isSuccess() const override;
  int sourceRank() const override;
  std::vector<at::Tensor> result() override { return plan_.outputs; }
  void synchronize() override { wait(kNoTimeout); }
  /// Blocks until it is over and throws what went wrong. `timeout` > 0: gives up after it with an error; the operation
  /// itself goes on to its own deadline.
  bool wait(std::chrono::milliseconds timeout) override;
  c10::intrusive_ptr<c10::ivalue::Future> getFuture() override { return future_; }
  float getDuration() const override;
  std::uint64_t getSequencenumber() const override { return plan_.sequence; }

 private:
  Plan plan_;
  std::vector<longspan::Work> operations_;
  std::atomic<std::size_t> open_{0};
  std::atomic<bool> concluding_{false};
  std::chrono::steady_clock::time_point started_ = std::chrono::steady_clock::now();
  std::chrono::steady_clock::time_point ended_{};
  c10::intrusive_ptr<c10::ivalue::Future> future_;
};

}  // namespace longspan::torch_binding
