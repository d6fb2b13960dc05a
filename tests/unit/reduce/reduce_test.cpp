#include "reduce/reduce.hpp"

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <type_traits>
#include <vector>

#include "base/float_convert.hpp"
#include "hwy/targets.h"
#include "support/catch.hpp"

using namespace longspan;

namespace {

// How each type is read, computed in and written back: the definition that the kernels must meet bit for bit.
template <class T>
struct Exact {
  using Stored = T;
  using Computed = T;
  static Computed read(Stored v) { return v; }
  static Stored write(Computed v) { return v; }
};
template <class Bits, float (*kRead)(Bits), Bits (*kWrite)(float)>
struct Rounded {
  using Stored = Bits;
  using Computed = float;
  static float read(Bits v) { return kRead(v); }
  static Bits write(float v) { return kWrite(v); }
};
using Half = Rounded<std::uint16_t, float16_to_float, float_to_float16>;
using Bfloat = Rounded<std::uint16_t, bfloat16_to_float, float_to_bfloat16>;
using E4M3 = Rounded<std::uint8_t, float8e4m3_to_float, float_to_float8e4m3>;
using E5M2 = Rounded<std::uint8_t, float8e5m2_to_float, float_to_float8e5m2>;

template <class T>
T combine(ReduceOp op, T a, T b) {
  if constexpr (std::is_integral_v<T>) {
    using U = std::make_unsigned_t<T>;
    const auto ua = static_cast<std::uint64_t>(static_cast<U>(a));
    const auto ub = static_cast<std::uint64_t>(static_cast<U>(b));
    if (op == ReduceOp::kProd) return static_cast<T>(ua * ub);
    if (op == ReduceOp::kMin) return b < a ? b : a;
    if (op == ReduceOp::kMax) return b > a ? b : a;
    return static_cast<T>(ua + ub);
  } else {
    if (op == ReduceOp::kProd) return a * b;
    if (op == ReduceOp::kMin) return b < a || std::isnan(b) ? b : a;
    if (op == ReduceOp::kMax) return b > a || std::isnan(b) ? b : a;
    return a + b;
  }
}

template <class T>
T divided(T value, double divisor) {
  if (divisor == 1.0) return value;
  if constexpr (std::is_integral_v<T>) {
    using Wide = std::conditional_t<std::is_signed_v<T>, std::int64_t, std::uint64_t>;
    return static_cast<T>(static_cast<Wide>(value) / static_cast<Wide>(divisor));
  } else {
    return value / static_cast<T>(divisor);
  }
}

// A misaligned array of `count` elements inside bytes of its own.
template <class T>
struct Misaligned {
  Misaligned(std::size_t elements, std::size_t offset)
      : bytes(elements * sizeof(T) + offset + 1), shift(offset), count(elements) {}
  void* data() { return bytes.data() + shift; }
  T get(std::size_t i) const {
    T value;
    std::memcpy(&value, bytes.data() + shift + i * sizeof(T), sizeof(T));
    return value;
  }
  void set(std::size_t i, T value) { std::memcpy(bytes.data() + shift + i * sizeof(T), &value, sizeof(T)); }
  std::vector<std::byte> bytes;
  std::size_t shift;
  std::size_t count;
};

template <class Codec>
typename Codec::Stored random_value(std::mt19937_64& random) {
  using Stored = typename Codec::Stored;
  const std::uint64_t bits = random();
  if constexpr (std::is_floating_point_v<Stored>) {
    if (bits % 16 == 0) {  // a value of any exponent, infinities and NaNs among them
      Stored value;
      std::memcpy(&value, &bits, sizeof(value));
      return std::isnan(value) ? std::numeric_limits<Stored>::quiet_NaN() : value;
    }
    return static_cast<Stored>(static_cast<double>(static_cast<std::int64_t>(bits)) / 1e18);
  } else {
    return static_cast<Stored>(bits >> 13);
  }
}

// NaNs of fp32 and fp64 need not agree in sign and payload (nothing here depends on them).
template <class T>
bool same(T a, T b) {
  if constexpr (std::is_floating_point_v<T>) {
    if (std::isnan(a) || std::isnan(b)) return std::isnan(a) && std::isnan(b);
  }
  return std::memcmp(&a, &b, sizeof(T)) == 0;
}

enum class Alias { kNone, kFirst, kLast };

template <class Codec>
bool check_once(DataType type, ReduceOp op, std::size_t operands, std::size_t count, std::size_t shift, double divisor,
                Alias alias, std::mt19937_64& random) {
  using Stored = typename Codec::Stored;
  std::vector<Misaligned<Stored>> inputs;
  std::vector<const void*> pointers;
  for (std::size_t k = 0; k < operands; ++k) {
    inputs.emplace_back(count, (shift + k) % 7);
    for (std::size_t i = 0; i < count; ++i) inputs[k].set(i, random_value<Codec>(random));
  }
  for (auto& input : inputs) pointers.push_back(input.data());
  std::vector<Stored> want(count);
  for (std::size_t i = 0; i < count; ++i) {
    auto value = Codec::read(inputs[0].get(i));
    for (std::size_t k = 1; k < operands; ++k) value = combine(op, value, Codec::read(inputs[k].get(i)));
    want[i] = operands == 1 && divisor == 1.0 ? inputs[0].get(i) : Codec::write(divided(value, divisor));
  }
  Misaligned<Stored> separate(count, shift);
  Misaligned<Stored>& out = alias == Alias::kNone ? separate : alias == Alias::kFirst ? inputs.front() : inputs.back();
  const std::byte guard = out.bytes.back() = std::byte{0x5a};
  reduce::reduce(type, op, out.data(), pointers, count, divisor);
  if (out.bytes.back() != guard) return false;
  for (std::size_t i = 0; i < count; ++i) {
    if (!same(out.get(i), want[i])) {
      UNSCOPED_INFO("element " << i << " of " << count << ", got " << +out.get(i) << " want " << +want[i]);
      return false;
    }
  }
  return true;
}

template <class Codec>
void check_type(DataType type) {
  std::mt19937_64 random(static_cast<unsigned>(type) + 1);
  for (const ReduceOp op :
       {ReduceOp::kSum, ReduceOp::kProd, ReduceOp::kMin, ReduceOp::kMax, ReduceOp::kAvg, ReduceOp::kPremulSum}) {
    for (const std::size_t operands : {1U, 2U, 3U, 5U, 9U}) {
      for (const std::size_t count : {0U, 1U, 7U, 63U, 64U, 65U, 1000U, 1100U}) {
        for (const Alias alias : {Alias::kNone, Alias::kFirst, Alias::kLast}) {
          for (const double divisor : {1.0, op == ReduceOp::kAvg ? 3.0 : 1.0, op == ReduceOp::kAvg ? 8.0 : 1.0}) {
            const std::size_t shift = (count + operands + static_cast<std::size_t>(alias)) % 5;
            if (check_once<Codec>(type, op, operands, count, shift, divisor, alias, random)) continue;
            FAIL(name_of(type) << ' ' << name_of(op) << " of " << operands << " x " << count << ", divisor "
                               << divisor);
          }
        }
      }
    }
  }
}

void check_all_types() {
  check_type<Exact<std::int8_t>>(DataType::kInt8);
  check_type<Exact<std::uint8_t>>(DataType::kUint8);
  check_type<Exact<std::int32_t>>(DataType::kInt32);
  check_type<Exact<std::uint32_t>>(DataType::kUint32);
  check_type<Exact<std::int64_t>>(DataType::kInt64);
  check_type<Exact<std::uint64_t>>(DataType::kUint64);
  check_type<Half>(DataType::kFloat16);
  check_type<Bfloat>(DataType::kBfloat16);
  check_type<Exact<float>>(DataType::kFloat32);
  check_type<Exact<double>>(DataType::kFloat64);
  check_type<E4M3>(DataType::kFloat8E4M3);
  check_type<E5M2>(DataType::kFloat8E5M2);
}

// Every value of a narrow type, through the kernel's load and store.
template <class Codec>
void check_every_value(DataType type) {
  using Bits = typename Codec::Stored;
  std::vector<Bits> values(std::size_t{1} << (8 * sizeof(Bits)));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<Bits>(i);
  std::vector<Bits> out(values.size());
  reduce::scale(type, out.data(), values.data(), values.size(), 1.0);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const Bits want = Codec::write(Codec::read(values[i]));
    if (out[i] != want) FAIL(name_of(type) << " code " << i << " became " << int{out[i]} << ", not " << int{want});
  }
}

