// Products of a small matrix, read where it lies, with a matrix laid out in column panels: the inner loop of
// attention and convolution.
// Surprising choice: the left operand is never packed. Both callers use each of its elements for a few panels
// only, so broadcasting it from its own rows, whatever their strides, is cheaper than copying it first.
//
// The panel layout of b (k, n): columns are cut into panels of `panel_columns`; panel p holds k rows of its width
// one after the other, element (kk, j) at data[p * panel_columns * k + kk * width + j]. The last panel is as
// wide as its columns need, rounded up to whole vectors, and padded with zeros.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#include <promptiqa/cpu/simd.hpp>

namespace promptiqa::cpu {

template <class Body, int... I>
PROMPTIQA_ALWAYS_INLINE void unroll_over(Body&& body, std::integer_sequence<int, I...>) {
  (body(std::integral_constant<int, I>{}), ...);
}

/// body(0), ..., body(N - 1) with constants as arguments. Unlike an unrolled loop this leaves no array index to the
/// optimiser, so g++ keeps small arrays of vectors in registers.
template <int N, class Body>
PROMPTIQA_ALWAYS_INLINE void unroll(Body&& body) {
  unroll_over(body, std::make_integer_sequence<int, N>{});
}

/// The register tile of an instruction set: `rows` x `vectors` accumulators, sized to the register file.
template <class T, class Isa>
struct PanelTile {
  static constexpr int width = Isa::bytes / static_cast<int>(sizeof(T));  // elements of a vector
  static constexpr int vectors = Isa::bytes == 64 ? 4 : 2;
  static constexpr int panel_columns = vectors * width;
  static constexpr int rows = 6;

