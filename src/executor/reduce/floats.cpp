#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4 | HWY_AVX3_DL)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "reduce/floats.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// Must come after foreach_target.h.
#include <cmath>
#include <cstdint>
#include <type_traits>

#include "base/float_convert.hpp"
#include "reduce/loop-inl.h"

HWY_BEFORE_NAMESPACE();
namespace longspan::reduce {
namespace HWY_NAMESPACE {

using FloatTag = hn::ScalableTag<float>;
using BitsTag = hn::RebindToUnsigned<FloatTag>;

template <class Storage>
auto load_bits(const std::byte* from) {
  const hn::Rebind<Storage, FloatTag> narrow;
  return hn::PromoteTo(BitsTag(), hn::LoadU(narrow, reinterpret_cast<const Storage*>(from)));
}

template <class Storage, class V>
void store_bits(V bits, std::byte* to) {
  const hn::Rebind<Storage, FloatTag> narrow;
  // Every lane fits Storage, so the saturating conversion keeps it as it is.
  hn::StoreU(hn::DemoteTo(narrow, hn::BitCast(hn::RebindToSigned<FloatTag>(), bits)), narrow,
             reinterpret_cast<Storage*>(to));
}

// Of values below 2^31, which x86 compares faster as signed.
template <class V>
auto less(V a, V b) {
  const hn::RebindToSigned<FloatTag> i;
  return hn::RebindMask(BitsTag(), hn::Lt(hn::BitCast(i, a), hn::BitCast(i, b)));
}

// The vector forms of float_to_narrow and narrow_to_float (base/float_convert.hpp explains the steps).
template <const NarrowFloat& kLayout, class Storage>
struct Narrow {
  using Tag = FloatTag;
  static constexpr std::size_t kSize = sizeof(Storage);
  static constexpr int kShift = 23 - kLayout.mantissa_bits;
  static constexpr std::uint32_t kRebias = static_cast<std::uint32_t>(127 - kLayout.bias) << 23;
  static constexpr int kSignShift = 32 - 8 * static_cast<int>(sizeof(Storage));

  static auto load(Tag d, const std::byte* from) {
    const BitsTag u;
    const auto bits = load_bits<Storage>(from);
    const auto magnitude = hn::And(bits, hn::Set(u, kLayout.magnitude_mask));
    const auto sign = hn::ShiftLeft<kSignShift>(hn::AndNot(hn::Set(u, kLayout.magnitude_mask), bits));
    const auto wide = hn::Add(hn::ShiftLeft<kShift>(magnitude), hn::Set(u, kRebias));
    const auto least = hn::Set(u, kRebias + (1U << 23));
    const auto subnormal =
        hn::BitCast(u, hn::Sub(hn::BitCast(d, hn::Add(wide, hn::Set(u, 1U << 23))), hn::BitCast(d, least)));
    auto value = hn::IfThenElse(less(wide, least), subnormal, wide);
    if constexpr (kLayout.ieee) {
      const auto special = hn::Add(wide, hn::Set(u, kRebias));  // the top exponent becomes fp32's
      value = hn::IfThenElse(less(hn::Set(u, kLayout.overflow - 1), magnitude),
                             hn::Or(special, hn::Set(u, 0x7f800000U)), value);
    } else {
      value = hn::IfThenElse(hn::Eq(magnitude, hn::Set(u, kLayout.nan)), hn::Set(u, 0x7fc00000U), value);
    }
    return hn::BitCast(d, hn::Or(value, sign));
  }

