#include "harness/elements.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <vector>

namespace longspan::perf {
namespace {

constexpr std::size_t kPeriod = 4096;  // the pattern repeats, so that expected values are computed once

std::uint64_t hash(std::uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

bool wide(DataType type) { return size_of(type) >= 4; }

/// Rank's element i as a whole number; at most 3 ranks contribute more than the neutral one.
double operand(std::size_t i, DataType type, ReduceOp op, int rank, int ranks) {
  const std::uint64_t h = hash(i * 1024 + static_cast<std::uint64_t>(rank));
  const bool contributes = (i + static_cast<std::size_t>(rank)) % static_cast<std::size_t>(ranks) < 3;
  switch (op) {
    case ReduceOp::kProd: return contributes ? static_cast<double>(1 + h % 2) : 1.0;
    case ReduceOp::kMin:
    case ReduceOp::kMax: return static_cast<double>(h % 8);
    case ReduceOp::kPremulSum: return contributes ? static_cast<double>(h % 2) : 0.0;
    case ReduceOp::kSum:
    case ReduceOp::kAvg: break;
  }
  if (wide(type)) return static_cast<double>(h % 1000);
  return contributes ? static_cast<double>(h % 3) : 0.0;
}

double exact(std::size_t i, DataType type, ReduceOp op, int ranks) {
  double result = operand(i, type, op, 0, ranks) * (op == ReduceOp::kPremulSum ? premul_factor(0) : 1.0);
  for (int r = 1; r < ranks; ++r) {
    const double x = operand(i, type, op, r, ranks);
    switch (op) {
      case ReduceOp::kSum:
      case ReduceOp::kAvg: result += x; break;
      case ReduceOp::kPremulSum: result += x * premul_factor(r); break;
      case ReduceOp::kProd: result *= x; break;
      case ReduceOp::kMin: result = std::min(result, x); break;
      case ReduceOp::kMax: result = std::max(result, x); break;
    }
  }
  return result;
}

/// A non-negative value below the format's overflow, rounded to nearest even, as bits.
std::uint32_t encode(double value, int mantissa_bits, int bias) {
  if (value == 0) return 0;
  int exponent = 0;
  std::frexp(value, &exponent);
  exponent = std::max(exponent - 1, 1 - bias);  // subnormals share the least exponent
  const auto scaled = static_cast<std::uint32_t>(std::nearbyint(std::ldexp(value, mantissa_bits - exponent)));
  const std::uint32_t implicit = 1U << mantissa_bits;
  // A mantissa rounded up to 2.0 carries into the exponent by itself.
  return (static_cast<std::uint32_t>(exponent + bias) << mantissa_bits) + scaled - implicit;
}

template <class T>
void put(std::byte* to, T value) {
  std::memcpy(to, &value, sizeof value);
}

void store(std::byte* to, DataType type, double value) {
  switch (type) {
    case DataType::kInt8: return put(to, static_cast<std::int8_t>(value));
    case DataType::kUint8: return put(to, static_cast<std::uint8_t>(value));
    case DataType::kInt32: return put(to, static_cast<std::int32_t>(value));
    case DataType::kUint32: return put(to, static_cast<std::uint32_t>(value));
    case DataType::kInt64: return put(to, static_cast<std::int64_t>(value));
    case DataType::kUint64: return put(to, static_cast<std::uint64_t>(value));
    case DataType::kFloat16: return put(to, static_cast<std::uint16_t>(encode(value, 10, 15)));
    case DataType::kBfloat16: return put(to, static_cast<std::uint16_t>(encode(value, 7, 127)));
    case DataType::kFloat32: return put(to, static_cast<float>(value));
    case DataType::kFloat64: return put(to, value);
    case DataType::kFloat8E4M3: return put(to, static_cast<std::uint8_t>(encode(value, 3, 7)));
    case DataType::kFloat8E5M2: return put(to, static_cast<std::uint8_t>(encode(value, 2, 15)));
  }
}

double averaged(double sum, DataType type, int ranks) {
  // As the library defines it: one division of the exact sum, in fp64 for fp64 and in fp32 for the narrower floats.
  switch (type) {
    case DataType::kInt8: case DataType::kUint8: case DataType::kInt32: case DataType::kUint32:
    case DataType::kInt64: case DataType::kUint64: return std::trunc(sum / ranks);
    case DataType::kFloat64: return sum / ranks;
    default: return static_cast<double>(static_cast<float>(sum) / static_cast<float>(ranks));
  }
}

template <class Make>
std::vector<std::byte> one_period(DataType type, Make make) {
  const std::size_t size = size_of(type);
  std::vector<std::byte> period(kPeriod * size);
  for (std::size_t i = 0; i < kPeriod; ++i) store(period.data() + i * size, type, make(i));
  return period;
}

std::uint64_t pattern_word(std::uint64_t tag, std::size_t word) { return hash(tag * 0x9e3779b97f4a7c15ULL + word); }

}  // namespace

double premul_factor(int rank) { return 1.0 + rank % 2; }

void fill_operand(void* to, std::size_t first, std::size_t count, DataType type, ReduceOp op, int rank, int ranks) {
  const std::size_t size = size_of(type);
  const auto period = one_period(type, [&](std::size_t i) { return operand(i, type, op, rank, ranks); });
  for (std::size_t done = 0; done < count;) {
    const std::size_t at = (first + done) % kPeriod;
    const std::size_t now = std::min(kPeriod - at, count - done);
    std::memcpy(static_cast<std::byte*>(to) + done * size, period.data() + at * size, now * size);
    done += now;
  }
}

std::uint64_t count_wrong_reduction(const void* got, std::size_t first, std::size_t count, DataType type, ReduceOp op,
                                    int ranks) {
  const std::size_t size = size_of(type);
  const auto period = one_period(type, [&](std::size_t i) {
    const double sum = exact(i, type, op, ranks);
    return op == ReduceOp::kAvg ? averaged(sum, type, ranks) : sum;
  });
  std::uint64_t wrong = 0;
  for (std::size_t done = 0; done < count;) {
    const std::size_t at = (first + done) % kPeriod;
    const std::size_t now = std::min(kPeriod - at, count - done);
    const std::byte* here = static_cast<const std::byte*>(got) + done * size;
    if (std::memcmp(here, period.data() + at * size, now * size) != 0) {
      for (std::size_t i = 0; i < now; ++i) {
        wrong += std::memcmp(here + i * size, period.data() + (at + i) * size, size) != 0;
      }
    }
    done += now;
  }
  return wrong;
}

void fill_pattern(void* to, std::size_t first, std::size_t count, std::size_t element_size, std::uint64_t tag) {
  auto* bytes = static_cast<std::byte*>(to);
  const std::size_t start = first * element_size;
  for (std::size_t i = 0; i < count * element_size;) {
    const std::uint64_t word = pattern_word(tag, (start + i) / 8);
    const std::size_t at = (start + i) % 8;
    const std::size_t now = std::min<std::size_t>(8 - at, count * element_size - i);
    std::memcpy(bytes + i, reinterpret_cast<const std::byte*>(&word) + at, now);
    i += now;
  }
}

std::uint64_t count_wrong_pattern(const void* got, std::size_t first, std::size_t count, std::size_t element_size,
                                  std::uint64_t tag) {
  std::array<std::byte, 8192> expected;
  const std::size_t per_round = expected.size() / element_size;
  std::uint64_t wrong = 0;
  for (std::size_t done = 0; done < count;) {
    const std::size_t now = std::min(per_round, count - done);
    fill_pattern(expected.data(), first + done, now, element_size, tag);
    const std::byte* here = static_cast<const std::byte*>(got) + done * element_size;
    if (std::memcmp(here, expected.data(), now * element_size) != 0) {
      for (std::size_t i = 0; i < now; ++i) {
        wrong += std::memcmp(here + i * element_size, expected.data() + i * element_size, element_size) != 0;
      }
    }
    done += now;
  }
  return wrong;
}

}  // namespace longspan::perf
