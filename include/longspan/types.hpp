#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "longspan/export.hpp"

namespace longspan {

__extension__ typedef unsigned __int128 Uint128;  ///< products of two 64-bit counts

/// Element type of a buffer. Types narrower than fp32 accumulate in fp32 and round once.
enum class DataType : std::uint8_t {
  kInt8, kUint8, kInt32, kUint32, kInt64, kUint64,
  kFloat16, kBfloat16, kFloat32, kFloat64,
  kFloat8E4M3,  ///< OCP 8-bit float, 4 exponent bits, no infinity (max 448)
  kFloat8E5M2,  ///< OCP 8-bit float, 5 exponent bits, IEEE-like (max 57344)
};
inline constexpr int kDataTypeCount = 12;

/// How elements of several ranks become one. kAvg divides the sum by the number of ranks once, at the end;
/// kPremulSum multiplies each rank's input by that rank's factor before summing.
enum class ReduceOp : std::uint8_t { kSum, kProd, kMin, kMax, kAvg, kPremulSum };
inline constexpr int kReduceOpCount = 6;

/// Where a buffer lives.
enum class MemoryKind : std::uint8_t { kHost, kCuda };

/// How far apart two ranks are: the lowest level of the topology that holds both.
enum class Tier : std::uint8_t { kSelf, kHost, kRack, kSite, kRegion, kWan };
inline constexpr int kTierCount = 6;

/// Which connections are encrypted (LONGSPAN_ENCRYPT), in jobs that have a key.
enum class Encryption : std::uint8_t { kNone, kWan, kAll };

/// Bytes of one element.
constexpr std::size_t size_of(DataType type) noexcept {
  constexpr std::array<std::size_t, kDataTypeCount> sizes{1, 1, 4, 4, 8, 8, 2, 2, 4, 8, 1, 1};
  return sizes[static_cast<std::size_t>(type)];
}

/// nccl-tests' names: int8 uint8 int32 uint32 int64 uint64 half bfloat16 float double f8e4m3 f8e5m2.
LONGSPAN_API std::string_view name_of(DataType type) noexcept;
/// sum prod min max avg mulsum.
LONGSPAN_API std::string_view name_of(ReduceOp op) noexcept;
/// self host rack site region wan.
LONGSPAN_API std::string_view name_of(Tier tier) noexcept;
LONGSPAN_API std::optional<DataType> parse_data_type(std::string_view name) noexcept;
LONGSPAN_API std::optional<ReduceOp> parse_reduce_op(std::string_view name) noexcept;

}  // namespace longspan
