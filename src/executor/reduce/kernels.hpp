#pragma once

#include <cstddef>

#include "longspan/types.hpp"

namespace longspan::reduce {

/// What the kernels need to know of one call.
struct Job {
  DataType type;
  ReduceOp op;               ///< kSum, kProd, kMin or kMax
  std::byte* dst;
  const void* const* operands;
  std::size_t operand_count;  ///< at least 1
  std::size_t count;
  double divisor;            ///< 1: none; floats only
  double factor;             ///< scale only
  bool past_cache = false;   ///< dst is not read soon: written without bringing its old bytes into the cache
};

void reduce_integers(const Job& job);
void reduce_floats(const Job& job);
void scale_integers(const Job& job);
void scale_floats(const Job& job);

}  // namespace longspan::reduce
