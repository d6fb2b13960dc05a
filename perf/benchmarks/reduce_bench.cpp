// Speed of the reduction kernels against memcpy on the same sizes. GB/s counts bytes read and written.
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "reduce/reduce.hpp"

namespace {

using longspan::DataType;
using longspan::ReduceOp;

struct Free {
  void operator()(std::byte* memory) const { std::free(memory); }
};
using Buffer = std::unique_ptr<std::byte, Free>;

Buffer make_buffer(std::size_t bytes) {
  Buffer buffer(static_cast<std::byte*>(std::aligned_alloc(4096, bytes)));
  std::memset(buffer.get(), 0, bytes);
  return buffer;
}

void copy(benchmark::State& state) {
  const auto bytes = static_cast<std::size_t>(state.range(0));
  const Buffer from = make_buffer(bytes);
  const Buffer to = make_buffer(bytes);
  for (auto unused : state) {
    std::memcpy(to.get(), from.get(), bytes);
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations() * bytes * 2));
}

// in_place: dst is the first operand, as in a reduce-scatter into the user's buffer.
void reduce(benchmark::State& state, DataType type, ReduceOp op, std::size_t operands, double divisor, bool in_place) {
  const auto bytes = static_cast<std::size_t>(state.range(0));
  std::vector<Buffer> inputs;
  std::vector<const void*> pointers;
  for (std::size_t k = 0; k < operands; ++k) {
    inputs.push_back(make_buffer(bytes));
    pointers.push_back(inputs.back().get());
  }
  const Buffer out = make_buffer(bytes);
  void* dst = in_place ? inputs[0].get() : out.get();
  for (auto unused : state) {
    longspan::reduce::reduce(type, op, dst, pointers, bytes / size_of(type), divisor);
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations() * bytes * (operands + 1)));
}

void add(DataType type, ReduceOp op, std::size_t operands, double divisor, bool in_place) {
  std::string name = std::string(name_of(type)) + "/" + std::string(name_of(op)) + "/n" + std::to_string(operands);
  if (in_place) name += "/in_place";
  auto* made = benchmark::RegisterBenchmark(
      name.c_str(), [=](benchmark::State& state) { reduce(state, type, op, operands, divisor, in_place); });
  for (const std::int64_t bytes : {16 << 10, 256 << 10, 64 << 20}) made->Arg(bytes);
}

}  // namespace

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  benchmark::RegisterBenchmark("memcpy", copy)->Arg(16 << 10)->Arg(256 << 10)->Arg(64 << 20);
  for (const bool in_place : {false, true}) {
    for (const std::size_t operands : {2U, 4U, 8U}) add(DataType::kFloat32, ReduceOp::kSum, operands, 1.0, in_place);
  }
  add(DataType::kFloat32, ReduceOp::kSum, 64, 1.0, false);
  add(DataType::kFloat32, ReduceOp::kMax, 2, 1.0, false);
  add(DataType::kFloat32, ReduceOp::kAvg, 2, 3.0, false);
  for (const DataType type : {DataType::kFloat16, DataType::kBfloat16, DataType::kFloat8E4M3, DataType::kFloat8E5M2,
                              DataType::kFloat64, DataType::kInt8, DataType::kInt32, DataType::kInt64}) {
    add(type, ReduceOp::kSum, 2, 1.0, false);
  }
  add(DataType::kInt8, ReduceOp::kProd, 2, 1.0, false);
  add(DataType::kInt64, ReduceOp::kProd, 2, 1.0, false);
  add(DataType::kInt32, ReduceOp::kAvg, 2, 3.0, false);
  add(DataType::kInt64, ReduceOp::kAvg, 2, 3.0, false);
  benchmark::RunSpecifiedBenchmarks();
}
