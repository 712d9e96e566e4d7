// The element-wise work of an optimiser: Adam's step, the sum of squares of a gradient, the running average of weights.
// Surprising choice: Adam's square root is a bit trick and Newton's method, because the compilers keep a vectorised
// std::sqrt from code that must set errno.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include <promptiqa/core/kernel_table.hpp>
#include <promptiqa/cpu/parallel.hpp>

namespace promptiqa::cpu {

namespace detail {

/// y = sqrt(x) for 0 <= x < infinity, right to two units in the last place for normal x; 0 for 0 and for numbers too
/// small to be normal. NaN stays NaN.
template <class V, class T>
PROMPTIQA_ALWAYS_INLINE void vector_sqrt(V& y, const V& x) {
  using Word = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;
  typedef Word Words __attribute__((vector_size(sizeof(V))));
  constexpr Word magic = sizeof(T) == 4 ? Word(0x5F3759DFu) : static_cast<Word>(0x5FE6EB50C7B537A9ull);
  constexpr T least = sizeof(T) == 4 ? T(0x1p-126) : T(0x1p-1022);
  const V zero = {};
  Words bits;
  std::memcpy(&bits, &x, sizeof(V));
  bits = magic - (bits >> 1);  // 1 / sqrt(x) to 3.5%
  V r;
  std::memcpy(&r, &bits, sizeof(V));
  // Each round squares the error: 1.8e-3, 4.7e-6, 3e-11, and for double 2e-21.
  for (int round = 0; round < (sizeof(T) == 4 ? 3 : 4); ++round) r = r * (T(1.5) - ((T(0.5) * x) * r) * r);
  V s = x * r;
  s = s + (T(0.5) * r) * (x - s * s);  // takes the rounding of r out
  y = x < least ? zero : s;
}

}  // namespace detail

/// The body of KernelTable::adam_step; see AdamStepArgs.
template <class T, class Isa>
void adam_step(const KernelContext& kc, const AdamStepArgs<T>& args) {
  using S = Simd<T, Isa::bytes>;
  using V = typename S::Vector;
  const T shrink = args.decoupled ? T(1) - args.learning_rate * args.weight_decay : T(1);
  const T coupled = args.decoupled ? T(0) : args.weight_decay;
  const T rate = args.learning_rate / args.correction1, root = T(1) / args.correction2;
  const T rest1 = T(1) - args.beta1, rest2 = T(1) - args.beta2;
  parallel_elements(kc, args.count, [&](std::int64_t begin, std::int64_t end) {
    Isa::run([&]() PROMPTIQA_SIMD_LAMBDA {
      const T* gradient = args.gradient + begin;
      T *parameter = args.parameter + begin, *m = args.m + begin, *v = args.v + begin;
      for_each_vector<S>(end - begin, [&](std::int64_t i, int count) PROMPTIQA_SIMD_LAMBDA {
        V p, g, first, second, deviation;
        load_some<S, T>(p, parameter + i, count);
        load_some<S, T>(g, gradient + i, count);
        load_some<S, T>(first, m + i, count);
        load_some<S, T>(second, v + i, count);
        g = g * args.gradient_scale + p * coupled;
        first = first + (g - first) * rest1;
        second = second * args.beta2 + (g * g) * rest2;
        const V corrected = second * root;
        detail::vector_sqrt<V, T>(deviation, corrected);
        p = p * shrink - (first * rate) / (deviation + args.eps);
        store_some<S, T>(parameter + i, p, count);
        store_some<S, T>(m + i, first, count);
        store_some<S, T>(v + i, second, count);
      });
    });
  });
}

/// The body of KernelTable::sum_of_squares; see SumOfSquaresArgs.
template <class T, class Isa>
void sum_of_squares(const KernelContext& kc, const SumOfSquaresArgs<T>& args) {
  using S = Simd<T, Isa::bytes>;
  using V = typename S::Vector;
  *args.sum = sum_in_blocks(kc, args.count, *args.sum, [&](std::int64_t begin, std::int64_t n) {
    double sum = 0;
    Isa::run([&]() PROMPTIQA_SIMD_LAMBDA {
      sum = sum_of_terms<S, T>(n, [&](V& v, std::int64_t i, int count) PROMPTIQA_SIMD_LAMBDA {
        load_some<S, T>(v, args.x + begin + i, count);
        v = v * v;
      });
    });
    return sum;
  });
}

/// The body of KernelTable::lerp; see LerpArgs.
template <class T, class Isa>
void lerp(const KernelContext& kc, const LerpArgs<T>& args) {
  using S = Simd<T, Isa::bytes>;
  using V = typename S::Vector;
  parallel_elements(kc, args.count, [&](std::int64_t begin, std::int64_t end) {
    Isa::run([&]() PROMPTIQA_SIMD_LAMBDA {
      const T* x = args.x + begin;
      T* y = args.y + begin;
      for_each_vector<S>(end - begin, [&](std::int64_t i, int count) PROMPTIQA_SIMD_LAMBDA {
        V from, to;
        load_some<S, T>(from, y + i, count);
        load_some<S, T>(to, x + i, count);
        from = from + (to - from) * args.weight;
        store_some<S, T>(y + i, from, count);
      });
    });
  });
}

}  // namespace promptiqa::cpu