template <class Codec>
void check_scale(DataType type, double factor, typename Codec::Computed as_computed) {
  std::mt19937_64 random(3);
  Misaligned<typename Codec::Stored> in(777, 1);
  Misaligned<typename Codec::Stored> out(777, 3);
  for (std::size_t i = 0; i < in.count; ++i) in.set(i, random_value<Codec>(random));
  reduce::scale(type, out.data(), in.data(), in.count, factor);
  for (std::size_t i = 0; i < in.count; ++i) {
    const auto want = Codec::write(combine(ReduceOp::kProd, Codec::read(in.get(i)), as_computed));
    if (!same(out.get(i), want)) FAIL(name_of(type) << " element " << i << " by " << factor);
  }
}

void for_each_instruction_set(void (*check)()) {
  for (const std::int64_t target : hwy::SupportedAndGeneratedTargets()) {
    hwy::SetSupportedTargetsForTest(target);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
    INFO("instruction set " << hwy::TargetName(target));
    check();
  }
  hwy::SetSupportedTargetsForTest(0);
  hwy::GetChosenTarget().DeInit();
}

}  // namespace

TEST_CASE("every type, operation, operand count and alignment gives the reference's bits on every instruction set",
          "[reduce]") {
  for_each_instruction_set(check_all_types);
}

