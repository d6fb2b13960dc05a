#pragma once

#include <cstddef>
#include <span>

#include "longspan/types.hpp"

/// Element-wise arithmetic of the collectives on host memory. The bits of a result do not depend on the machine:
/// operands are combined strictly in the order given, without fused multiply-adds or reassociation, whatever the
/// instruction set (Highway picks the widest at run time).
namespace longspan::reduce {

/// dst[i] = operands[0][i] op operands[1][i] op ... for `count` elements; `dst` may be one of the operands (exactly,
/// not shifted), and nothing need be aligned.
///
/// - fp16, bf16 and fp8 accumulate in fp32 over all operands and round once (to nearest even). Overflow: infinity;
/// e4m3:
///   NaN (as PyTorch). A NaN result is the type's canonical NaN.
/// - Integers wrap.
/// - min and max give NaN where any operand has one (as PyTorch and NCCL); of equal values (+0, -0) the earlier stays.
/// - `post_scale_divisor` other than 1 (a whole number: ranks of an average) divides the result before it is rounded;
///   integers, once wrapped, divide truncating toward zero (as NCCL).
/// - kAvg and kPremulSum are plain sums here: the divisor is the last owner's, `scale` the first reader's.
/// - One operand is copied as it is, unless there is a divisor.
///
/// `past_cache` says that this is part of far more than caches hold: dst, where it is no operand and is aligned to a
/// cache line, is then written without its old bytes being read first (as if by non-temporal stores, complete on
/// return).
///
/// Cost: one pass over memory, whatever the number of operands.
void reduce(DataType type, ReduceOp op, void* dst, std::span<const void* const> operands, std::size_t count,
            double post_scale_divisor = 1.0, bool past_cache = false);

/// dst[i] = src[i] * factor; `dst` may be `src`. Types narrower than fp64 multiply in fp32 and round once; integers
/// multiply (wrapping) by the factor truncated and saturated to their type, as NCCL's premul-sum.
void scale(DataType type, void* dst, const void* src, std::size_t count, double factor);

}  // namespace longspan::reduce
