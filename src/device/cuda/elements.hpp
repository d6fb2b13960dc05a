#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "base/float_convert.hpp"
#include "longspan/types.hpp"

// The arithmetic of the kernels, element by element: compiled for devices by kernels.cu, and for the host by the
// driver's double, so that its bits are compared with the host's kernels (executor/reduce) where there is no GPU.
// Operands are combined in the order given; narrow floats accumulate in fp32 and round once.
#if defined(__CUDACC__)
#define LONGSPAN_DEVICE __host__ __device__ inline
// The kernels are many, and each is bound by memory: code size is what counts.
#define LONGSPAN_ROLLED _Pragma("unroll 1")
#else
#define LONGSPAN_DEVICE inline
#define LONGSPAN_ROLLED
#endif

namespace longspan::device::cuda {

inline constexpr unsigned kMostOperands = 16;

/// What a reduce kernel is given, by value.
struct ReduceArguments {
  void* dst = nullptr;
  const void* operands[kMostOperands] = {};
  unsigned operand_count = 0;  ///< at least 1
  std::uint64_t count = 0;     ///< elements
  double divisor = 1;          ///< of the result before it is rounded; 1: none
};

struct ScaleArguments {
  void* dst = nullptr;
  const void* src = nullptr;
  std::uint64_t count = 0;
  double factor = 1;                 ///< floats
  std::uint64_t integer_factor = 1;  ///< integers: truncated and saturated to their type
};

/// Elements that are what they are computed in; integers as unsigned ones where they wrap.
template <class T>
struct Plain {
  using Storage = T;
  using Compute = T;
  LONGSPAN_DEVICE static T load(T v) { return v; }
  LONGSPAN_DEVICE static T store(T v) { return v; }
};
template <class T, float (*kLoad)(T), T (*kStore)(float)>
struct Narrow {
  using Storage = T;
  using Compute = float;
  LONGSPAN_DEVICE static float load(T v) { return kLoad(v); }
  LONGSPAN_DEVICE static T store(float v) { return kStore(v); }
};
using Half = Narrow<std::uint16_t, float16_to_float, float_to_float16>;
using Bfloat16 = Narrow<std::uint16_t, bfloat16_to_float, float_to_bfloat16>;
using Float8E4M3 = Narrow<std::uint8_t, float8e4m3_to_float, float_to_float8e4m3>;
using Float8E5M2 = Narrow<std::uint8_t, float8e5m2_to_float, float_to_float8e5m2>;

/// As wide as int at least, so that small unsigned types do not become signed ones and overflow.
template <class T>
using Wrapping = std::conditional_t<(sizeof(T) < 4), unsigned, std::make_unsigned_t<T>>;

struct Sum {
  template <class T>
  LONGSPAN_DEVICE static T apply(T a, T b) {
    if constexpr (std::is_integral_v<T>) {
      return static_cast<T>(static_cast<Wrapping<T>>(a) + static_cast<Wrapping<T>>(b));
    } else {
      return a + b;
    }
  }
};
struct Product {
  template <class T>
  LONGSPAN_DEVICE static T apply(T a, T b) {
    if constexpr (std::is_integral_v<T>) {
      return static_cast<T>(static_cast<Wrapping<T>>(a) * static_cast<Wrapping<T>>(b));
    } else {
      return a * b;
    }
  }
};
struct Min {
  template <class T>
  LONGSPAN_DEVICE static T apply(T a, T b) {
    return b < a || b != b ? b : a;  // a NaN in `a` stays: nothing is below it
  }
};
struct Max {
  template <class T>
  LONGSPAN_DEVICE static T apply(T a, T b) {
    return b > a || b != b ? b : a;
  }
};

template <class T>
LONGSPAN_DEVICE T divided(T value, double divisor) {
  if (divisor == 1) return value;
  if constexpr (std::is_floating_point_v<T>) return value / static_cast<T>(divisor);
  else if constexpr (sizeof(T) < 8) {
    return static_cast<T>(static_cast<std::int64_t>(value) / static_cast<std::int64_t>(divisor));
  } else {
    return static_cast<T>(value / static_cast<T>(divisor));
  }
}

/// What a thread reads and writes at once.
template <class T>
struct alignas(16) Pack {
  static constexpr unsigned kLanes = 16 / sizeof(T);
  T lane[kLanes];
};

template <class T>
LONGSPAN_DEVICE Pack<T> load_pack(const void* from, std::uint64_t index) {
#if defined(__CUDA_ARCH__)
  return static_cast<const Pack<T>*>(from)[index];
#else
  Pack<T> pack;
  __builtin_memcpy(&pack, static_cast<const char*>(from) + index * 16, 16);
  return pack;
#endif
}

/// How a range of elements is cut: a head that ends where all pointers are aligned to 16 bytes, packs, a tail. Where
/// the pointers never are so together, all of it is head.
struct Cut {
  std::uint64_t head = 0;
  std::uint64_t packs = 0;
};

LONGSPAN_DEVICE Cut cut(const void* dst, const void* const* operands, unsigned operand_count, std::uint64_t count,
                        unsigned size) {
  const auto offset = reinterpret_cast<std::uintptr_t>(dst) % 16;
  for (unsigned k = 0; k < operand_count; ++k) {
    if (reinterpret_cast<std::uintptr_t>(operands[k]) % 16 != offset) return {count, 0};
  }
  if (offset % size != 0) return {count, 0};
  std::uint64_t head = (16 - offset) % 16 / size;
  if (head > count) head = count;
  return {head, (count - head) / (16 / size)};
}

/// One element, however it is aligned: users' buffers of narrow types may start anywhere.
template <class T>
LONGSPAN_DEVICE T load_one(const void* from, std::uint64_t index) {
  return static_cast<const T*>(from)[index];
}

template <class Codec, class Op>
LONGSPAN_DEVICE void reduce_one(const ReduceArguments& job, std::uint64_t i) {
  using T = typename Codec::Storage;
  auto value = Codec::load(load_one<T>(job.operands[0], i));
  LONGSPAN_ROLLED for (unsigned k = 1; k < job.operand_count; ++k) {
    value = Op::apply(value, Codec::load(load_one<T>(job.operands[k], i)));
  }
  static_cast<T*>(job.dst)[i] = Codec::store(divided(value, job.divisor));
}

/// The part of thread `index` of `threads`. Every load of a position precedes its store: dst may be an operand.
template <class Codec, class Op>
LONGSPAN_DEVICE void reduce_part(const ReduceArguments& job, std::uint64_t index, std::uint64_t threads) {
  using T = typename Codec::Storage;
  constexpr unsigned kLanes = Pack<T>::kLanes;
  const Cut parts = cut(job.dst, job.operands, job.operand_count, job.count, sizeof(T));
  const auto at = [&](const void* base) { return static_cast<const T*>(base) + parts.head; };
  LONGSPAN_ROLLED for (std::uint64_t p = index; p < parts.packs; p += threads) {
    const Pack<T> first = load_pack<T>(at(job.operands[0]), p);
    typename Codec::Compute values[kLanes];
    for (unsigned j = 0; j < kLanes; ++j) values[j] = Codec::load(first.lane[j]);
    LONGSPAN_ROLLED for (unsigned k = 1; k < job.operand_count; ++k) {
      const Pack<T> next = load_pack<T>(at(job.operands[k]), p);
      for (unsigned j = 0; j < kLanes; ++j) values[j] = Op::apply(values[j], Codec::load(next.lane[j]));
    }
    if (job.divisor != 1) {
      for (unsigned j = 0; j < kLanes; ++j) values[j] = divided(values[j], job.divisor);
    }
    Pack<T> result;
    for (unsigned j = 0; j < kLanes; ++j) result.lane[j] = Codec::store(values[j]);
    reinterpret_cast<Pack<T>*>(static_cast<T*>(job.dst) + parts.head)[p] = result;
  }
  const std::uint64_t tail = parts.head + parts.packs * kLanes;
  LONGSPAN_ROLLED for (std::uint64_t i = index; i < parts.head; i += threads) reduce_one<Codec, Op>(job, i);
  LONGSPAN_ROLLED for (std::uint64_t i = tail + index; i < job.count; i += threads) reduce_one<Codec, Op>(job, i);
}

template <class Codec>
LONGSPAN_DEVICE typename Codec::Storage scaled(const ScaleArguments& job, typename Codec::Storage from) {
  using Compute = typename Codec::Compute;
  if constexpr (std::is_integral_v<Compute>) return Product::apply(from, static_cast<Compute>(job.integer_factor));
  else return Codec::store(Codec::load(from) * static_cast<Compute>(job.factor));
}

template <class Codec>
LONGSPAN_DEVICE void scale_part(const ScaleArguments& job, std::uint64_t index, std::uint64_t threads) {
  using T = typename Codec::Storage;
  constexpr unsigned kLanes = Pack<T>::kLanes;
  const Cut parts = cut(job.dst, &job.src, 1, job.count, sizeof(T));
  const T* const src = static_cast<const T*>(job.src);
  T* const dst = static_cast<T*>(job.dst);
  LONGSPAN_ROLLED for (std::uint64_t p = index; p < parts.packs; p += threads) {
    Pack<T> pack = load_pack<T>(src + parts.head, p);
    for (unsigned j = 0; j < kLanes; ++j) pack.lane[j] = scaled<Codec>(job, pack.lane[j]);
    reinterpret_cast<Pack<T>*>(dst + parts.head)[p] = pack;
  }
  const std::uint64_t tail = parts.head + parts.packs * kLanes;
  LONGSPAN_ROLLED for (std::uint64_t i = index; i < parts.head; i += threads) dst[i] = scaled<Codec>(job, src[i]);
  LONGSPAN_ROLLED for (std::uint64_t i = tail + index; i < job.count; i += threads) dst[i] = scaled<Codec>(job, src[i]);
}

// Every type, by name_of and in the order of DataType: X(name, codec). Kernels are
// longspan_{sum,prod,min,max,scale}_NAME.
#define LONGSPAN_KERNEL_TYPES(X) \
  X(int8, Plain<std::int8_t>) \
  X(uint8, Plain<std::uint8_t>) \
  X(int32, Plain<std::int32_t>) \
  X(uint32, Plain<std::uint32_t>) \
  X(int64, Plain<std::int64_t>) \
  X(uint64, Plain<std::uint64_t>) \
  X(half, Half) \
  X(bfloat16, Bfloat16) \
  X(float, Plain<float>) \
  X(double, Plain<double>) \
  X(f8e4m3, Float8E4M3) \
  X(f8e5m2, Float8E5M2)

}  // namespace longspan::device::cuda
