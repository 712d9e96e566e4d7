// Copies that change the order of elements (permute, rows, selection), and the sums and repeats that go with them.
// Surprising choice: every permutation is a batch of copies of runs or of two-dimensional transposes: after merging
// dimensions, the innermost ones of x and of y are the only two that decide how memory is walked.
#pragma once

#include <cstring>
#include <type_traits>

#include <promptiqa/core/kernel_table.hpp>
#include <promptiqa/core/permute_loops.hpp>
#include <promptiqa/cpu/parallel.hpp>

namespace promptiqa::cpu {

namespace detail {

inline constexpr std::int64_t transpose_tile = 32;  // a tile of x and one of y fit the first-level cache together

/// y[c * y_stride + r] = x[r * x_stride + c] for rows x columns elements of x.
template <class T>
PROMPTIQA_ALWAYS_INLINE void transpose(T* y, std::int64_t y_stride, const T* x, std::int64_t x_stride,
                                       std::int64_t rows, std::int64_t columns) {
  constexpr std::int64_t tile = 8;  // small enough for the compiler to keep in registers
  std::int64_t r = 0;
  for (; r + tile <= rows; r += tile) {
    std::int64_t c = 0;
    for (; c + tile <= columns; c += tile) {
      T block[tile][tile];
      for (std::int64_t i = 0; i < tile; ++i) std::memcpy(block[i], x + (r + i) * x_stride + c, tile * sizeof(T));
      for (std::int64_t j = 0; j < tile; ++j) {
        T line[tile];
        for (std::int64_t i = 0; i < tile; ++i) line[i] = block[i][j];
        std::memcpy(y + (c + j) * y_stride + r, line, tile * sizeof(T));
      }
    }
    for (; c < columns; ++c)
      for (std::int64_t i = 0; i < tile; ++i) y[c * y_stride + r + i] = x[(r + i) * x_stride + c];
  }
  for (; r < rows; ++r)
    for (std::int64_t c = 0; c < columns; ++c) y[c * y_stride + r] = x[r * x_stride + c];
}

/// x and y offsets of entry `item` of the loops, leaving out dimensions skip_a and skip_b.
struct Offsets {
  std::int64_t x = 0, y = 0;
};
inline Offsets offsets_of(const PermuteLoops& loops, std::int64_t item, int skip_a, int skip_b) {
  Offsets at;
  for (int d = loops.rank - 1; d >= 0; --d) {
    if (d == skip_a || d == skip_b) continue;
    const std::int64_t i = item % loops.dims[d];
    item /= loops.dims[d];
    at.x += i * loops.x_strides[d];
    at.y += i * loops.y_strides[d];
  }
  return at;
}

/// Copies `count` rows of `run` elements, in parallel; source(i) and target(i) are where row i starts.
template <class T, class Source, class Target>
void copy_runs(const KernelContext& kc, std::int64_t count, std::int64_t run, Source&& source, Target&& target) {
  if (count <= 0 || run <= 0) return;
  const std::int64_t piece = std::min(run, 4 * stream_grain), pieces = (run + piece - 1) / piece;
  parallel_rows(kc, count * pieces, piece, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t item = begin; item < end; ++item) {
      const std::int64_t row = item / pieces, first = item % pieces * piece;
      const T* from = source(row) + first;
      T* to = target(row) + first;
      const std::int64_t n = std::min(piece, run - first);
      if (n < 8)
        for (std::int64_t i = 0; i < n; ++i) to[i] = from[i];
      else
        std::memcpy(to, from, static_cast<std::size_t>(n) * sizeof(T));
    }
  });
}

/// One vector of columns of a reduction: y[i] = scale * sum over a of x[a * stride + i], emptied into doubles every 64.
template <class S, class T>
PROMPTIQA_ALWAYS_INLINE void sum_columns(T* y, const T* x, std::int64_t axis, std::int64_t stride, int count, T scale) {
  using V = typename S::Vector;
  if (axis <= 64) {  // a short sum needs no doubles
    V sum = {}, v;
    for (std::int64_t a = 0; a < axis; ++a) {
      load_some<S, T>(v, x + a * stride, count);
      sum += v;
    }
    sum = sum * scale;
    store_some<S, T>(y, sum, count);
    return;
  }
  double total[S::width] = {};
  for (std::int64_t a = 0; a < axis;) {
    const std::int64_t end = std::min(axis, a + 64);
    V sum = {}, v;
    for (; a < end; ++a) {
      load_some<S, T>(v, x + a * stride, count);
      sum += v;
    }
    for (int i = 0; i < S::width; ++i) total[i] += static_cast<double>(sum[i]);
  }
  for (int i = 0; i < count; ++i) y[i] = static_cast<T>(total[i] * static_cast<double>(scale));
}

}  // namespace detail

