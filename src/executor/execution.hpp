#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "executor/block_buffer.hpp"
#include "executor/compiled_plan.hpp"
#include "executor/scratch_pool.hpp"
#include "executor/staging.hpp"
#include "longspan/spi/transport.hpp"
#include "longspan/status.hpp"
#include "longspan/types.hpp"

namespace longspan::executor {

/// What one call asks for. Buffers must stay until the execution is done.
struct Call {
  BlockBuffer in;
  BlockBuffer out;
  DataType type = DataType::kFloat32;
  ReduceOp op = ReduceOp::kSum;
  std::uint64_t comm = 0;
  std::uint32_t seq = 0;
  std::uint64_t digest = 0;
  device::Copier* in_copier = nullptr;   ///< where `in` is device memory
  device::Copier* out_copier = nullptr;  ///< where `out` is
  /// The call is done in this device's memory, where both sides are.
  device::Copier* there = nullptr;
  /// With `there`, of each channel: it takes device memory. What goes over others is staged, message by message.
  std::span<const std::uint8_t> takes_devices;
  /// What the input is multiplied with once it was brought down; not 1 only where `in` is staged.
  double in_factor = 1;
};

/// Runs one rank's plan once: admits chunks into slots, starts each step as soon as what it needs is there. A chunk
/// that is ready is sent at once; nothing waits for an earlier send. All calls come from the holder of the Domain's
/// progress.
///
/// `start` and `completed` may finish the execution; the owner then asks `done()`. Objects are reused: nothing is
/// allocated per chunk, and nothing per collective once the sizes have been seen.
class Execution {
 public:
  explicit Execution(std::shared_ptr<const CompiledPlan> plan);  // shared with the communicator's plan cache
  Execution(const Execution&) = delete;
  Execution& operator=(const Execution&) = delete;

  /// Begins. `channels` is indexed as Schedule::channels and must stay valid until done.
  Status start(const Call& call, std::span<spi::Channel* const> channels, ScratchPool& pool);
  /// How much scratch memory `start` will take for `call`.
  std::size_t scratch_bytes(const Call& call);
  /// The step behind `context` (of a kSend or kRecv completion) is finished.
  static Execution* of(void* context) noexcept { return static_cast<Instance*>(context)->owner; }
  void completed(const spi::Completion& completion);
  /// The same of a transfer between device and host: `token` is what its Copier told, or says what it would have told.
  static Execution* of(const device::Token& token) noexcept { return static_cast<Execution*>(token.owner); }
  void copied(const device::Token& token);
  /// Why it cannot go on, though no message failed: a device did. Its owner ends it.
  const Status& failure() const noexcept { return failure_; }
  /// A device works for it.
  bool copies() const noexcept { return copies_ > 0; }

  /// Whatever the owner wants to find again from a completion.
  void* owner = nullptr;

  bool done() const noexcept { return running_ == 0 && next_chunk_ == chunks_; }
  /// The result is there and the caller's buffers are his again; sends of scratch memory to other regions may go on.
  /// With a region that begins d seconds after another, its calls would otherwise take d longer than its result does.
  bool answered() const noexcept { return left_to_answer_ == 0 && next_chunk_ == chunks_; }
  const CompiledPlan& plan() const noexcept { return *plan_; }
  const Call& call() const noexcept { return call_; }
  /// Peers (ranks) whose messages it still waits for, and the oldest step that does; for error reports.
  struct Waiting {
    std::vector<int> peers;
    std::uint32_t step = 0;
    std::uint32_t chunk = 0;
  };
  Waiting waiting_for() const;
  /// Lets go of scratch memory after done() or after its communicator was forgotten by the transports.
  void reset();

 private:
  enum class State : std::uint8_t { kIdle, kWaiting, kIssued, kDone };
  struct Instance {
    Execution* owner = nullptr;
    std::uint32_t step = 0;
    std::uint32_t slot = 0;
    std::uint32_t pending = 0;       // predecessors not yet done
    std::uint32_t view_readers = 0;  // readers left before the view is released
    const std::byte* view = nullptr;
    std::uint64_t view_token = 0;
    State state = State::kIdle;
    std::span<std::byte> bounce;  // page-locked memory of a message that is staged
  };
  struct Slot {
    std::uint32_t chunk = 0;
    std::uint32_t left = 0;    // steps not done, and moves
    std::uint32_t unwritten = 0;  // steps not done that write the output; then it goes up
  };
  struct Bytes {
    std::byte* data = nullptr;
    std::size_t size = 0;
  };

  void admit(std::uint32_t slot);
  void bring_down(std::uint32_t slot);
  void bring_up(std::uint32_t slot);
  void input_is_down(std::uint32_t slot);
  void part_done(std::uint32_t slot);
  Status stage();
  void drain();
  void issue(Instance& instance);
  void finish(Instance& instance);
  void run_reduce(Instance& instance, const Step& step);
  void run_copy(Instance& instance, const Step& step);
  void run_there(Instance& instance, const Step& step);
  void done_there(Instance& instance);
  bool staged(const Step& step) const { return call_.there != nullptr && call_.takes_devices[step.channel] == 0; }
  void bring_message_down(Instance& instance, const Bytes& bytes);
  void bring_message_up(Instance& instance);
  /// False: there is no memory to stage it through.
  bool take_bounce(Instance& instance, std::size_t bytes);
  void give_back(Instance& instance);
  Status take_scratch(ScratchPool& pool);
  MemoryKind memory() const noexcept { return call_.there == nullptr ? MemoryKind::kHost : MemoryKind::kCuda; }
  void consumed_views(const Step& step, std::uint32_t slot);
  Bytes locate(const Slice& slice, const Slot& slot, std::uint32_t slot_index) const;
  const std::byte* operand_data(const Operand& operand, const Slot& slot, std::uint32_t slot_index);
  bool larger_than_caches() const;
  std::size_t lay_out_scratch();
  void measure_scratch();
  Instance& instance(std::uint32_t slot, std::uint32_t step) { return instances_[slot * plan_->step_count() + step]; }
  std::size_t block_count(const Slice& extent) const {
    return (extent.buffer == BufferKind::kIn ? call_.in : call_.out).count(extent.block);
  }

  std::shared_ptr<const CompiledPlan> plan_;
  Call call_;
  std::span<spi::Channel* const> channels_;
  std::size_t element_size_ = 1;
  std::uint32_t chunks_ = 1;
  std::uint32_t next_chunk_ = 0;
  std::uint32_t running_ = 0;  // slots in use
  std::uint32_t left_to_answer_ = 0;  // steps of chunks begun that are not done and do not trail
  double divisor_ = 1;
  bool past_cache_ = false;  // the output is far larger than caches, and no network card reads it from there
  std::vector<Slot> slots_;
  std::vector<Instance> instances_;
  std::vector<Instance*> ready_;  // a queue: [ready_head_, size)
  std::size_t ready_head_ = 0;
  bool draining_ = false;
  Staging staged_in_, staged_out_;
  bool scales_on_device_ = false;
  std::uint32_t copies_ = 0;
  Status failure_;
  ScratchPool::Block scratch_;
  std::span<std::byte> scratch_there_;
  std::size_t scratch_per_slot_ = 0;
  // What scratch was last laid out for; uniform blocks only.
  std::size_t laid_out_in_ = SIZE_MAX, laid_out_out_ = SIZE_MAX, laid_out_element_ = 0;
  std::vector<std::size_t> area_offset_;
  std::vector<const void*> operand_pointers_;
};

}  // namespace longspan::executor
