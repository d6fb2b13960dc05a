#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "base/clock.hpp"
#include "device/cuda/stream_gate.hpp"
#include "device/device.hpp"
#include "executor/execution.hpp"
#include "longspan/communicator.hpp"
#include "longspan/status.hpp"
#include "runtime/lease_desk.hpp"
#include "runtime/staged_message.hpp"

namespace longspan::runtime {

class CommunicatorImpl;
struct PlanEntry;

/// The wait that stands in a stream for works that were put there together.
struct StreamPlace {
  device::cuda::StreamGate::Ticket ticket;
  std::size_t left = 0;  // works that are not done
};

/// One started operation. Everything but `done` is guarded by the Domain's lock until done is set; then it is constant.
struct WorkState {
  std::shared_ptr<CommunicatorImpl> comm;  // keeps the communicator while the operation runs
  std::atomic<bool> done{false};
  Status status;
  TimePoint deadline{};
  std::chrono::nanoseconds timeout{0};  // how long that was when it started
  std::vector<std::function<void(const Status&)>> callbacks;

  // A collective.
  std::uint32_t seq = 0;
  CollectiveCall call;
  PlanEntry* entry = nullptr;
  std::uint64_t digest = 0;
  std::unique_ptr<executor::Execution> execution;
  executor::ScratchPool::Block own_input;  // the input times this rank's factor, or a copy of it
  std::vector<std::size_t> in_counts, in_offsets, out_counts, out_offsets;

  // Its buffers' memory, and who moves it where that is a device's.
  device::Place in_place, out_place;
  device::Copier* in_copier = nullptr;
  device::Copier* out_copier = nullptr;
  // A call that has its place in a stream.
  bool in_stream = false;
  std::uint64_t entry_in_stream = 0;  // until the stream has come to it
  std::shared_ptr<StreamPlace> place;  // shared with the works of its group; nullptr: not in the stream yet
  executor::Call waiting_call;

  std::vector<LeasedFlow> leased;  // rates of WAN links, given back when it is finished

  // A send or receive.
  bool point_to_point = false;
  bool receives = false;
  std::byte* data = nullptr;
  std::size_t bytes = 0;  // of the buffer; of the message once done
  std::size_t element_size = 1;
  int peer = kAnySource;
  std::uint32_t tag = 0;
  std::uint32_t message = 0;  // number of the message among those of (source, destination, tag)
  bool claimed = false;       // a receive: peer and message are known
  bool posts_when_announced = false;
  std::optional<std::size_t> announced;   // bytes of its message, which came before its receive was posted
  std::unique_ptr<StagedMessage> staged;  // where it is not one piece of host memory
};

}  // namespace longspan::runtime