/// The body of KernelTable::copy_rows; see CopyRowsArgs.
template <class T, class Isa>
void copy_rows(const KernelContext& kc, const CopyRowsArgs<T>& args) {
  const bool one_run = args.run == args.x_stride && args.run == args.y_stride;
  detail::copy_runs<T>(
      kc, one_run ? 1 : args.rows, one_run ? args.rows * args.run : args.run,
      [&](std::int64_t i) { return args.x + i * args.x_stride; },
      [&](std::int64_t i) { return args.y + i * args.y_stride; });
}

/// The body of KernelTable::permute; see PermuteArgs.
template <class T, class Isa>
void permute(const KernelContext& kc, const PermuteArgs<T>& args) {
  const PermuteLoops loops = merge_dimensions(args);
  const int last = loops.rank - 1;
  std::int64_t count = 1;
  for (int d = 0; d < loops.rank; ++d) count *= loops.dims[d];
  if (count == 0) return;
  if (loops.x_strides[last] == 1) {
    const std::int64_t run = loops.dims[last];
    detail::copy_runs<T>(
        kc, count / run, run, [&](std::int64_t i) { return args.x + detail::offsets_of(loops, i, last, last).x; },
        [&](std::int64_t i) { return args.y + i * run; });
    return;
  }
  int innermost_of_x = 0;
  while (loops.x_strides[innermost_of_x] != 1) ++innermost_of_x;
  const std::int64_t rows = loops.dims[last], columns = loops.dims[innermost_of_x];  // of x: columns lie together
  const std::int64_t x_stride = loops.x_strides[last], y_stride = loops.y_strides[innermost_of_x];
  constexpr std::int64_t tile = detail::transpose_tile;
  const std::int64_t strips = (rows + tile - 1) / tile;
  parallel_rows(kc, count / (rows * columns) * strips, std::min(rows, tile) * columns, 2,
                [&](std::int64_t begin, std::int64_t end) {
                  Isa::run([&]() PROMPTIQA_SIMD_LAMBDA {
                    for (std::int64_t item = begin; item < end; ++item) {
                      const detail::Offsets at = detail::offsets_of(loops, item / strips, last, innermost_of_x);
                      const std::int64_t r = item % strips * tile, n = std::min(tile, rows - r);
                      for (std::int64_t c = 0; c < columns; c += tile)
                        detail::transpose(args.y + at.y + c * y_stride + r, y_stride,
                                          args.x + at.x + r * x_stride + c, x_stride, n, std::min(tile, columns - c));
                    }
                  });
                });
}

/// The body of KernelTable::index_select; see IndexSelectArgs.
template <class T, class Isa>
void index_select(const KernelContext& kc, const IndexSelectArgs<T>& args) {
  detail::copy_runs<T>(
      kc, args.outer * args.count, args.inner,
      [&](std::int64_t i) {
        return args.x + (i / args.count * args.axis + args.index[i % args.count]) * args.inner;
      },
      [&](std::int64_t i) { return args.y + i * args.inner; });
}

/// The body of KernelTable::index_select_backward; see IndexSelectBackwardArgs.
template <class T, class Isa>
void index_select_backward(const KernelContext& kc, const IndexSelectBackwardArgs<T>& args) {
  using S = Simd<T, Isa::bytes>;
  using V = typename S::Vector;
  if (args.inner == 0) return;
  // Each thread owns columns of one outer entry: repeated indices never meet in two threads.
  const std::int64_t piece = std::min<std::int64_t>(args.inner, 256), pieces = (args.inner + piece - 1) / piece;
  parallel_rows(kc, args.outer * pieces, (args.axis + args.count) * piece, 1,
                [&](std::int64_t begin, std::int64_t end) {
                  Isa::run([&]() PROMPTIQA_SIMD_LAMBDA {
                    for (std::int64_t item = begin; item < end; ++item) {
                      const std::int64_t outer = item / pieces, first = item % pieces * piece;
                      const std::int64_t n = std::min(piece, args.inner - first);
                      T* dx = args.dx + outer * args.axis * args.inner + first;
                      const T* dy = args.dy + outer * args.count * args.inner + first;
                      for (std::int64_t a = 0; a < args.axis; ++a)
                        std::memset(dx + a * args.inner, 0, static_cast<std::size_t>(n) * sizeof(T));
                      for (std::int64_t j = 0; j < args.count; ++j) {
                        T* target = dx + args.index[j] * args.inner;
                        const T* source = dy + j * args.inner;
                        for_each_vector<S>(n, [&](std::int64_t i, int count) PROMPTIQA_SIMD_LAMBDA {
                          V v, w;
                          load_some<S, T>(v, target + i, count);
                          load_some<S, T>(w, source + i, count);
                          v = v + w;
                          store_some<S, T>(target + i, v, count);
                        });
                      }
                    }
                  });
                });
}