  /// n rounded up to whole vectors.
  static constexpr std::int64_t padded(std::int64_t n) { return (n + width - 1) / width * width; }
  /// Elements of a (k, n) matrix in the panel layout.
  static constexpr std::int64_t packed_size(std::int64_t k, std::int64_t n) { return k * padded(n); }
  /// The width of the panel that begins at `column`.
  static constexpr std::int64_t panel_width(std::int64_t n, std::int64_t column) {
    return std::min<std::int64_t>(panel_columns, padded(n - column));
  }
};

/// c = alpha * row_scale[i] * (row_bias[i] + a b), or c += a b when `accumulate` (the other three are then unused).
/// a is (m, k) with element (i, kk) at a[i * a_row + kk * a_k]; b is (k, n) in panels; c is (m, n), rows c_row apart.
template <class T>
struct PanelProductArgs {
  std::int64_t m, n, k;
  const T* a;
  std::int64_t a_row, a_k;
  const T* b;
  T* c;
  std::int64_t c_row;
  T alpha;
  const T* row_scale;  // (m) or null
  const T* row_bias;   // (m) or null
  bool accumulate;
};

// One register tile: R rows from `row`, the V vectors of one panel, of which `columns` columns exist in c.
// The sum over k is one chain per element, whatever R and V are: results do not depend on how rows are tiled.
template <class T, class Isa, int R, int V>
PROMPTIQA_ALWAYS_INLINE void panel_tile(const PanelProductArgs<T>& g, const T* b, std::int64_t row,
                                        std::int64_t column, std::int64_t columns) {
  using S = Simd<T, Isa::bytes>;
  using Vector = typename S::Vector;
  constexpr int width = S::width;

  Vector sum[R * V];
  const T* a[R];
  unroll<R>([&](auto r) PROMPTIQA_SIMD_LAMBDA {
    a[r] = g.a + (row + r) * g.a_row;
    const T start = g.row_bias && !g.accumulate ? g.row_bias[row + r] : T(0);
    unroll<V>([&](auto v) PROMPTIQA_SIMD_LAMBDA { broadcast(sum[r * V + v], start); });
  });

  const std::int64_t a_k = g.a_k, depth = g.k;
  std::int64_t offset = 0;
  for (std::int64_t kk = 0; kk < depth; ++kk) {
    Vector right[V];
    unroll<V>([&](auto v) PROMPTIQA_SIMD_LAMBDA { S::load(right[v], b + v * width); });
    unroll<R>([&](auto r) PROMPTIQA_SIMD_LAMBDA {
      Vector left;
      broadcast(left, a[r][offset]);
      unroll<V>([&](auto v) PROMPTIQA_SIMD_LAMBDA { sum[r * V + v] += left * right[v]; });
    });
    offset += a_k;
    b += V * width;
  }

  T* c = g.c + row * g.c_row + column;
  unroll<R>([&](auto r) PROMPTIQA_SIMD_LAMBDA {
    Vector factor;
    broadcast(factor, g.row_scale ? g.alpha * g.row_scale[row + r] : g.alpha);
    unroll<V>([&](auto v) PROMPTIQA_SIMD_LAMBDA {
      T* out = c + r * g.c_row + v * width;
      const int count = static_cast<int>(std::min<std::int64_t>(width, columns - v * width));
      Vector value = sum[r * V + v];
      if (g.accumulate) {
        Vector before;
        if (count == width) {
          S::load(before, out);
        } else {
          S::load_part(before, out, count);
        }
        value += before;
      } else {
        value *= factor;
      }
      if (count == width) {
        S::store(out, value);
      } else {
        S::store_part(out, value, count);
      }
    });
  });
}

template <class T, class Isa, int V>
PROMPTIQA_ALWAYS_INLINE void panel_rows(const PanelProductArgs<T>& g, const T* b, std::int64_t column,
                                        std::int64_t columns) {
  constexpr int full = PanelTile<T, Isa>::rows;
  std::int64_t row = 0;
  for (; row + full <= g.m; row += full) panel_tile<T, Isa, full, V>(g, b, row, column, columns);
  // Two tile heights are enough for what is left; each more would be another copy of the tile to compile.
  for (; row + 2 <= g.m; row += 2) panel_tile<T, Isa, 2, V>(g, b, row, column, columns);
  if (row < g.m) panel_tile<T, Isa, 1, V>(g, b, row, column, columns);
}

/// Computes the product on the calling thread.
template <class T, class Isa>
void panel_product(const PanelProductArgs<T>& g) {
  using Tile = PanelTile<T, Isa>;
  Isa::run([&]() PROMPTIQA_SIMD_LAMBDA {
    for (std::int64_t column = 0; column < g.n; column += Tile::panel_columns) {
      const T* b = g.b + column * g.k;
      const std::int64_t columns = std::min<std::int64_t>(Tile::panel_columns, g.n - column);
      const std::int64_t vectors = Tile::panel_width(g.n, column) / Tile::width;
      if (vectors == 1) {
        panel_rows<T, Isa, 1>(g, b, column, columns);
      } else if (vectors == 2) {
        panel_rows<T, Isa, 2>(g, b, column, columns);
      } else if constexpr (Tile::vectors > 2) {
        if (vectors == 3) {
          panel_rows<T, Isa, 3>(g, b, column, columns);
        } else {
          panel_rows<T, Isa, 4>(g, b, column, columns);
        }
      }
    }
  });
}

/// Lays b (k, n), rows `row` elements apart, out in panels. `panels` holds packed_size(k, n) elements.
template <class T, class Isa>
void pack_panels(T* panels, const T* b, std::int64_t row, std::int64_t k, std::int64_t n) {
  using Tile = PanelTile<T, Isa>;
  for (std::int64_t column = 0; column < n; column += Tile::panel_columns) {
    const std::int64_t width = Tile::panel_width(n, column), columns = std::min(width, n - column);
    for (std::int64_t kk = 0; kk < k; ++kk, panels += width) {
      std::memcpy(panels, b + kk * row + column, static_cast<std::size_t>(columns) * sizeof(T));
      for (std::int64_t j = columns; j < width; ++j) panels[j] = T(0);
    }
  }
}

/// The same for a b that is stored transposed, (n, k), rows `row` elements apart.
template <class T, class Isa>
void pack_transposed_panels(T* panels, const T* b, std::int64_t row, std::int64_t k, std::int64_t n) {
  using Tile = PanelTile<T, Isa>;
  for (std::int64_t column = 0; column < n; column += Tile::panel_columns) {
    const std::int64_t width = Tile::panel_width(n, column), columns = std::min(width, n - column);
    std::int64_t j = 0;
    for (; j + 4 <= columns; j += 4) {
      const T* source = b + (column + j) * row;
      T* out = panels + j;
      for (std::int64_t kk = 0; kk < k; ++kk, out += width) {
        const T x0 = source[kk], x1 = source[row + kk], x2 = source[2 * row + kk], x3 = source[3 * row + kk];
        out[0] = x0;
        out[1] = x1;
        out[2] = x2;
        out[3] = x3;
      }
    }
    for (; j < width; ++j)
      for (std::int64_t kk = 0; kk < k; ++kk) panels[kk * width + j] = j < columns ? b[(column + j) * row + kk] : T(0);
    panels += width * k;
  }
}

}  // namespace promptiqa::cpu
