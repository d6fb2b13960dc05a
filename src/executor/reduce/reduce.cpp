#include "reduce/reduce.hpp"

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "reduce/kernels.hpp"

namespace longspan::reduce {
namespace {

constexpr std::uintptr_t kCacheLine = 64;

bool is_integer(DataType type) { return type <= DataType::kUint64; }

ReduceOp kernel_of(ReduceOp op) { return op == ReduceOp::kAvg || op == ReduceOp::kPremulSum ? ReduceOp::kSum : op; }

}  // namespace

void reduce(DataType type, ReduceOp op, void* dst, std::span<const void* const> operands, std::size_t count,
            double post_scale_divisor, bool past_cache) {
  if (count == 0 || operands.empty()) return;
  if (operands.size() == 1 && post_scale_divisor == 1.0) {
    if (dst != operands[0]) std::memcpy(dst, operands[0], count * size_of(type));
    return;
  }
  Job job{
      type, kernel_of(op), static_cast<std::byte*>(dst), operands.data(), operands.size(), count, post_scale_divisor,
      1.0};
  // An operand's bytes are in the cache already.
  job.past_cache = past_cache && reinterpret_cast<std::uintptr_t>(dst) % kCacheLine == 0 &&
                   std::find(operands.begin(), operands.end(), dst) == operands.end();
  if (!is_integer(type)) return reduce_floats(job);
  if (post_scale_divisor == 1.0) return reduce_integers(job);
  // Integer quotients take a second pass over dst: block by block, so that it finds the sums in the first-level cache.
  constexpr std::size_t kBlock = 1024;
  std::array<const void*, 64> moved;
  if (operands.size() > moved.size()) return reduce_integers(job);
  for (std::size_t begin = 0; begin < count; begin += kBlock) {
    const std::size_t offset = begin * size_of(type);
    for (std::size_t k = 0; k < operands.size(); ++k) moved[k] = static_cast<const std::byte*>(operands[k]) + offset;
    job.dst = static_cast<std::byte*>(dst) + offset;
    job.operands = moved.data();
    job.count = std::min(kBlock, count - begin);
    job.past_cache = false;
    reduce_integers(job);
  }
}

void scale(DataType type, void* dst, const void* src, std::size_t count, double factor) {
  if (count == 0) return;
  const void* const operands[] = {src};
  const Job job{type, ReduceOp::kSum, static_cast<std::byte*>(dst), operands, 1, count, 1.0, factor};
  is_integer(type) ? scale_integers(job) : scale_floats(job);
}

}  // namespace longspan::reduce
