// Products with a packed weight in 8-bit integers (AVX-512 VNNI), for inference.
// Surprising choice: only packed weights are integers. Each of their columns has a scale of its own, made when it is
// packed; each row of a gets its scale when the product is computed. Everything else stays what the base backend does.
//
// Weights are q in [-127, 127], activations u = q + 128 in [1, 255] as vpdpbusd wants them, so a sum of products is too
// large by 128 times the sum of the column's weights, which is kept beside them. Integer sums are exact: any number of
// threads gives the same bits.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>

#include <promptiqa/core/error.hpp>
#include <promptiqa/core/kernel_table.hpp>
#include <promptiqa/core/memory_pool.hpp>
#include <promptiqa/core/thread_pool.hpp>
#include <promptiqa/cpu/gemm.hpp>
#include <promptiqa/cpu/math.hpp>
#include <promptiqa/cpu/parallel.hpp>
#include <promptiqa/cpu/simd.hpp>

#if PROMPTIQA_X86_64
namespace promptiqa::cpu {

/// The tag of matrices packed as 8-bit integers.
inline constexpr int int8_layout = 1 << 16;

/// Of k: 255 * 127 * 65536 is the largest sum that 32 bits hold.
inline constexpr std::int64_t int8_most_k = 65536;

namespace detail {

using Int8Tile = GemmTile<float, Avx512>;  // 14 rows x 32 columns of 32-bit sums

/// Four bytes of neighbouring k, one lane of a panel.
using Quad = std::uint32_t;

/// Where a packed matrix (k, n) keeps what: panels of columns, then for each column its scale and its correction.
struct Int8Layout {
  std::int64_t depth, columns;  // k in quads; n rounded up to whole panels

