// Below AVX2 (2013) plain C++ does; fewer targets compile in half the time.
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4 | HWY_AVX3_DL)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "reduce/integers.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// Must come after foreach_target.h.
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "reduce/loop-inl.h"

HWY_BEFORE_NAMESPACE();
namespace longspan::reduce {
namespace HWY_NAMESPACE {

struct Keep {
  template <class D, class V>
  V operator()(D, V v) const { return v; }
};

template <class T, class V>
HWY_INLINE V multiplied(hn::ScalableTag<T> d, V a, V b) {
#if HWY_TARGET == HWY_SCALAR
  return hn::Set(d, static_cast<T>(std::uint64_t{hn::GetLane(a)} * hn::GetLane(b)));
#else
  if constexpr (sizeof(T) == 1) {
    // x86 has no byte product: even and odd bytes are multiplied as 16-bit lanes.
    const hn::RepartitionToWide<decltype(d)> wide;
    const auto wa = hn::BitCast(wide, a);
    const auto wb = hn::BitCast(wide, b);
    const auto low = hn::And(hn::Mul(wa, wb), hn::Set(wide, 0x00ff));
    const auto high = hn::ShiftLeft<8>(hn::Mul(hn::ShiftRight<8>(wa), hn::ShiftRight<8>(wb)));
    return hn::BitCast(d, hn::Or(low, high));
  } else if constexpr (sizeof(T) == 8) {
    const hn::Repartition<std::uint32_t, decltype(d)> half;
    // a*b mod 2^64 = lo*lo + ((a_hi*b_lo + a_lo*b_hi) << 32)
    const auto a32 = hn::BitCast(half, a);
    const auto b32 = hn::BitCast(half, b);
    const auto a_high = hn::BitCast(half, hn::ShiftRight<32>(a));
    const auto b_high = hn::BitCast(half, hn::ShiftRight<32>(b));
    const auto cross = hn::Add(hn::MulEven(a_high, b32), hn::MulEven(a32, b_high));
    return hn::Add(hn::MulEven(a32, b32), hn::ShiftLeft<32>(cross));
  } else {
    return hn::Mul(a, b);
  }
#endif
}

struct Product {
  template <class D, class V>
  V operator()(D d, V a, V b) const { return multiplied<hn::TFromD<D>>(d, a, b); }
};

template <class T>
struct Scaled {
  T factor;
  template <class D, class V>
  V operator()(D d, V v) const { return multiplied<T>(d, v, hn::Set(d, factor)); }
};

// Sums and products wrap, so signed types use the unsigned kernels.
template <class T>
void reduce_typed(const Job& job) {
  using Unsigned = std::make_unsigned_t<T>;
  switch (job.op) {
    case ReduceOp::kProd: return run_loop<Plain<Unsigned>>(job, Product{}, Keep{});
    case ReduceOp::kMin: return run_loop<Plain<T>>(job, Min{}, Keep{});
    case ReduceOp::kMax: return run_loop<Plain<T>>(job, Max{}, Keep{});
    default: return run_loop<Plain<Unsigned>>(job, Sum{}, Keep{});
  }
}

void ReduceIntegers(const Job& job) {
  switch (job.type) {
    case DataType::kInt8: return reduce_typed<std::int8_t>(job);
    case DataType::kUint8: return reduce_typed<std::uint8_t>(job);
    case DataType::kInt32: return reduce_typed<std::int32_t>(job);
    case DataType::kUint32: return reduce_typed<std::uint32_t>(job);
    case DataType::kInt64: return reduce_typed<std::int64_t>(job);
    default: return reduce_typed<std::uint64_t>(job);
  }
}

template <class T>
T saturated(double factor) {
  if (std::isnan(factor)) return 0;
  if (factor >= static_cast<double>(std::numeric_limits<T>::max())) return std::numeric_limits<T>::max();
  if (factor <= static_cast<double>(std::numeric_limits<T>::min())) return std::numeric_limits<T>::min();
  return static_cast<T>(factor);
}

template <class T>
void scale_typed(const Job& job) {
  using Unsigned = std::make_unsigned_t<T>;
  run_loop<Plain<Unsigned>>(job, Sum{}, Scaled<Unsigned>{static_cast<Unsigned>(saturated<T>(job.factor))});
}

void ScaleIntegers(const Job& job) {
  switch (job.type) {
    case DataType::kInt8: return scale_typed<std::int8_t>(job);
    case DataType::kUint8: return scale_typed<std::uint8_t>(job);
    case DataType::kInt32: return scale_typed<std::int32_t>(job);
    case DataType::kUint32: return scale_typed<std::uint32_t>(job);
    case DataType::kInt64: return scale_typed<std::int64_t>(job);
    default: return scale_typed<std::uint64_t>(job);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace longspan::reduce
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace longspan::reduce {
namespace {

template <class T>
void divide_typed(const Job& job) {
  for (std::size_t i = 0; i < job.count; ++i) {
    T value;
    std::memcpy(&value, job.dst + i * sizeof(T), sizeof(T));
    if constexpr (sizeof(T) < 8) {
      // Exact: a quotient of 32-bit integers is further from the next integer than a double's rounding.
      value = static_cast<T>(static_cast<std::int64_t>(static_cast<double>(value) / job.divisor));
    } else {
      value = static_cast<T>(value / static_cast<T>(job.divisor));
    }
    std::memcpy(job.dst + i * sizeof(T), &value, sizeof(T));
  }
}

void divide(const Job& job) {
  switch (job.type) {
    case DataType::kInt8: return divide_typed<std::int8_t>(job);
    case DataType::kUint8: return divide_typed<std::uint8_t>(job);
    case DataType::kInt32: return divide_typed<std::int32_t>(job);
    case DataType::kUint32: return divide_typed<std::uint32_t>(job);
    case DataType::kInt64: return divide_typed<std::int64_t>(job);
    default: return divide_typed<std::uint64_t>(job);
  }
}

}  // namespace

HWY_EXPORT(ReduceIntegers);
HWY_EXPORT(ScaleIntegers);

void reduce_integers(const Job& job) {
  HWY_DYNAMIC_DISPATCH(ReduceIntegers)(job);
  if (job.divisor != 1.0) divide(job);
}

void scale_integers(const Job& job) { HWY_DYNAMIC_DISPATCH(ScaleIntegers)(job); }

}  // namespace longspan::reduce
#endif  // HWY_ONCE
