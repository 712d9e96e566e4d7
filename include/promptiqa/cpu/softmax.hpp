// Softmax over rows and its gradient.
// Surprising choice: a row without a finite maximum gives NaN, as in PyTorch; masking a whole row is a mistake
// that should be seen.
#pragma once

#include <limits>

#include <promptiqa/core/kernel_table.hpp>
#include <promptiqa/cpu/math.hpp>
#include <promptiqa/cpu/parallel.hpp>

namespace promptiqa::cpu {

namespace detail {
template <class S, class T>
PROMPTIQA_ALWAYS_INLINE void softmax_row(T* y, const T* x, std::int64_t columns, T scale) {
  using V = typename S::Vector;
  constexpr T lowest = -std::numeric_limits<T>::infinity();
  V m;
  S::fill(m, T(0));
  m = m + lowest;
  for_each_vector<S>(columns, [&](std::int64_t i, int count) PROMPTIQA_SIMD_LAMBDA {
    V v;
    load_some<S, T>(v, x + i, count, x[i]);  // a repeated element leaves the maximum as it is
    v = v * scale;
    m = m < v ? v : m;
  });
  const T largest = largest_lane<S, T>(m);
  const double sum = sum_of_terms<S, T>(columns, [&](V& v, std::int64_t i, int count) PROMPTIQA_SIMD_LAMBDA {
    load_some<S, T>(v, x + i, count, x[i]);
    v = v * scale - largest;
    vector_exp<V, T>(v, v);
    store_some<S, T>(y + i, v, count);
  });
  const T factor = static_cast<T>(1 / sum);
  for_each_vector<S>(columns, [&](std::int64_t i, int count) PROMPTIQA_SIMD_LAMBDA {
    V v;
    load_some<S, T>(v, y + i, count);
    v = v * factor;
    store_some<S, T>(y + i, v, count);
  });
}
}  // namespace detail

/// The body of KernelTable::softmax; see SoftmaxArgs.
template <class T, class Isa>
void softmax(const KernelContext& kc, const SoftmaxArgs<T>& args) {
  using S = Simd<T, Isa::bytes>;
  parallel_rows(kc, args.rows, args.columns, 4, [&](std::int64_t begin, std::int64_t end) {
    Isa::run([&]() PROMPTIQA_SIMD_LAMBDA {
      for (std::int64_t r = begin; r < end; ++r)
        detail::softmax_row<S, T>(args.y + r * args.columns, args.x + r * args.columns, args.columns, args.scale);
    });
  });
}

/// The body of KernelTable::softmax_backward; see SoftmaxBackwardArgs.
template <class T, class Isa>
void softmax_backward(const KernelContext& kc, const SoftmaxBackwardArgs<T>& args) {
  using S = Simd<T, Isa::bytes>;
  using V = typename S::Vector;
  parallel_rows(kc, args.rows, args.columns, 2, [&](std::int64_t begin, std::int64_t end) {
    Isa::run([&]() PROMPTIQA_SIMD_LAMBDA {
      for (std::int64_t r = begin; r < end; ++r) {
        const std::int64_t start = r * args.columns;
        const T *y = args.y + start, *dy = args.dy + start;
        T* dx = args.dx + start;
        const T dot = static_cast<T>(
            sum_of_terms<S, T>(args.columns, [&](V& v, std::int64_t i, int count) PROMPTIQA_SIMD_LAMBDA {
              V w;
              load_some<S, T>(v, y + i, count);
              load_some<S, T>(w, dy + i, count);
              v = v * w;
            }));
        for_each_vector<S>(args.columns, [&](std::int64_t i, int count) PROMPTIQA_SIMD_LAMBDA {
          V v, w;
          load_some<S, T>(v, y + i, count);
          load_some<S, T>(w, dy + i, count);
          v = (v * args.scale) * (w - dot);
          store_some<S, T>(dx + i, v, count);
        });
      }
    });
  });
}

}  // namespace promptiqa::cpu
