// Pieces of the im2col matrix of one image, and the reverse sum: row k = (channel, ky, kx), column p = (oy, ox),
// element x[channel, oy * stride + ky - pad, ox * stride + kx - pad], zero outside the image.
// Surprising choice: only pieces that fit a cache are ever made; the matrix itself never exists.
#pragma once

#include <algorithm>
#include <cstdint>

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

/// Rows [k0, k0 + rows) and columns [p0, p0 + columns) of the im2col matrix of x (in_channels, in_h, in_w), to
/// out[i * pitch + j]; columns up to `width` <= pitch become zero.
template <class T, class Isa>
void im2col(T* out, std::int64_t pitch, std::int64_t width, const Conv2dGeometry& g, const T* x, std::int64_t k0,
            std::int64_t rows, std::int64_t p0, std::int64_t columns) {
  using S = Simd<T, Isa::bytes>;
  Isa::run([&]() PROMPTIQA_SIMD_LAMBDA {
    const std::int64_t first_oy = p0 / g.out_w, first_ox = p0 % g.out_w;
    std::int64_t kx = k0 % g.kernel_w, ky = k0 / g.kernel_w % g.kernel_h, c = k0 / g.kernel_w / g.kernel_h;
    for (std::int64_t i = 0; i < rows; ++i, out += pitch) {
      std::int64_t oy = first_oy, ox = first_ox;
      for (std::int64_t j = 0; j < columns; ++oy, ox = 0) {
        const std::int64_t count = std::min(columns - j, g.out_w - ox);
        const Im2colRun run = im2col_run(g, ky, kx, oy, ox, count);
        T* to = out + j;
        for (std::int64_t t = 0; t < run.begin; ++t) to[t] = T(0);
        if (run.begin < run.end) {
          const T* from = x + (c * g.in_h + run.iy) * g.in_w + run.ix;
          if (g.stride_w != 1) {
            for (std::int64_t t = run.begin; t < run.end; ++t) to[t] = from[t * g.stride_w];
          } else if (run.end - run.begin >= S::width) {
            // Whole vectors; the last one overlaps its neighbour instead of leaving a tail.
            typename S::Vector v;
            for (std::int64_t t = run.begin; t < run.end - S::width; t += S::width) {
              S::load(v, from + t);
              S::store(to + t, v);
            }
            S::load(v, from + run.end - S::width);
            S::store(to + run.end - S::width, v);
          } else {
            for (std::int64_t t = run.begin; t < run.end; ++t) to[t] = from[t];
          }
        }
        for (std::int64_t t = run.end; t < count; ++t) to[t] = T(0);
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
            for (; t < run.end; ++t) to[t * g.stride_w] += from[t];
          }
  });
}

}  // namespace promptiqa::cpu