  Int8Layout(std::int64_t k, std::int64_t n)
      : depth(ceil_div(k, 4)), columns(ceil_div(n, Int8Tile::columns) * Int8Tile::columns) {}
  std::size_t bytes() const { return static_cast<std::size_t>(columns * (depth + 2)) * sizeof(Quad); }
  template <class Data>
  Data* panel(Data* packed, std::int64_t column) const {
    return packed + column * depth;
  }
  template <class Float, class Data>
  Float* scales(Data* packed) const {
    return reinterpret_cast<Float*>(packed + columns * depth);
  }
  template <class Int, class Data>
  Int* corrections(Data* packed) const {
    return reinterpret_cast<Int*>(packed + columns * (depth + 1));
  }
};

// A largest value so small that 127 over it could overflow: what it belongs to counts as zeros.
inline constexpr float int8_zero = 1e-36f;

[[noreturn]] inline void int8_k_error(std::int64_t k) {
  throw ShapeError("gemm: in 8-bit integers k must be at most " + std::to_string(int8_most_k) + ", got " +
                   std::to_string(k));
}

/// One column of op(b) to a lane of its panel. A column with a NaN or an infinity gets the scale NaN.
inline void pack_int8_column(Quad* lane, float& scale, std::int32_t& correction, const PanelSource<float>& column,
                             std::int64_t k) {
  float most = 0, trouble = 0;
  for (std::int64_t kk = 0; kk < k; ++kk) {
    const float x = column.data[kk * column.k_stride];
    most = std::max(most, std::abs(x));
    trouble += x - x;  // 0, or NaN
  }
  const float inverse = trouble == 0 && most > int8_zero ? 127 / most : 0;
  std::int32_t sum = 0;
  for (std::int64_t kk = 0; kk < k; kk += 4) {
    Quad quad = 0;
    for (std::int64_t i = kk; i < std::min(k, kk + 4); ++i) {
      const auto q =
          inverse > 0 ? static_cast<std::int32_t>(std::lrint(column.data[i * column.k_stride] * inverse)) : 0;
      sum += q;
      quad |= (static_cast<Quad>(q) & 0xFFu) << (8 * (i - kk));
    }
    lane[kk / 4 * Int8Tile::columns] = quad;
  }
  scale = trouble == 0 ? most / 127 : trouble;
  correction = 128 * sum;
}

/// `rows` rows of a to a panel of Int8Tile::rows lanes, and their scales. A row with a NaN or an infinity gets the
/// scale NaN: so does its product.
PROMPTIQA_TARGET_AVX512 inline void quantise_rows(Quad* panel, float* scales, const float* a, std::int64_t row_stride,
                                                  std::int64_t rows, std::int64_t k) {
  const std::int64_t depth = ceil_div(k, 4);
  const auto mask_at = [k](std::int64_t i) {
    return i + 16 <= k ? static_cast<__mmask16>(0xFFFF) : static_cast<__mmask16>((1u << (k - i)) - 1);
  };
  for (std::int64_t r = 0; r < Int8Tile::rows; ++r) {
    scales[r] = 0;
    if (r >= rows) {
      for (std::int64_t kk = 0; kk < depth; ++kk) panel[kk * Int8Tile::rows + r] = 0;
      continue;
    }
    const float* row = a + r * row_stride;
    Float16::Vector most = {}, not_finite = {};
    for (std::int64_t i = 0; i < k; i += 16) {
      Float16::Vector x;
      const __m512 loaded = _mm512_maskz_loadu_ps(mask_at(i), row + i);
      std::memcpy(&x, &loaded, sizeof(x));
      most = x > most ? x : most;
      most = -x > most ? -x : most;
      not_finite += x - x;  // 0, or NaN
    }
    const float largest = largest_lane<Float16, float>(most), trouble = sum_of_lanes<Float16, float>(not_finite);
    const bool finite = trouble == 0;
    scales[r] = finite ? largest / 127 : trouble;
    const __m512 factor = _mm512_set1_ps(finite && largest > int8_zero ? 127 / largest : 0.0f);
    for (std::int64_t i = 0; i < k; i += 16) {
      const __m512 x = _mm512_maskz_loadu_ps(mask_at(i), row + i);
      // With masks of ones: g++ 12 warns about the unmasked forms' own undefined operands.
      const __m512i q = _mm512_add_epi32(_mm512_maskz_cvtps_epi32(0xFFFF, _mm512_mul_ps(x, factor)),
                                         _mm512_set1_epi32(128));
      Quad quads[4];
      const __m128i bytes = _mm512_maskz_cvtepi32_epi8(0xFFFF, q);
      std::memcpy(quads, &bytes, sizeof(quads));
      for (std::int64_t j = 0; j < std::min<std::int64_t>(4, depth - i / 4); ++j)
        panel[(i / 4 + j) * Int8Tile::rows + r] = quads[j];
    }
  }
}

/// One call of a micro-kernel: tile[i, j] = scale of row i * scale of column j * (the integers' sum of products).
struct Int8KernelArgs {
  std::int64_t depth;  // k in quads
  const Quad* a;       // a panel of rows
  const Quad* b;       // a panel of columns
  const float *row_scales, *column_scales;
  const std::int32_t* corrections;  // of the columns
  float* tile;                      // rows Int8Tile::columns apart
};

// sum += the four products of each lane. Written out because g++ 12 keeps an array of sums that its intrinsic updates
// in memory.
PROMPTIQA_TARGET_AVX512 PROMPTIQA_ALWAYS_INLINE void add_quad_products(__m512i& sum, const __m512i& a,
                                                                       const __m512i& b) {
  asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
}

template <int Vectors, std::size_t Size, std::size_t... I>
PROMPTIQA_TARGET_AVX512 PROMPTIQA_ALWAYS_INLINE void int8_row(__m512i (&sum)[Size], const Quad* a,
                                                              const __m512i (&b)[2], std::size_t row,
                                                              std::index_sequence<I...>) {
  const __m512i x = _mm512_set1_epi32(static_cast<int>(*a));
  (add_quad_products(sum[row * Vectors + I], x, b[I]), ...);
}

template <int Vectors, std::size_t... I>
PROMPTIQA_TARGET_AVX512 PROMPTIQA_ALWAYS_INLINE void store_int8_row(const Int8KernelArgs& args, const __m512i* sum,
                                                                    std::size_t row, std::index_sequence<I...>) {
  const __m512 row_scale = _mm512_set1_ps(args.row_scales[row]);
  const auto sum_at = [&](std::size_t i) PROMPTIQA_TARGET_AVX512 {
    return _mm512_maskz_cvtepi32_ps(
        0xFFFF, _mm512_sub_epi32(sum[row * Vectors + i], _mm512_loadu_si512(args.corrections + i * 16)));
  };
  // The scales first: their product is of the result's size over a whole number.
  (_mm512_storeu_ps(args.tile + row * Int8Tile::columns + I * 16,
                    _mm512_mul_ps(sum_at(I), _mm512_mul_ps(_mm512_loadu_ps(args.column_scales + I * 16), row_scale))),
   ...);
}

template <int Vectors, std::size_t... R>
PROMPTIQA_TARGET_AVX512 void int8_kernel(const Int8KernelArgs& args, std::index_sequence<R...>) {
  __m512i sum[sizeof...(R) * Vectors] = {};
  __m512i b[2];
  constexpr std::make_index_sequence<Vectors> vectors;
  const Quad *next_a = args.a, *next_b = args.b;
  for (std::int64_t kk = 0; kk < args.depth; ++kk, next_a += Int8Tile::rows, next_b += Int8Tile::columns) {
    b[0] = _mm512_loadu_si512(next_b);
    if constexpr (Vectors == 2) b[1] = _mm512_loadu_si512(next_b + 16);
    (int8_row<Vectors>(sum, next_a + R, b, R, vectors), ...);
  }
  __m512i done[sizeof...(R) * Vectors];  // a copy, so that the sums themselves never need an address
  std::memcpy(done, sum, sizeof(sum));
  (store_int8_row<Vectors>(args, done, R, vectors), ...);
}

using Int8Kernel = void (*)(const Int8KernelArgs&);
template <int Vectors, std::size_t Rows>
void int8_kernel_of(const Int8KernelArgs& args) {
  int8_kernel<Vectors>(args, std::make_index_sequence<Rows>());
}
template <std::size_t... I>
constexpr auto int8_kernel_table(std::index_sequence<I...>) {
  return std::array<std::array<Int8Kernel, 2>, sizeof...(I)>{
      {{{&int8_kernel_of<1, I + 1>, &int8_kernel_of<2, I + 1>}}...}};
}
/// [rows - 1][vectors of columns - 1].
inline constexpr auto int8_kernels = int8_kernel_table(std::make_index_sequence<Int8Tile::rows>());

/// One product with a packed weight.
inline void int8_product(ThreadPool& pool, MemoryPool& memory, const GemmArgs<float>& args) {
  const Int8Layout layout(args.k, args.n);
  const auto* packed = static_cast<const Quad*>(args.packed_b->data);
  const auto* scales = layout.scales<const float>(packed);
  const auto* corrections = layout.corrections<const std::int32_t>(packed);
  const std::int64_t row_panels = ceil_div(args.m, Int8Tile::rows), panel_size = Int8Tile::rows * layout.depth;
  const StorageRef scratch = memory.allocate(static_cast<std::size_t>(row_panels * (panel_size + Int8Tile::rows)) *
                                             sizeof(Quad));
  Quad* const a = static_cast<Quad*>(scratch->data);
  float* const row_scales = reinterpret_cast<float*>(a + row_panels * panel_size);
  const auto first_row = [&](std::int64_t panel) { return part_begin(panel, args.m, row_panels); };
  const bool serial = pool.size() == 1 || args.m * args.n * std::max<std::int64_t>(1, args.k) < serial_work;

  for_each_task(serial ? nullptr : &pool, row_panels, [&](std::int64_t panel) {
    const std::int64_t row = first_row(panel), rows = first_row(panel + 1) - row;
    if (!args.transpose_a)
      return quantise_rows(a + panel * panel_size, row_scales + panel * Int8Tile::rows, args.a + row * args.lda,
                           args.lda, rows, args.k);
    const StorageRef copy = memory.allocate(static_cast<std::size_t>(rows * args.k) * sizeof(float));
    float* plain = static_cast<float*>(copy->data);
    for (std::int64_t kk = 0; kk < args.k; ++kk)
      for (std::int64_t r = 0; r < rows; ++r) plain[r * args.k + kk] = args.a[kk * args.lda + row + r];
    quantise_rows(a + panel * panel_size, row_scales + panel * Int8Tile::rows, plain, args.k, rows, args.k);
  });

  // As product_of_packed: a block's rows stay in the second-level cache while panels of columns pass by.
  const std::int64_t column_panels = layout.columns / Int8Tile::columns;
  const std::int64_t block_rows = std::clamp<std::int64_t>(
      a_block_bytes / (std::max<std::int64_t>(1, panel_size) * static_cast<std::int64_t>(sizeof(Quad))), 1, 64);
  const Blocks blocks =
      choose_blocks(row_panels, column_panels, block_rows, column_block_panels, serial ? 1 : pool.size());
  for_each_task(serial ? nullptr : &pool, blocks.down * blocks.across, [&](std::int64_t task) {
    const std::int64_t i = task % blocks.down, j = task / blocks.down;
    alignas(64) float tile[Int8Tile::rows * Int8Tile::columns];
    for (std::int64_t panel = part_begin(j, column_panels, blocks.across);
         panel < part_begin(j + 1, column_panels, blocks.across); ++panel) {
      const std::int64_t column = panel * Int8Tile::columns;
      const std::int64_t columns = std::min<std::int64_t>(Int8Tile::columns, args.n - column);
      for (std::int64_t p = part_begin(i, row_panels, blocks.down); p < part_begin(i + 1, row_panels, blocks.down);
           ++p) {
        const std::int64_t row = first_row(p), rows = first_row(p + 1) - row;
        int8_kernels[static_cast<std::size_t>(rows - 1)][columns > Int8Tile::width ? 1 : 0](
            {layout.depth, a + p * panel_size, layout.panel(packed, column), row_scales + p * Int8Tile::rows,
             scales + column, corrections + column, tile});
        finish_tile<float, Avx512>(args, tile, row, rows, column, columns);
      }
    }
  });
}

}  // namespace detail

/// Bytes of op(b), (k, n), laid out by pack_matrix_int8.
inline std::size_t packed_bytes_int8(std::int64_t k, std::int64_t n) { return detail::Int8Layout(k, n).bytes(); }

/// Rounds op(b) to 8-bit integers, column by column. See PackMatrixArgs. Throws ShapeError when k is more than
/// int8_most_k.
inline void pack_matrix_int8(const KernelContext& kc, const PackMatrixArgs<float>& args) {
  using detail::Int8Tile;
  if (args.k > int8_most_k) detail::int8_k_error(args.k);
  const detail::Int8Layout layout(args.k, args.n);
  auto* packed = static_cast<detail::Quad*>(args.packed);
  pool_of(kc).parallel_for(layout.columns / Int8Tile::columns, [&](std::int64_t panel) {
    for (std::int64_t j = panel * Int8Tile::columns; j < (panel + 1) * Int8Tile::columns; ++j) {
      PanelSource<float> column = detail::b_source(args.b, args.ldb, args.transpose_b);
      column.data += j * column.lane_stride;
      detail::pack_int8_column(layout.panel(packed, panel * Int8Tile::columns) + j % Int8Tile::columns,
                               layout.scales<float>(packed)[j], layout.corrections<std::int32_t>(packed)[j], column,
                               j < args.n ? args.k : 0);
      if (j >= args.n)
        for (std::int64_t kk = 0; kk < layout.depth; ++kk)
          layout.panel(packed, panel * Int8Tile::columns)[kk * Int8Tile::columns + j % Int8Tile::columns] = 0;
    }
  });
}

/// The product described at GemmArgs: in 8-bit integers where b is packed, as the instruction set Base does it
/// otherwise. Throws Error when packed_b was made by other kernels, ShapeError when it has another shape or k is more
/// than int8_most_k.
template <class Base>
void gemm_int8(const KernelContext& kc, const GemmArgs<float>& args) {
  if (!args.packed_b) return gemm<float, Base>(kc, args);
  detail::check_packed(args, int8_layout, "int8");
  if (args.k > int8_most_k) detail::int8_k_error(args.k);
  if (args.batch <= 0 || args.m <= 0 || args.n <= 0) return;
  GemmArgs<float> all = args;
  if (all.batch > 1 && !args.transpose_a && args.stride_a == args.m * args.lda && args.stride_c == args.m * args.ldc) {
    all.m *= all.batch;  // one tall product
    all.batch = 1;
  }
  for (std::int64_t i = 0; i < all.batch; ++i)
    detail::int8_product(pool_of(kc), memory_of(kc), detail::batch_entry(all, i));
}

}  // namespace promptiqa::cpu
#endif
