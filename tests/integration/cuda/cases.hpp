#pragma once

#include <optional>
#include <string>
#include <vector>

#include "gpu.hpp"
#include "longspan/communicator.hpp"
#include "ranks.hpp"

namespace longspan::test {

/// Bytes of a call: on the host, or on a device.
class Buffer {
 public:
  Buffer(bool on_device, int device, std::size_t bytes);
  void* get() { return memory_ ? memory_->get() : host_.data(); }
  void write(const std::vector<std::byte>& bytes);
  std::vector<std::byte> read() const;

 private:
  std::vector<std::byte> host_;
  std::optional<gpu::Memory> memory_;
};

/// Where a rank's buffers are.
struct Placing {
  bool in = true;
  bool out = true;
  bool in_place = false;  ///< as NCCL and MPI define it
};

/// One collective of which every element of the result is known.
struct Case {
  Collective kind = Collective::kAllReduce;
  std::size_t count = 0;
  DataType type = DataType::kFloat32;
  ReduceOp op = ReduceOp::kSum;
  int root = 0;
};

std::string text_of(const Case& made, const Placing& placing);
/// This rank's device.
int device_of(const Communicator& comm);
/// What this rank gives, and how many elements of what it got are wrong.
std::vector<std::byte> input_of(const Case& made, int rank, int ranks);
std::size_t output_elements(const Case& made, int rank, int ranks);
std::uint64_t wrong_elements(const Case& made, const std::vector<std::byte>& out, int rank, int ranks);
/// The buffers of a call, filled; in place, `out` is part of `in` or the other way round.
struct Call {
  Call(Communicator& comm, const Case& made, const Placing& placing);
  CollectiveCall call;
  std::vector<std::byte> result() const;

 private:
  std::vector<std::byte> input_;
  std::optional<Buffer> in_, out_;
  std::size_t out_at_ = 0;
  std::size_t out_bytes_ = 0;
};
/// Runs it; "" where all is right.
std::string run_case(Communicator& comm, const Case& made, const Placing& placing);

}  // namespace longspan::test