/// The body of KernelTable::reduce_sum; see ReduceSumArgs.
template <class T, class Isa>
void reduce_sum(const KernelContext& kc, const ReduceSumArgs<T>& args) {
  using S = Simd<T, Isa::bytes>;
  using V = typename S::Vector;
  if (args.inner == 1) {
    parallel_rows(kc, args.outer, args.axis, 1, [&](std::int64_t begin, std::int64_t end) {
      Isa::run([&]() PROMPTIQA_SIMD_LAMBDA {
        for (std::int64_t o = begin; o < end; ++o) {
          const T* x = args.x + o * args.axis;
          const double sum =
              sum_of_terms<S, T>(args.axis, [&](V& v, std::int64_t i, int count) PROMPTIQA_SIMD_LAMBDA {
                load_some<S, T>(v, x + i, count);
              });
          args.y[o] = static_cast<T>(sum * static_cast<double>(args.scale));
        }
      });
    });
    return;
  }
  const std::int64_t vectors = (args.inner + S::width - 1) / S::width;
  parallel_rows(kc, args.outer * vectors, args.axis * S::width, 1, [&](std::int64_t begin, std::int64_t end) {
    Isa::run([&]() PROMPTIQA_SIMD_LAMBDA {
      for (std::int64_t item = begin; item < end; ++item) {
        const std::int64_t outer = item / vectors, first = item % vectors * S::width;
        const T* x = args.x + outer * args.axis * args.inner + first;
        T* y = args.y + outer * args.inner + first;
        const std::int64_t left = args.inner - first;
        if (left >= S::width)
          detail::sum_columns<S, T>(y, x, args.axis, args.inner, S::width, args.scale);
        else
          detail::sum_columns<S, T>(y, x, args.axis, args.inner, static_cast<int>(left), args.scale);
      }
    });
  });
}

/// The body of KernelTable::column_sum; see ColumnSumArgs.
template <class T, class Isa>
void column_sum(const KernelContext& kc, const ColumnSumArgs<T>& args) {
  static_assert(std::is_same_v<T, accumulate_t<T>>, "CPU activations are float or double");
  reduce_sum<T, Isa>(kc, {1, args.rows, args.columns, T(1), args.x, args.y});
}

/// The body of KernelTable::expand; see ExpandArgs.
template <class T, class Isa>
void expand(const KernelContext& kc, const ExpandArgs<T>& args) {
  using S = Simd<T, Isa::bytes>;
  using V = typename S::Vector;
  if (args.inner == 1) {
    parallel_rows(kc, args.outer, args.axis, 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t o = begin; o < end; ++o)
        std::fill(args.y + o * args.axis, args.y + (o + 1) * args.axis, args.scale * args.x[o]);
    });
    return;
  }
  parallel_rows(kc, args.outer * args.axis, args.inner, 1, [&](std::int64_t begin, std::int64_t end) {
    Isa::run([&]() PROMPTIQA_SIMD_LAMBDA {
      for (std::int64_t row = begin; row < end; ++row) {
        const T* x = args.x + row / args.axis * args.inner;
        T* y = args.y + row * args.inner;
        for_each_vector<S>(args.inner, [&](std::int64_t i, int count) PROMPTIQA_SIMD_LAMBDA {
          V v;
          load_some<S, T>(v, x + i, count);
          v = v * args.scale;
          store_some<S, T>(y + i, v, count);
        });
      }
    });
  });
}

}  // namespace promptiqa::cpu
