// The gradient of a convolution's weight at stride 1, as sums over shifted views of a padded image.
// Surprising choice: an im2col row is the padded image itself, some elements on, so nothing is copied once per tap.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include <promptiqa/core/kernel_table.hpp>
#include <promptiqa/core/memory_pool.hpp>
#include <promptiqa/core/thread_pool.hpp>
#include <promptiqa/cpu/panel_product.hpp>
#include <promptiqa/cpu/parallel.hpp>

namespace promptiqa::cpu {

/// dweight (outputs, depth) = the sum over groups, in order, of sums (groups, depth, pitch >= outputs), transposed.
template <class T>
void add_weight_groups(ThreadPool& pool, const T* sums, std::int64_t groups, std::int64_t depth, std::int64_t outputs,
                       std::int64_t pitch, T* dweight) {
  pool.parallel_for((depth + 63) / 64, [&](std::int64_t part) {
    const std::int64_t end = std::min(depth, (part + 1) * 64);
    for (std::int64_t o = 0; o < outputs; ++o)
      for (std::int64_t k = part * 64; k < end; ++k) {
        T total = sums[k * pitch + o];
        for (std::int64_t group = 1; group < groups; ++group) total += sums[(group * depth + k) * pitch + o];
        dweight[o * depth + k] = total;
      }
  });
}

/// Elements from one row of the padded image to the next.
inline std::int64_t padded_pitch(const Conv2dGeometry& g) { return g.in_w + 2 * g.pad_w; }

/// Whether the columns thrown away cost less than copying pieces of im2col would.
template <class T, class Isa>
bool shifted_pays(const Conv2dGeometry& g) {
  using Tile = PanelTile<T, Isa>;
  if (g.stride_h != 1 || g.stride_w != 1 || g.kernel_h * g.kernel_w < 4 || g.out_h * g.out_w == 0) return false;
  const std::int64_t columns = Tile::padded((g.out_h - 1) * padded_pitch(g) + g.out_w);
  return 8 * columns <= 9 * Tile::padded(g.out_h * g.out_w);
}

/// Rows [iy, iy + rows) of the padded image, for channels [c, c + channels): out (channels, rows, pitch). Row 0 is
/// the first of the padding; x is the image (in_channels, in_h, in_w).
template <class T, class Isa>
void pad_rows(T* out, const Conv2dGeometry& g, const T* x, std::int64_t c, std::int64_t channels, std::int64_t iy,
              std::int64_t rows) {
  const std::int64_t pitch = padded_pitch(g);
  for (std::int64_t i = 0; i < channels * rows; ++i, out += pitch) {
    const std::int64_t y = iy + i % rows - g.pad_h;
    if (y < 0 || y >= g.in_h) {
      std::fill_n(out, pitch, T(0));
      continue;
    }
    std::fill_n(out, g.pad_w, T(0));
    std::copy_n(x + ((c + i / rows) * g.in_h + y) * g.in_w, g.in_w, out + g.pad_w);
    std::fill_n(out + g.pad_w + g.in_w, g.pad_w, T(0));
  }
}

/// body(rows, vectors, row, column), the first two constants, for register tiles that cover (m, n), n whole vectors.
template <class T, class Isa, class Body>
PROMPTIQA_ALWAYS_INLINE void for_each_tile(std::int64_t m, std::int64_t n, Body&& body) {
  using Tile = PanelTile<T, Isa>;
  const auto rows_of = [&](auto vectors, std::int64_t column) PROMPTIQA_SIMD_LAMBDA {
    std::int64_t row = 0;
    for (; row + Tile::rows <= m; row += Tile::rows)
      body(std::integral_constant<int, Tile::rows>{}, vectors, row, column);
    for (; row + 2 <= m; row += 2) body(std::integral_constant<int, 2>{}, vectors, row, column);
    if (row < m) body(std::integral_constant<int, 1>{}, vectors, row, column);
  };
  std::int64_t column = 0;
  for (; column + Tile::panel_columns <= n; column += Tile::panel_columns)
    rows_of(std::integral_constant<int, Tile::vectors>{}, column);
  const std::int64_t vectors = (n - column) / Tile::width;
  if (vectors == 1) rows_of(std::integral_constant<int, 1>{}, column);
  if constexpr (Tile::vectors > 2) {
    if (vectors == 2) rows_of(std::integral_constant<int, 2>{}, column);
    if (vectors == 3) rows_of(std::integral_constant<int, 3>{}, column);
  }
}

// Stores a tile's sums, adding what was there when asked to.
template <class T, class Isa, int R, int V>
PROMPTIQA_ALWAYS_INLINE void store_sums(T* c, std::int64_t c_row,
                                        const typename Simd<T, Isa::bytes>::Vector (&sum)[R * V], bool accumulate) {
  using S = Simd<T, Isa::bytes>;
  unroll<R>([&](auto r) PROMPTIQA_SIMD_LAMBDA {
    unroll<V>([&](auto v) PROMPTIQA_SIMD_LAMBDA {
      T* out = c + r * c_row + v * S::width;
      typename S::Vector value = sum[r * V + v];
      if (accumulate) {
        typename S::Vector before;
        S::load(before, out);
        value += before;
      }
      S::store(out, value);
    });
  });
}

/// c (m, n), or c += when `accumulate`: element (i, j) is the sum over pixels (y, x) of a rectangle of
/// a[offsets[i] + y * pitch + x] * b(y * columns + x, j), with b (rows * columns, n) in panels and n whole vectors.
template <class T>
struct ShiftedSumArgs {
  std::int64_t m, n, rows, columns, pitch;
  const T* a;
  const std::int64_t* offsets;  // (m)
  const T* b;
  T* c;
  bool accumulate;
};

template <class T, class Isa, int R, int V>
PROMPTIQA_ALWAYS_INLINE void shifted_sum_tile(const ShiftedSumArgs<T>& g, std::int64_t row, std::int64_t column) {
  using S = Simd<T, Isa::bytes>;
  using Vector = typename S::Vector;
  Vector sum[R * V];
  const T* a[R];
  unroll<R>([&](auto r) PROMPTIQA_SIMD_LAMBDA {
    a[r] = g.a + g.offsets[row + r];
    unroll<V>([&](auto v) PROMPTIQA_SIMD_LAMBDA { broadcast(sum[r * V + v], T(0)); });
  });
  const T* b = g.b + column * g.rows * g.columns;
  const std::int64_t skip = g.pitch - g.columns;
  std::int64_t at = 0;
  for (std::int64_t y = 0; y < g.rows; ++y, at += skip)
    for (const std::int64_t end = at + g.columns; at < end; ++at, b += V * S::width) {
      Vector right[V];
      unroll<V>([&](auto v) PROMPTIQA_SIMD_LAMBDA { S::load(right[v], b + v * S::width); });
      unroll<R>([&](auto r) PROMPTIQA_SIMD_LAMBDA {
        Vector left;
        broadcast(left, a[r][at]);
        unroll<V>([&](auto v) PROMPTIQA_SIMD_LAMBDA { sum[r * V + v] += left * right[v]; });
      });
    }
  store_sums<T, Isa, R, V>(g.c + row * g.n + column, g.n, sum, g.accumulate);
}

/// Computes the sums on the calling thread.
template <class T, class Isa>
void shifted_sum(const ShiftedSumArgs<T>& g) {
  Isa::run([&]() PROMPTIQA_SIMD_LAMBDA {
    const auto tile = [&](auto rows, auto vectors, std::int64_t row, std::int64_t column) PROMPTIQA_SIMD_LAMBDA {
      shifted_sum_tile<T, Isa, rows, vectors>(g, row, column);
    };
    for_each_tile<T, Isa>(g.m, g.n, tile);
  });
}

/// dweight for a geometry of stride 1 and at least one image. Images are cut into groups, and an image's rows into
/// blocks, by the geometry alone, and the groups' sums are added in order: the same bits for any number of threads.
/// Throws std::bad_alloc.
template <class T, class Isa>
void conv2d_shifted_backward_weight(const KernelContext& ctx, const Conv2dBackwardWeightArgs<T>& args) {
  using Tile = PanelTile<T, Isa>;
  auto& pool = *static_cast<ThreadPool*>(ctx.execution);
  auto& memory = *static_cast<MemoryPool*>(ctx.memory);
  const Conv2dGeometry& g = args.geometry;
  const std::int64_t outputs = g.out_channels, taps = g.kernel_h * g.kernel_w, depth = g.in_channels * taps;
  const std::int64_t area = g.out_h * g.out_w, pitch = padded_pitch(g), columns = Tile::padded(outputs);

  constexpr std::int64_t partial_elements = 1 << 20;
  const std::int64_t most = std::min<std::int64_t>(g.batch, 16);
  const std::int64_t groups = std::max<std::int64_t>(1, std::min(most, partial_elements / (depth * columns)));
  // A block of output rows: its panel of dy stays in the first-level cache.
  const std::int64_t block = even_block(g.out_h, std::max<std::int64_t>(1, 224 / g.out_w), 1);
  const std::int64_t plane = (block + g.kernel_h - 1) * pitch;
  std::int64_t channels = g.in_channels;  // of a task
  while (groups * ceil_div(g.in_channels, channels) < 2 * pool.size() && channels > 8)
    channels = even_block(g.in_channels, channels - 1, 1);
  const std::int64_t parts = ceil_div(g.in_channels, channels);

  const StorageRef table = memory.allocate(static_cast<std::size_t>(depth) * sizeof(std::int64_t));
  std::int64_t* offsets = static_cast<std::int64_t*>(table->data);
  for (std::int64_t k = 0; k < depth; ++k)
    offsets[k] = k / taps * plane + k % taps / g.kernel_w * pitch + k % taps % g.kernel_w;
  const StorageRef partial = memory.allocate(static_cast<std::size_t>(groups * depth * columns) * sizeof(T));
  T* sums = static_cast<T*>(partial->data);  // (groups, K, O rounded up)

  pool.parallel_for(groups * parts, [&](std::int64_t task) {
    const std::int64_t group = task / parts, first = task % parts * channels;
    const std::int64_t count = std::min(channels, g.in_channels - first);
    const std::int64_t image_size = count * plane;
    const StorageRef scratch =
        memory.allocate(static_cast<std::size_t>(image_size + Tile::packed_size(block * g.out_w, outputs)) * sizeof(T));
    T* padded = static_cast<T*>(scratch->data);
    T* dy = padded + image_size;
    bool add = false;
    for (std::int64_t image = group * g.batch / groups; image < (group + 1) * g.batch / groups; ++image)
      for (std::int64_t oy = 0; oy < g.out_h; oy += block, add = true) {
        const std::int64_t rows = std::min(block, g.out_h - oy);
        const T* x = args.x + image * g.in_channels * g.in_h * g.in_w;
        for (std::int64_t c = 0; c < count; ++c)  // planes stay `block` rows high: the offsets are the same
          pad_rows<T, Isa>(padded + c * plane, g, x, first + c, 1, oy, rows + g.kernel_h - 1);
        pack_transposed_panels<T, Isa>(dy, args.dy + image * outputs * area + oy * g.out_w, area, rows * g.out_w,
                                       outputs);
        shifted_sum<T, Isa>({count * taps, columns, rows, g.out_w, pitch, padded, offsets, dy,
                             sums + (group * depth + first * taps) * columns, add});
      }
  });

  add_weight_groups(pool, sums, groups, depth, outputs, columns, args.dweight);
}

}  // namespace promptiqa::cpu
