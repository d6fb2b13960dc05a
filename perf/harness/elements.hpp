#pragma once

#include <cstddef>
#include <cstdint>

#include "longspan/types.hpp"

namespace longspan::perf {

// Test data whose reductions are exact in every type, whatever the order and the partial sums: few ranks contribute
// to an element, small whole numbers each. The expected value is computed here, independently of the library.

/// Writes `count` elements of rank `rank`'s input for a reduction over `ranks` ranks; `first` is the index of the
/// first.
void fill_operand(void* to, std::size_t first, std::size_t count, DataType type, ReduceOp op, int rank, int ranks);
/// How many of `count` elements differ from the exact reduction.
std::uint64_t count_wrong_reduction(const void* got, std::size_t first, std::size_t count, DataType type, ReduceOp op,
                                    int ranks);
/// What rank `rank` multiplies with under kPremulSum.
double premul_factor(int rank);

/// Fills with bytes that depend on (tag, position): what moves unchanged.
void fill_pattern(void* to, std::size_t first, std::size_t count, std::size_t element_size, std::uint64_t tag);
std::uint64_t count_wrong_pattern(const void* got, std::size_t first, std::size_t count, std::size_t element_size,
                                  std::uint64_t tag);

}  // namespace longspan::perf