  template <class V>
  static void store(Tag, V v, std::byte* to) {
    const BitsTag u;
    const FloatTag d;
    constexpr std::uint32_t kLeastNormal = kRebias + (1U << 23);
    constexpr std::uint32_t kMagic = kLeastNormal + (static_cast<std::uint32_t>(kShift) << 23);
    const auto bits = hn::BitCast(u, v);
    const auto magnitude = hn::And(bits, hn::Set(u, 0x7fffffffU));
    const auto sign = hn::ShiftRight<kSignShift>(hn::AndNot(hn::Set(u, 0x7fffffffU), bits));
    const auto magic = hn::Set(u, kMagic);
    const auto subnormal = hn::Sub(hn::BitCast(u, hn::Add(hn::BitCast(d, magnitude), hn::BitCast(d, magic))), magic);
    const auto odd = hn::And(hn::ShiftRight<kShift>(magnitude), hn::Set(u, 1U));
    const auto bump = hn::Set(u, (1U << (kShift - 1)) - 1U - kRebias);
    const auto normal = hn::ShiftRight<kShift>(hn::Add(hn::Add(magnitude, bump), odd));
    auto out = hn::IfThenElse(less(magnitude, hn::Set(u, kLeastNormal)), subnormal, normal);
    out = hn::IfThenElse(less(magnitude, hn::Set(u, kLayout.overflow_bits)), out, hn::Set(u, kLayout.overflow));
    out = hn::Or(out, sign);
    out = hn::IfThenElse(less(hn::Set(u, 0x7f800000U), magnitude), hn::Set(u, kLayout.nan), out);
    store_bits<Storage>(out, to);
  }
};

#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3
// F16C converts fp16 in one instruction, with the same rounding; only NaNs need to be made canonical.
struct Float16 {
  using Tag = FloatTag;
  using BitsOf16 = hn::Rebind<std::uint16_t, FloatTag>;
  using Half = hn::Rebind<hwy::float16_t, FloatTag>;
  static constexpr std::size_t kSize = 2;
  template <class V>
  static auto widened(V bits) { return hn::PromoteTo(FloatTag(), hn::BitCast(Half(), bits)); }
  static auto load(Tag, const std::byte* from) {
    return widened(hn::LoadU(BitsOf16(), reinterpret_cast<const std::uint16_t*>(from)));
  }
  template <class V>
  static void store(Tag d, V v, std::byte* to) {
    const auto quiet = hn::BitCast(d, hn::Set(BitsTag(), 0x7fc00000U));
    const auto half = hn::DemoteTo(Half(), hn::IfThenElse(hn::IsNaN(v), quiet, v));
    hn::StoreU(hn::BitCast(BitsOf16(), half), BitsOf16(), reinterpret_cast<std::uint16_t*>(to));
  }
};

// The fp8 types go up through fp16, which holds all their values.
struct Float8E5M2 : Narrow<kFloat8E5M2Layout, std::uint8_t> {
  static auto load(Tag, const std::byte* from) {
    const hn::Rebind<std::uint8_t, FloatTag> narrow;
    const auto bits =
        hn::PromoteTo(Float16::BitsOf16(), hn::LoadU(narrow, reinterpret_cast<const std::uint8_t*>(from)));
    return Float16::widened(hn::ShiftLeft<8>(bits));
  }
};

struct Float8E4M3 : Narrow<kFloat8E4M3Layout, std::uint8_t> {
  static auto load(Tag d, const std::byte* from) {
    const hn::Rebind<std::uint8_t, FloatTag> narrow;
    const Float16::BitsOf16 u16;
    const auto bits = hn::PromoteTo(u16, hn::LoadU(narrow, reinterpret_cast<const std::uint8_t*>(from)));
    const auto magnitude = hn::And(bits, hn::Set(u16, 0x7f));
    const auto sign = hn::ShiftLeft<8>(hn::AndNot(hn::Set(u16, 0x7f), bits));
    const auto nan = hn::VecFromMask(u16, hn::Eq(magnitude, hn::Set(u16, 0x7f)));
    const auto half = hn::Or(hn::Or(hn::ShiftLeft<7>(magnitude), sign), hn::And(nan, hn::Set(u16, 0x7e00)));
    return hn::Mul(Float16::widened(half), hn::Set(d, 256.0F));  // the exponent bias is 7, not 15
  }
};
#else
using Float16 = Narrow<kFloat16Layout, std::uint16_t>;
using Float8E4M3 = Narrow<kFloat8E4M3Layout, std::uint8_t>;
using Float8E5M2 = Narrow<kFloat8E5M2Layout, std::uint8_t>;
#endif

struct Bfloat16 {
  using Tag = FloatTag;
  static constexpr std::size_t kSize = 2;
  static auto load(Tag d, const std::byte* from) {
    return hn::BitCast(d, hn::ShiftLeft<16>(load_bits<std::uint16_t>(from)));
  }
  template <class V>
  static void store(Tag, V v, std::byte* to) {
    const BitsTag u;
    const auto bits = hn::BitCast(u, v);
    const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(u, 1U));
    const auto rounded = hn::ShiftRight<16>(hn::Add(hn::Add(bits, hn::Set(u, 0x7fffU)), odd));
    const auto magnitude = hn::And(bits, hn::Set(u, 0x7fffffffU));
    store_bits<std::uint16_t>(hn::IfThenElse(less(hn::Set(u, 0x7f800000U), magnitude), hn::Set(u, 0x7fc0U), rounded),
                              to);
  }
};

struct Product {
  template <class D, class V>
  V operator()(D, V a, V b) const { return hn::Mul(a, b); }
};

// The last step before rounding. A division by a power of two is the same bits as a multiplication, and faster.
template <class T>
struct Last {
  enum class Kind : std::uint8_t { kKeep, kMultiply, kDivide } kind;
  T value;

