#include "base/float_convert.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "support/catch.hpp"

using namespace longspan;

namespace {

// An independent reading of the formats, by arithmetic on the fields instead of on the bits.
struct Format {
  int exponent_bits;
  int mantissa_bits;
  bool has_infinity;
};
constexpr Format kHalf{5, 10, true};
constexpr Format kBfloat{8, 7, true};
constexpr Format kE4M3{4, 3, false};
constexpr Format kE5M2{5, 2, true};

double decode(Format format, std::uint32_t code) {
  const int bias = (1 << (format.exponent_bits - 1)) - 1;
  const int mantissa = static_cast<int>(code & ((1U << format.mantissa_bits) - 1));
  const int exponent = static_cast<int>((code >> format.mantissa_bits) & ((1U << format.exponent_bits) - 1));
  const bool negative = ((code >> (format.mantissa_bits + format.exponent_bits)) & 1) != 0;
  const int top = (1 << format.exponent_bits) - 1;
  double value = 0;
  if (exponent == top && format.has_infinity) {
    value = mantissa == 0 ? std::numeric_limits<double>::infinity() : std::numeric_limits<double>::quiet_NaN();
  } else if (exponent == top && mantissa == (1 << format.mantissa_bits) - 1) {
    value = std::numeric_limits<double>::quiet_NaN();
  } else if (exponent == 0) {
    value = std::ldexp(mantissa, 1 - bias - format.mantissa_bits);
  } else {
    value = std::ldexp(mantissa + (1 << format.mantissa_bits), exponent - bias - format.mantissa_bits);
  }
  return negative ? -value : value;
}

// The nearest code, ties to the even one, as if one more binade existed above the largest.
std::uint32_t encode(Format format, double value, std::uint32_t overflow) {
  const int bits = format.exponent_bits + format.mantissa_bits;
  const std::uint32_t sign = std::signbit(value) ? 1U << bits : 0;
  const double magnitude = std::fabs(value);
  std::uint32_t last = 0;  // the largest finite code
  for (std::uint32_t code = (1U << bits) - 1;; --code) {
    if (std::isfinite(decode(format, code))) {
      last = code;
      break;
    }
  }
  std::uint32_t low = 0;
  std::uint32_t high = last;
  while (low < high) {  // the largest code not above the magnitude
    const std::uint32_t middle = (low + high + 1) / 2;
    (decode(format, middle) <= magnitude ? low : high) = middle - (decode(format, middle) <= magnitude ? 0 : 1);
  }
  const double below = decode(format, low);
  const double above = low == last ? below + (below - decode(format, low - 1)) : decode(format, low + 1);
  const double middle = below + (above - below) / 2;
  const bool up = magnitude > middle || (magnitude == middle && (low & 1) != 0);
  const std::uint32_t code = low + (up ? 1 : 0);
  return sign | (code > last ? overflow : code);
}

template <class Bits>
void check_decoding(Format format, float (*to_float)(Bits)) {
  for (std::uint32_t code = 0; code <= std::numeric_limits<Bits>::max(); ++code) {
    const float got = to_float(static_cast<Bits>(code));
    const double want = decode(format, code);
    if (std::isnan(want) ? std::isnan(got)
                         : static_cast<double>(got) == want && std::signbit(got) == std::signbit(want)) {
      continue;
    }
    FAIL("code " << code << " became " << got << ", not " << want);
  }
}

template <class Bits>
void check_encoding(Format format, Bits (*to_bits)(float), std::uint32_t overflow, Bits nan) {
  REQUIRE(to_bits(std::numeric_limits<float>::quiet_NaN()) == nan);
  REQUIRE(to_bits(-std::numeric_limits<float>::quiet_NaN()) == nan);
  const auto check = [&](float value) {
    const std::uint32_t want =
        std::isinf(value) ? (std::signbit(value) ? 1U << (format.exponent_bits + format.mantissa_bits) : 0) | overflow
                          : encode(format, static_cast<double>(value), overflow);
    if (to_bits(value) != want) FAIL(value << " became " << int{to_bits(value)} << ", not " << want);
  };
  const std::uint32_t codes = 1U << (format.exponent_bits + format.mantissa_bits);
  for (std::uint32_t code = 0; code + 1 < codes; ++code) {
    const double here = decode(format, code);
    const double next = decode(format, code + 1);
    if (!std::isfinite(here) || !std::isfinite(next)) continue;
    const auto middle = static_cast<float>((here + next) / 2);  // exact: fp32 has more bits
    for (const float value :
         {static_cast<float>(here), middle, std::nextafterf(middle, 0.0F), std::nextafterf(middle, 1e38F)}) {
      check(value);
      check(-value);
    }
  }
  std::mt19937 random(7);
  for (int i = 0; i < 20000; ++i) {
    const float value = std::bit_cast<float>(static_cast<std::uint32_t>(random()));
    if (!std::isnan(value)) check(value);
  }
  check(std::numeric_limits<float>::infinity());
  check(std::numeric_limits<float>::denorm_min());
}

}  // namespace

TEST_CASE("every narrow float has the value its fields say", "[float_convert]") {
  check_decoding<std::uint16_t>(kHalf, float16_to_float);
  check_decoding<std::uint16_t>(kBfloat, bfloat16_to_float);
  check_decoding<std::uint8_t>(kE4M3, float8e4m3_to_float);
  check_decoding<std::uint8_t>(kE5M2, float8e5m2_to_float);
}

TEST_CASE("fp32 rounds to the nearest narrow float, ties to even", "[float_convert]") {
  check_encoding<std::uint16_t>(kHalf, float_to_float16, 0x7c00, 0x7e00);
  check_encoding<std::uint16_t>(kBfloat, float_to_bfloat16, 0x7f80, 0x7fc0);
  check_encoding<std::uint8_t>(kE5M2, float_to_float8e5m2, 0x7c, 0x7f);
  check_encoding<std::uint8_t>(kE4M3, float_to_float8e4m3, 0x7f, 0x7f);
}

static_assert(float16_to_float(0x3c00) == 1.0F && float_to_float16(65504.0F) == 0x7bff &&
              float_to_float8e4m3(448.0F) == 0x7e);
