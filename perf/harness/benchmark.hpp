#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "longspan/collective.hpp"
#include "longspan/communicator.hpp"
#include "longspan/types.hpp"

namespace longspan::perf {

/// One measured case.
struct Case {
  std::size_t count = 0;  ///< elements per block: the argument of the call
  DataType type = DataType::kFloat32;
  ReduceOp op = ReduceOp::kSum;
  int root = 0;
  bool in_place = false;

  std::size_t block_bytes() const { return count * size_of(type); }
};

/// What makes a perf program: which collective, how its buffers are laid out, how it is called and checked. Everything
/// else is the harness.
class Benchmark {
 public:
  virtual ~Benchmark() = default;
  virtual std::string program() const = 0;
  /// nullopt: not a planned collective (sendrecv), so there is no bound to print.
  virtual std::optional<CollectiveShape> shape(const Case& run) const = 0;
  /// Blocks in the larger buffer of one rank: `size` is that many times count, rounded down.
  virtual std::size_t blocks(int ranks) const = 0;
  virtual bool has_op() const { return false; }
  virtual bool has_root() const { return false; }
  virtual bool has_in_place() const { return true; }
  /// Blocks that the input and the output buffer need here.
  virtual std::size_t in_blocks(int rank, int ranks, int root) const = 0;
  virtual std::size_t out_blocks(int rank, int ranks, int root) const = 0;
  /// In place: where the input lies in the output buffer, or the output in the input, in blocks.
  virtual std::size_t in_place_block(int /*rank*/) const { return 0; }
  virtual void fill(void* in, const Case& run, int rank, int ranks) const = 0;
  virtual Status call(Communicator& comm, const void* in, void* out, const Case& run) const = 0;
  virtual std::uint64_t wrong(const void* out, const Case& run, int rank, int ranks) const = 0;
  /// busbw / algbw.
  virtual double bus_factor(int ranks) const = 0;
};

/// main() of a perf program. 0 only if nothing was wrong.
int run_benchmark(const Benchmark& benchmark, int argc, char** argv);

}  // namespace longspan::perf