  template <class D, class V>
  V operator()(D d, V v) const {
    if (kind == Kind::kMultiply) return hn::Mul(v, hn::Set(d, value));
    if (kind == Kind::kDivide) return hn::Div(v, hn::Set(d, value));
    return v;
  }
  static Last dividing_by(double divisor) {
    if (divisor == 1.0) return {Kind::kKeep, T{1}};
    int exponent = 0;
    if (std::frexp(divisor, &exponent) == 0.5) return {Kind::kMultiply, static_cast<T>(1.0 / divisor)};
    return {Kind::kDivide, static_cast<T>(divisor)};
  }
};

template <class Codec>
void reduce_coded(const Job& job) {
  using T = hn::TFromD<typename Codec::Tag>;
  const auto last = Last<T>::dividing_by(job.divisor);
  switch (job.op) {
    case ReduceOp::kProd: return run_loop<Codec>(job, Product{}, last);
    case ReduceOp::kMin: return run_loop<Codec>(job, Min{}, last);
    case ReduceOp::kMax: return run_loop<Codec>(job, Max{}, last);
    default: return run_loop<Codec>(job, Sum{}, last);
  }
}

template <class Codec>
void scale_coded(const Job& job) {
  using T = hn::TFromD<typename Codec::Tag>;
  run_loop<Codec>(job, Sum{}, Last<T>{Last<T>::Kind::kMultiply, static_cast<T>(job.factor)});
}

void ReduceFloats(const Job& job) {
  switch (job.type) {
    case DataType::kFloat16: return reduce_coded<Float16>(job);
    case DataType::kBfloat16: return reduce_coded<Bfloat16>(job);
    case DataType::kFloat8E4M3: return reduce_coded<Float8E4M3>(job);
    case DataType::kFloat8E5M2: return reduce_coded<Float8E5M2>(job);
    case DataType::kFloat32: return reduce_coded<Plain<float>>(job);
    default: return reduce_coded<Plain<double>>(job);
  }
}

void ScaleFloats(const Job& job) {
  switch (job.type) {
    case DataType::kFloat16: return scale_coded<Float16>(job);
    case DataType::kBfloat16: return scale_coded<Bfloat16>(job);
    case DataType::kFloat8E4M3: return scale_coded<Float8E4M3>(job);
    case DataType::kFloat8E5M2: return scale_coded<Float8E5M2>(job);
    case DataType::kFloat32: return scale_coded<Plain<float>>(job);
    default: return scale_coded<Plain<double>>(job);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace longspan::reduce
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace longspan::reduce {

HWY_EXPORT(ReduceFloats);
HWY_EXPORT(ScaleFloats);

void reduce_floats(const Job& job) { HWY_DYNAMIC_DISPATCH(ReduceFloats)(job); }
void scale_floats(const Job& job) { HWY_DYNAMIC_DISPATCH(ScaleFloats)(job); }

}  // namespace longspan::reduce
#endif  // HWY_ONCE
