// Pieces of the im2col matrix of one image, and the reverse sum: row k = (channel, ky, kx), column p = (oy, ox),
// element x[channel, oy * stride + ky - pad, ox * stride + kx - pad], zero outside the image.
// Surprising choice: only pieces that fit a cache are ever made; the matrix itself never exists.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>

#include <promptiqa/core/kernel_table.hpp>
#include <promptiqa/cpu/simd.hpp>

namespace promptiqa::cpu {

/// A 1 x 1 convolution at stride 1 sees an image as one long row: its im2col rows are then plain copies.
inline bool is_pointwise(const Conv2dGeometry& g) {
  return g.kernel_h == 1 && g.kernel_w == 1 && g.stride_h == 1 && g.stride_w == 1 && g.pad_h == 0 && g.pad_w == 0;
}
inline Conv2dGeometry flatten_pointwise(Conv2dGeometry g) {
  if (is_pointwise(g)) {
    g.in_w *= g.in_h;
    g.out_w = g.in_w;
    g.in_h = g.out_h = 1;
  }
  return g;
}

/// A run of neighbouring output pixels under one kernel element, as it lies on a row of the image.
struct Im2colRun {
  std::int64_t iy, ix;       // the input pixel of the run's first output pixel; may lie outside
  std::int64_t begin, end;   // the part of [0, count) that lies inside the image
};
PROMPTIQA_ALWAYS_INLINE Im2colRun im2col_run(const Conv2dGeometry& g, std::int64_t ky, std::int64_t kx, std::int64_t oy,
                                             std::int64_t ox, std::int64_t count) {
  Im2colRun run{oy * g.stride_h + ky - g.pad_h, ox * g.stride_w + kx - g.pad_w, 0, 0};
  if (run.iy < 0 || run.iy >= g.in_h || run.ix >= g.in_w) return run;
  const std::int64_t before = std::max<std::int64_t>(0, -run.ix), room = g.in_w - run.ix;
  if (g.stride_w == 1) {
    run.begin = std::min(count, before);
    run.end = std::min(count, room);
  } else {
    run.begin = std::min(count, (before + g.stride_w - 1) / g.stride_w);
    run.end = std::min(count, (room + g.stride_w - 1) / g.stride_w);
  }
  run.end = std::max(run.begin, run.end);
  return run;
}

// The even or odd elements of the pair of vectors (a, b); and the lower or upper half of v spread over even lanes.
template <class V, int... I>
PROMPTIQA_ALWAYS_INLINE void every_other(V& out, const V& a, const V& b, bool odd, std::integer_sequence<int, I...>) {
  out = odd ? __builtin_shufflevector(a, b, (2 * I + 1)...) : __builtin_shufflevector(a, b, (2 * I)...);
}
template <class V, int... I>
PROMPTIQA_ALWAYS_INLINE void spread(V& low, V& high, const V& v, std::integer_sequence<int, I...>) {
  constexpr int width = sizeof...(I);
  const V zero = {};
  low = __builtin_shufflevector(v, zero, (I % 2 ? width : I / 2)...);
  high = __builtin_shufflevector(v, zero, (I % 2 ? width : width / 2 + I / 2)...);
}

/// to[t] = from[t] for t in [0, n): whole vectors, the last one overlapping its neighbour instead of leaving a tail;
/// vectors half as long for a run that is shorter than one.
template <class T, int Bytes>
PROMPTIQA_ALWAYS_INLINE void copy_run(T* to, const T* from, std::int64_t n) {
  using S = Simd<T, Bytes>;
  if (n >= S::width) {
    typename S::Vector v;
    for (std::int64_t t = 0; t < n - S::width; t += S::width) {
      S::load(v, from + t);
      S::store(to + t, v);
    }
    S::load(v, from + n - S::width);
    S::store(to + n - S::width, v);
  } else if constexpr (S::width > 4) {
    copy_run<T, Bytes / 2>(to, from, n);
  } else {
    for (std::int64_t t = 0; t < n; ++t) to[t] = from[t];
  }
}

/// to[t] = from[2 t] for t in [0, n), reading nothing outside from[0 .. 2 n - 2].
template <class T, int Bytes>
PROMPTIQA_ALWAYS_INLINE void copy_every_other(T* to, const T* from, std::int64_t n) {
  using S = Simd<T, Bytes>;
  if (n > S::width) {
    constexpr auto lanes = std::make_integer_sequence<int, S::width>{};
    typename S::Vector v, w;
    for (std::int64_t t = 0; t < n - S::width; t += S::width) {
      S::load(v, from + 2 * t);
      S::load(w, from + 2 * t + S::width);
      every_other(v, v, w, false, lanes);
      S::store(to + t, v);
    }
    const T* last = from + 2 * (n - S::width) - 1;  // one element early: its odd ones end at the last one wanted
    S::load(v, last);
    S::load(w, last + S::width);
    every_other(v, v, w, true, lanes);
    S::store(to + n - S::width, v);
  } else if constexpr (S::width > 4) {
    copy_every_other<T, Bytes / 2>(to, from, n);
  } else {
    for (std::int64_t t = 0; t < n; ++t) to[t] = from[2 * t];
  }
}

/// to[2 t] += from[t] for t in [0, n), touching nothing outside to[0 .. 2 n - 2].
template <class T, int Bytes>
PROMPTIQA_ALWAYS_INLINE void add_to_every_other(T* to, const T* from, std::int64_t n) {
  using S = Simd<T, Bytes>;
  constexpr auto lanes = std::make_integer_sequence<int, S::width>{};
  std::int64_t t = 0;
  for (; t + S::width < n; t += S::width) {
    typename S::Vector v, low, high, w;
    S::load(v, from + t);
    spread(low, high, v, lanes);
    S::load(w, to + 2 * t);
    w += low;
    S::store(to + 2 * t, w);
    S::load(w, to + 2 * t + S::width);
    w += high;
    S::store(to + 2 * t + S::width, w);
  }
  if constexpr (S::width > 4) {
    add_to_every_other<T, Bytes / 2>(to + 2 * t, from + t, n - t);
  } else {
    for (; t < n; ++t) to[2 * t] += from[t];
  }
}

/// out[j] = im2col's element of output pixel (oy, ox + j) under kernel element (ky, kx), for j in [0, count), from one
/// channel's plane; pixels past the output's width are as if it were wider.
template <class T, class Isa>
PROMPTIQA_ALWAYS_INLINE void copy_im2col_run(T* out, const Conv2dGeometry& g, const T* plane, std::int64_t ky,
                                             std::int64_t kx, std::int64_t oy, std::int64_t ox, std::int64_t count) {
  const Im2colRun run = im2col_run(g, ky, kx, oy, ox, count);
  for (std::int64_t t = 0; t < run.begin; ++t) out[t] = T(0);
  if (run.begin < run.end) {
    const T* from = plane + run.iy * g.in_w + run.ix;
    const std::int64_t inside = run.end - run.begin;
    if (g.stride_w == 1)
      copy_run<T, Isa::bytes>(out + run.begin, from + run.begin, inside);
    else if (g.stride_w == 2)
      copy_every_other<T, Isa::bytes>(out + run.begin, from + 2 * run.begin, inside);
    else
      for (std::int64_t t = run.begin; t < run.end; ++t) out[t] = from[t * g.stride_w];
  }
  for (std::int64_t t = run.end; t < count; ++t) out[t] = T(0);
}

/// Rows [k0, k0 + rows) and columns [p0, p0 + columns) of the im2col matrix of x (in_channels, in_h, in_w), to
/// out[i * pitch + j]; columns up to `width` <= pitch become zero.
template <class T, class Isa>
void im2col(T* out, std::int64_t pitch, std::int64_t width, const Conv2dGeometry& g, const T* x, std::int64_t k0,
            std::int64_t rows, std::int64_t p0, std::int64_t columns) {
  Isa::run([&]() PROMPTIQA_SIMD_LAMBDA {
    const std::int64_t first_oy = p0 / g.out_w, first_ox = p0 % g.out_w;
    std::int64_t kx = k0 % g.kernel_w, ky = k0 / g.kernel_w % g.kernel_h, c = k0 / g.kernel_w / g.kernel_h;
    for (std::int64_t i = 0; i < rows; ++i, out += pitch) {
      std::int64_t oy = first_oy, ox = first_ox;
      for (std::int64_t j = 0; j < columns; ++oy, ox = 0) {
        const std::int64_t count = std::min(columns - j, g.out_w - ox);
        copy_im2col_run<T, Isa>(out + j, g, x + c * g.in_h * g.in_w, ky, kx, oy, ox, count);
        j += count;
      }
      for (std::int64_t j = columns; j < width; ++j) out[j] = T(0);
      if (++kx == g.kernel_w) {
        kx = 0;
        if (++ky == g.kernel_h) {
          ky = 0;
          ++c;
        }
      }
    }
  });
}

/// Adds the im2col rows of channels [c0, c0 + channels), which lie at columns[i * pitch], to the planes of x
/// (in_channels, in_h, in_w) they came from.
template <class T, class Isa>
void col2im_add(T* x, const Conv2dGeometry& g, const T* columns, std::int64_t pitch, std::int64_t c0,
                std::int64_t channels) {
  using S = Simd<T, Isa::bytes>;
  Isa::run([&]() PROMPTIQA_SIMD_LAMBDA {
    for (std::int64_t c = c0; c < c0 + channels; ++c)
      for (std::int64_t ky = 0; ky < g.kernel_h; ++ky)
        for (std::int64_t kx = 0; kx < g.kernel_w; ++kx, columns += pitch)
          for (std::int64_t oy = 0; oy < g.out_h; ++oy) {
            const Im2colRun run = im2col_run(g, ky, kx, oy, 0, g.out_w);
            if (run.begin >= run.end) continue;
            const T* from = columns + oy * g.out_w;
            T* to = x + (c * g.in_h + run.iy) * g.in_w + run.ix;
            std::int64_t t = run.begin;
            if (g.stride_w == 1) {
              typename S::Vector v, w;
              for (; t + S::width <= run.end; t += S::width) {
                S::load(v, from + t);
                S::load(w, to + t);
                w += v;
                S::store(to + t, w);
              }
            }
            if (g.stride_w == 2)
              add_to_every_other<T, Isa::bytes>(to + 2 * t, from + t, run.end - t);
            else
              for (; t < run.end; ++t) to[t * g.stride_w] += from[t];
          }
  });
}

}  // namespace promptiqa::cpu
