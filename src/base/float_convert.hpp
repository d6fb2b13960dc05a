#pragma once

#include <bit>
#include <cstdint>

/// Scalar conversions between fp32 and the narrow floats, for checks and tests; the vector kernels give the same bits.
///
/// Rounding is to nearest, ties to even, subnormals included. Overflow follows PyTorch (c10): fp16, bf16 and e5m2 go to
/// infinity, e4m3, which has none, to NaN. Every NaN becomes the type's canonical positive quiet NaN.
namespace longspan {

/// The layout of a binary float of at most 16 bits.
struct NarrowFloat {
  int mantissa_bits;
  int bias;
  bool ieee;                      ///< the top exponent means infinity and NaN; otherwise only `nan` is special (e4m3)
  std::uint32_t overflow;         ///< what too large a magnitude becomes
  std::uint32_t nan;              ///< the canonical NaN
  std::uint32_t magnitude_mask;   ///< all bits but the sign
  std::uint32_t overflow_bits;    ///< fp32 bits of the least power of two (e4m3: value) that never fits
};

inline constexpr NarrowFloat kFloat16Layout{10, 15, true, 0x7c00, 0x7e00, 0x7fff, (15U + 1 + 127) << 23};
inline constexpr NarrowFloat kFloat8E5M2Layout{2, 15, true, 0x7c, 0x7f, 0x7f, (15U + 1 + 127) << 23};
inline constexpr NarrowFloat kFloat8E4M3Layout{3, 7, false, 0x7f, 0x7f, 0x7f, 0x43f00000U /* 480, whose code is NaN */};

/// Exact: every narrow value is an fp32 value.
template <const NarrowFloat& kLayout>
constexpr float narrow_to_float(std::uint32_t bits) {
  constexpr int kShift = 23 - kLayout.mantissa_bits;
  constexpr std::uint32_t kRebias = static_cast<std::uint32_t>(127 - kLayout.bias) << 23;
  constexpr std::uint32_t kLeastNormal = 1U << 23;
  const std::uint32_t magnitude = bits & kLayout.magnitude_mask;
  const std::uint32_t sign = (bits & (kLayout.magnitude_mask + 1)) != 0 ? 0x80000000U : 0;
  if (kLayout.ieee ? magnitude > kLayout.overflow : magnitude == kLayout.nan) {
    return std::bit_cast<float>(sign | 0x7fc00000U);
  }
  if (kLayout.ieee && magnitude == kLayout.overflow) return std::bit_cast<float>(sign | 0x7f800000U);
  std::uint32_t wide = (magnitude << kShift) + kRebias;
  if ((magnitude >> kLayout.mantissa_bits) == 0) {
    // Subnormal: give it the exponent of the least normal number and an implicit one, then subtract that one.
    wide = std::bit_cast<std::uint32_t>(std::bit_cast<float>(wide + kLeastNormal) -
                                        std::bit_cast<float>(kRebias + kLeastNormal));
  }
  return std::bit_cast<float>(sign | wide);
}

template <const NarrowFloat& kLayout>
constexpr std::uint32_t float_to_narrow(float value) {
  constexpr int kShift = 23 - kLayout.mantissa_bits;
  constexpr std::uint32_t kLeastNormal = static_cast<std::uint32_t>(127 - kLayout.bias + 1) << 23;
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t magnitude = bits & 0x7fffffffU;
  const std::uint32_t sign = (bits >> 31) * (kLayout.magnitude_mask + 1);
  if (magnitude > 0x7f800000U) return kLayout.nan;
  if (magnitude >= kLayout.overflow_bits) return sign | kLayout.overflow;
  if (magnitude < kLeastNormal) {
    // Adding this power of two lets the fp32 adder round at the narrow type's last bit.
    constexpr std::uint32_t kMagic = kLeastNormal + (static_cast<std::uint32_t>(kShift) << 23);
    const float rounded = std::bit_cast<float>(magnitude) + std::bit_cast<float>(kMagic);
    return sign | (std::bit_cast<std::uint32_t>(rounded) - kMagic);
  }
  const std::uint32_t odd = (magnitude >> kShift) & 1;
  const std::uint32_t rebased = magnitude - (static_cast<std::uint32_t>(127 - kLayout.bias) << 23);
  return sign | ((rebased + ((1U << (kShift - 1)) - 1) + odd) >> kShift);
}

constexpr float float16_to_float(std::uint16_t bits) { return narrow_to_float<kFloat16Layout>(bits); }
constexpr std::uint16_t float_to_float16(float value) {
  return static_cast<std::uint16_t>(float_to_narrow<kFloat16Layout>(value));
}
constexpr float float8e4m3_to_float(std::uint8_t bits) { return narrow_to_float<kFloat8E4M3Layout>(bits); }
constexpr std::uint8_t float_to_float8e4m3(float value) {
  return static_cast<std::uint8_t>(float_to_narrow<kFloat8E4M3Layout>(value));
}
constexpr float float8e5m2_to_float(std::uint8_t bits) { return narrow_to_float<kFloat8E5M2Layout>(bits); }
constexpr std::uint8_t float_to_float8e5m2(float value) {
  return static_cast<std::uint8_t>(float_to_narrow<kFloat8E5M2Layout>(value));
}

constexpr float bfloat16_to_float(std::uint16_t bits) { return std::bit_cast<float>(std::uint32_t{bits} << 16); }
constexpr std::uint16_t float_to_bfloat16(float value) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7fffffffU) > 0x7f800000U) return 0x7fc0;
  return static_cast<std::uint16_t>((bits + 0x7fffU + ((bits >> 16) & 1)) >> 16);
}

}  // namespace longspan
