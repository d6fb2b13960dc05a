#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>

#include "longspan/export.hpp"
#include "longspan/status.hpp"

namespace longspan {

namespace runtime {
struct WorkState;
}

/// A started operation. Copies refer to the same operation. Buffers must stay until it is done; dropping the handle
/// does not cancel it.
///
///     longspan::Work work = comm.all_reduce_async(in, out, n, longspan::DataType::kFloat32, longspan::ReduceOp::kSum);
///     compute();
///     if (auto status = work.wait(); !status.ok()) die(status.to_string());
class LONGSPAN_API Work {
 public:
  Work() noexcept = default;
  explicit Work(std::shared_ptr<runtime::WorkState> state) noexcept : state_(std::move(state)) {}

  /// Blocks until it is done, drives progress meanwhile. Ends with the operation's own deadline (Options::timeout).
  Status wait();
  /// As wait, but gives up after `timeout` with kTimeout; the operation itself goes on.
  Status wait_for(std::chrono::nanoseconds timeout);
  /// True when it is done, well or badly; progresses a little and never blocks.
  bool test();
  /// How it ended; ok while it runs.
  Status status() const;
  /// Calls `callback` once when it is done, from whichever thread drives progress (at once if it is done already). The
  /// callback must be short and must not call longspan.
  void then(std::function<void(const Status&)> callback);
  /// Receives: who sent, and how many elements. Valid once done.
  int source() const;
  std::size_t received_count() const;

 private:
  std::shared_ptr<runtime::WorkState> state_;  // shared with the communicator while it runs
};

}  // namespace longspan
