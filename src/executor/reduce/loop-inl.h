// The one loop behind every kernel; included once per instruction set (Highway's foreach_target).
#if defined(LONGSPAN_REDUCE_LOOP_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef LONGSPAN_REDUCE_LOOP_INL_H
#undef LONGSPAN_REDUCE_LOOP_INL_H
#else
#define LONGSPAN_REDUCE_LOOP_INL_H
#endif

#include <cstring>

#include "reduce/kernels.hpp"
#include "hwy/cache_control.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace longspan::reduce {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

struct Sum {
  template <class D, class V>
  V operator()(D, V a, V b) const { return hn::Add(a, b); }
};
struct Min {
  template <class D, class V>
  V operator()(D d, V a, V b) const {
    if constexpr (!hwy::IsFloat<hn::TFromD<D>>()) {
      return hn::Min(a, b);
    } else {
      return hn::IfThenElse(hn::Or(hn::Lt(b, a), hn::IsNaN(b)), b, a);  // a NaN in `a` stays: nothing is below it
    }
    static_cast<void>(d);
  }
};
struct Max {
  template <class D, class V>
  V operator()(D d, V a, V b) const {
    if constexpr (!hwy::IsFloat<hn::TFromD<D>>()) {
      return hn::Max(a, b);
    } else {
      return hn::IfThenElse(hn::Or(hn::Gt(b, a), hn::IsNaN(b)), b, a);
    }
    static_cast<void>(d);
  }
};

// Elements that are what they are computed in.
template <class T>
struct Plain {
  using Tag = hn::ScalableTag<T>;
  static constexpr std::size_t kSize = sizeof(T);
  static auto load(Tag d, const std::byte* from) { return hn::LoadU(d, reinterpret_cast<const T*>(from)); }
  template <class V>
  static void store(Tag d, V v, std::byte* to) { hn::StoreU(v, d, reinterpret_cast<T*>(to)); }
  template <class V>
  static void stream(Tag d, V v, std::byte* to) { hn::Stream(v, d, reinterpret_cast<T*>(to)); }
};

// All operands of a vector's worth of elements meet in registers, so the pass over memory is a single one however many
// they are. Every load of a position precedes its store: dst may be any operand.
template <class Codec, class Op, class Last>
HWY_INLINE void run_loop(const Job& job, Op op, Last last) {
  const typename Codec::Tag d;
  const std::size_t lanes = hn::Lanes(d);
  const auto at = [&](std::size_t operand, std::size_t element) {
    return static_cast<const std::byte*>(job.operands[operand]) + element * Codec::kSize;
  };
  std::size_t i = 0;
  for (; i + 4 * lanes <= job.count; i += 4 * lanes) {
    const std::byte* first = at(0, i);
    auto v0 = Codec::load(d, first);
    auto v1 = Codec::load(d, first + lanes * Codec::kSize);
    auto v2 = Codec::load(d, first + 2 * lanes * Codec::kSize);
    auto v3 = Codec::load(d, first + 3 * lanes * Codec::kSize);
    for (std::size_t k = 1; k < job.operand_count; ++k) {
      const std::byte* next = at(k, i);
      v0 = op(d, v0, Codec::load(d, next));
      v1 = op(d, v1, Codec::load(d, next + lanes * Codec::kSize));
      v2 = op(d, v2, Codec::load(d, next + 2 * lanes * Codec::kSize));
      v3 = op(d, v3, Codec::load(d, next + 3 * lanes * Codec::kSize));
    }
    std::byte* to = job.dst + i * Codec::kSize;
    if constexpr (requires { Codec::stream(d, v0, to); }) {
      if (job.past_cache) {
        Codec::stream(d, last(d, v0), to);
        Codec::stream(d, last(d, v1), to + lanes * Codec::kSize);
        Codec::stream(d, last(d, v2), to + 2 * lanes * Codec::kSize);
        Codec::stream(d, last(d, v3), to + 3 * lanes * Codec::kSize);
        continue;
      }
    }
    Codec::store(d, last(d, v0), to);
    Codec::store(d, last(d, v1), to + lanes * Codec::kSize);
    Codec::store(d, last(d, v2), to + 2 * lanes * Codec::kSize);
    Codec::store(d, last(d, v3), to + 3 * lanes * Codec::kSize);
  }
  if (job.past_cache) hwy::FlushStream();  // before anyone is told that it is there
  alignas(64) std::byte padded[HWY_MAX_BYTES] = {};
  for (; i < job.count; i += lanes) {
    const std::size_t bytes = (job.count - i < lanes ? job.count - i : lanes) * Codec::kSize;
    std::memcpy(padded, at(0, i), bytes);
    auto v = Codec::load(d, padded);
    for (std::size_t k = 1; k < job.operand_count; ++k) {
      std::memcpy(padded, at(k, i), bytes);
      v = op(d, v, Codec::load(d, padded));
    }
    Codec::store(d, last(d, v), padded);
    std::memcpy(job.dst + i * Codec::kSize, padded, bytes);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace longspan::reduce
HWY_AFTER_NAMESPACE();

#endif