TEST_CASE("every narrow float passes through a kernel as the scalar conversion has it", "[reduce]") {
  for_each_instruction_set([] {
    check_every_value<Half>(DataType::kFloat16);
    check_every_value<Bfloat>(DataType::kBfloat16);
    check_every_value<E4M3>(DataType::kFloat8E4M3);
    check_every_value<E5M2>(DataType::kFloat8E5M2);
  });
}

TEST_CASE("a result written past the cache has the same bits", "[reduce]") {
  for_each_instruction_set([] {
    std::mt19937_64 random(5);
    constexpr std::size_t kBytes = 40'000;
    alignas(64) static std::byte a[kBytes], b[kBytes], cached[kBytes + 64], past[kBytes + 64];
    for (std::size_t i = 0; i < kBytes; ++i) {
      a[i] = static_cast<std::byte>(random() & 0x3f), b[i] = static_cast<std::byte>(random() & 0x3f);
    }
    const void* const operands[] = {a, b};
    for (std::size_t type = 0; type < kDataTypeCount; ++type) {
      const auto each = static_cast<DataType>(type);
      for (const std::size_t count : {std::size_t{0}, std::size_t{1}, std::size_t{255}, kBytes / size_of(each)}) {
        for (const std::size_t shift : {std::size_t{0}, std::size_t{8}}) {  // from a cache line's start, or not
          std::memset(cached, 0x55, sizeof cached);
          std::memset(past, 0x55, sizeof past);
          reduce::reduce(each, ReduceOp::kSum, cached + shift, operands, count);
          reduce::reduce(each, ReduceOp::kSum, past + shift, operands, count, 1.0, true);
          if (std::memcmp(cached, past, sizeof past) != 0) {
            FAIL(name_of(each) << " x " << count << " shifted by " << shift);
          }
        }
      }
    }
  });
}

TEST_CASE("low precision rounds once, over all operands", "[reduce]") {
  // 256 + 1 + 1 is 258 in bf16, which has 8 bits; rounding after each addition would stay at 256.
  const std::vector<std::uint16_t> big(100, float_to_bfloat16(256.0F));
  const std::vector<std::uint16_t> one(100, float_to_bfloat16(1.0F));
  std::vector<std::uint16_t> out(100);
  const void* operands[] = {big.data(), one.data(), one.data()};
  reduce::reduce(DataType::kBfloat16, ReduceOp::kSum, out.data(), operands, out.size());
  CHECK(out == std::vector<std::uint16_t>(100, float_to_bfloat16(258.0F)));
}

TEST_CASE("the average of integers wraps first and truncates toward zero", "[reduce]") {
  const std::int8_t a[] = {-7, 100, 7};
  const std::int8_t b[] = {0, 100, 0};
  std::int8_t out[3];
  const void* operands[] = {a, b};
  reduce::reduce(DataType::kInt8, ReduceOp::kAvg, out, operands, 3, 2.0);
  CHECK(int{out[0]} == -3);
  CHECK(int{out[1]} == -28);  // 200 wraps to -56
  CHECK(int{out[2]} == 3);
}

TEST_CASE("a premultiplied sum scales in the type's own arithmetic", "[reduce]") {
  for_each_instruction_set([] {
    check_scale<Exact<std::int8_t>>(DataType::kInt8, -3.9, -3);
    check_scale<Exact<std::uint8_t>>(DataType::kUint8, 300.0, 255);
    check_scale<Exact<std::int32_t>>(DataType::kInt32, 7.0, 7);
    check_scale<Exact<std::uint64_t>>(DataType::kUint64, 5.5, 5);
    check_scale<Half>(DataType::kFloat16, 1.0 / 3, 1.0F / 3);
    check_scale<Bfloat>(DataType::kBfloat16, 0.1, 0.1F);
    check_scale<E4M3>(DataType::kFloat8E4M3, 2.0, 2.0F);
    check_scale<E5M2>(DataType::kFloat8E5M2, 0.3, 0.3F);
    check_scale<Exact<float>>(DataType::kFloat32, 0.1, 0.1F);
    check_scale<Exact<double>>(DataType::kFloat64, 0.1, 0.1);
  });
}
