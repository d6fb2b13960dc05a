#include "cases.hpp"

#include <algorithm>
#include <cstddef>

#include "harness/elements.hpp"

namespace longspan::test {
namespace {

std::size_t input_blocks(const Case& made, int rank, int ranks) {
  switch (made.kind) {
    case Collective::kReduceScatter:
    case Collective::kAllToAll: return static_cast<std::size_t>(ranks);
    case Collective::kScatter: return rank == made.root ? static_cast<std::size_t>(ranks) : 0;
    case Collective::kBroadcast: return rank == made.root ? 1 : 0;
    case Collective::kBarrier: return 0;
    default: return 1;
  }
}

std::size_t output_blocks(const Case& made, int rank, int ranks) {
  switch (made.kind) {
    case Collective::kAllGather:
    case Collective::kAllToAll: return static_cast<std::size_t>(ranks);
    case Collective::kGather: return rank == made.root ? static_cast<std::size_t>(ranks) : 0;
    case Collective::kReduce: return rank == made.root ? 1 : 0;
    case Collective::kBarrier: return 0;
    default: return 1;
  }
}

bool has_op(Collective kind) {
  return kind == Collective::kAllReduce || kind == Collective::kReduce || kind == Collective::kReduceScatter;
}

}  // namespace

Buffer::Buffer(bool on_device, int device, std::size_t bytes) : host_(bytes + 1) {
  if (on_device) memory_.emplace(device, bytes + 1);
}

void Buffer::write(const std::vector<std::byte>& bytes) {
  std::copy(bytes.begin(), bytes.end(), host_.begin());
  if (memory_) memory_->upload(host_.data(), host_.size());
}

std::vector<std::byte> Buffer::read() const {
  std::vector<std::byte> bytes = host_;
  if (memory_) memory_->download(bytes.data(), bytes.size());
  return bytes;
}

std::string text_of(const Case& made, const Placing& placing) {
  const auto side = [](bool device) { return device ? "device" : "host"; };
  return std::string(name_of(made.type)) + " " + std::string(name_of(made.op)) + " kind " +
         std::to_string(static_cast<int>(made.kind)) + " of " + std::to_string(made.count) + ", root " +
         std::to_string(made.root) + ", " + side(placing.in) + " to " +
         (placing.in_place ? "itself" : side(placing.out));
}

int device_of(const Communicator& comm) { return comm.rank() % gpu::devices(); }

std::vector<std::byte> input_of(const Case& made, int rank, int ranks) {
  const std::size_t count = made.count * input_blocks(made, rank, ranks);
  std::vector<std::byte> data(count * size_of(made.type));
  if (has_op(made.kind)) {
    perf::fill_operand(data.data(), 0, count, made.type, made.op, rank, ranks);
  } else {
    const bool rooted = made.kind == Collective::kScatter || made.kind == Collective::kBroadcast;
    perf::fill_pattern(data.data(), 0, count, size_of(made.type), rooted ? 77 : static_cast<std::uint64_t>(rank));
  }
  return data;
}

std::size_t output_elements(const Case& made, int rank, int ranks) {
  return made.count * output_blocks(made, rank, ranks);
}

std::uint64_t wrong_elements(const Case& made, const std::vector<std::byte>& out, int rank, int ranks) {
  const std::size_t size = size_of(made.type);
  const auto me = static_cast<std::size_t>(rank);
  if (output_elements(made, rank, ranks) == 0) return 0;
  if (has_op(made.kind)) {
    const std::size_t first = made.kind == Collective::kReduceScatter ? me * made.count : 0;
    return perf::count_wrong_reduction(out.data(), first, made.count, made.type, made.op, ranks);
  }
  if (made.kind == Collective::kBroadcast) return perf::count_wrong_pattern(out.data(), 0, made.count, size, 77);
  if (made.kind == Collective::kScatter)
    return perf::count_wrong_pattern(out.data(), me * made.count, made.count, size, 77);
  std::uint64_t wrong = 0;
  for (std::size_t r = 0; r < static_cast<std::size_t>(ranks); ++r) {
    const std::size_t first = made.kind == Collective::kAllToAll ? me * made.count : 0;
    wrong += perf::count_wrong_pattern(out.data() + r * made.count * size, first, made.count, size, r);
  }
  return wrong;
}

Call::Call(Communicator& comm, const Case& made, const Placing& placing)
    : input_(input_of(made, comm.rank(), comm.size())) {
  const std::size_t size = size_of(made.type);
  const std::size_t block = made.count * size;
  out_bytes_ = output_elements(made, comm.rank(), comm.size()) * size;
  call.kind = made.kind;
  call.count = made.count;
  call.type = made.type;
  call.op = made.op;
  call.root = made.root;
  call.factor = perf::premul_factor(comm.rank());
  const auto me = static_cast<std::size_t>(comm.rank());
  if (!placing.in_place) {
    in_.emplace(placing.in, device_of(comm), input_.size());
    out_.emplace(placing.out, device_of(comm), out_bytes_);
    in_->write(input_);
    call.in = in_->get();
    call.out = out_->get();
    return;
  }
  // One buffer of the larger side; the smaller is its block of this rank.
  const bool out_is_larger = out_bytes_ >= input_.size();
  const std::size_t at = out_bytes_ == input_.size() ? 0 : me * block;
  std::vector<std::byte> all(std::max(out_bytes_, input_.size()));
  std::copy(input_.begin(), input_.end(), all.begin() + static_cast<std::ptrdiff_t>(out_is_larger ? at : 0));
  out_at_ = out_is_larger ? 0 : at;
  out_.emplace(placing.in, device_of(comm), all.size());
  out_->write(all);
  auto* const base = static_cast<std::byte*>(out_->get());
  call.in = base + (out_is_larger ? at : 0);
  call.out = base + out_at_;
}

std::vector<std::byte> Call::result() const {
  const std::vector<std::byte> all = out_->read();
  const auto begin = all.begin() + static_cast<std::ptrdiff_t>(out_at_);
  return {begin, begin + static_cast<std::ptrdiff_t>(out_bytes_)};
}

std::string run_case(Communicator& comm, const Case& made, const Placing& placing) {
  Call run(comm, made, placing);
  if (const Status status = comm.run(run.call); !status.ok()) return text_of(made, placing) + ": " + status.to_string();
  const std::uint64_t wrong = wrong_elements(made, run.result(), comm.rank(), comm.size());
  return wrong == 0 ? "" : text_of(made, placing) + ": " + std::to_string(wrong) + " elements are wrong";
}

}  // namespace longspan::test
