// One matrix product cut into panels: where op(b)'s panels come from, the epilogue, and the blocks of c.
// Surprising choice: row panels are about equally high instead of full ones and a remainder, because a thin last
// panel leaves the multipliers waiting.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include <promptiqa/core/kernel_table.hpp>
#include <promptiqa/cpu/gemm_micro_kernel.hpp>
#include <promptiqa/cpu/gemm_pack.hpp>
#include <promptiqa/cpu/math.hpp>
#include <promptiqa/cpu/parallel.hpp>
#include <promptiqa/cpu/simd.hpp>

namespace promptiqa::cpu {
namespace detail {

inline constexpr std::int64_t k_block_bytes = 4096;  // of one row of a: how much of k is summed in registers

template <class T>
PanelSource<T> a_source(const GemmArgs<T>& args) {  // lanes are rows of op(a)
  return args.transpose_a ? PanelSource<T>{args.a, args.lda, 1} : PanelSource<T>{args.a, 1, args.lda};
}
template <class T>
PanelSource<T> b_source(const T* b, std::int64_t ldb, bool transpose_b) {  // lanes are columns of op(b)
  return transpose_b ? PanelSource<T>{b, 1, ldb} : PanelSource<T>{b, ldb, 1};
}

/// What a micro-kernel reads as b: packed elements.
template <class P>
struct PanelView {
  const P* data;
  std::int64_t k_stride;
};

/// b laid out before: panel after panel, each k rows high.
template <class T, class Isa>
struct PackedB {
  using P = packed_element_t<T, Isa>;
  static constexpr bool packed = true;
  const P* data;
  std::int64_t packed_k;

  PanelView<P> panel(P*, std::int64_t k0, std::int64_t, std::int64_t column, std::int64_t) const {
    constexpr int width = GemmTile<T, Isa>::columns;
    return {data + column * packed_k + k0 / PackedElement<T, Isa>::depth * width, width};
  }
};

/// b in memory. With `direct`, whole panels are read where they lie: packing pays when they are used again.
template <class T, class Isa>
struct MemoryB {
  using P = packed_element_t<T, Isa>;
  static constexpr bool packed = false;
  PanelSource<T> source;
  bool direct;

  /// k0 is a multiple of the packed element's depth.
  PanelView<P> panel(P* scratch, std::int64_t k0, std::int64_t depth, std::int64_t column, std::int64_t columns) const {
    constexpr int width = GemmTile<T, Isa>::columns;
    const PanelSource<T> from{source.data + k0 * source.k_stride + column * source.lane_stride, source.k_stride,
                              source.lane_stride};
    if constexpr (std::is_same_v<P, T>)
      if (direct && columns == width) return {from.data, from.k_stride};
    pack_panel<T, Isa, width>(scratch, from, depth, columns);
    return {scratch, width};
  }
};

/// c = activation(alpha * tile + bias) + residual + beta * c for one tile, whose first element is c[row, column].
template <class T, class Isa>
void finish_tile(const GemmArgs<T>& args, const T* tile, std::int64_t row, std::int64_t rows, std::int64_t column,
                 std::int64_t columns) {
  using S = Simd<T, Isa::bytes>;
  using V = typename S::Vector;
  Isa::run([&]() PROMPTIQA_SIMD_LAMBDA {
    const T alpha = args.alpha, beta = args.beta;
    const V zero = {};
    for (std::int64_t i = 0; i < rows; ++i) {
      const std::int64_t offset = (row + i) * args.ldc + column;
      const T* sum = tile + i * GemmTile<T, Isa>::columns;
      for_each_vector<S>(columns, [&](std::int64_t j, int count) PROMPTIQA_SIMD_LAMBDA {
        V v, x;
        S::load(v, sum + j);
        v = v * alpha;
        if (args.bias) {
          load_some<S, T>(x, args.bias + column + j, count);
          v = v + x;
        }
        if (args.activation == Activation::relu) {
          v = v < zero ? zero : v;  // keeps NaN
        } else if (args.activation == Activation::gelu) {
          x = v;
          vector_gelu(v, x);
        }
        if (args.residual) {
          load_some<S, T>(x, args.residual + offset + j, count);
          v = v + x;
        }
        if (beta != T(0)) {
          load_some<S, T>(x, args.c + offset + j, count);
          v = v + x * beta;
        }
        store_some<S, T>(args.c + offset + j, v, count);
      });
    }
  });
}

/// One product (a batch of one) cut into panels, and the computation of any block of its c.
template <class T, class Isa, class B>
class Product {
 public:
  using Tile = GemmTile<T, Isa>;
  using P = packed_element_t<T, Isa>;
  static constexpr std::int64_t tile_size = Tile::rows * Tile::columns;
  static constexpr int group = PackedElement<T, Isa>::depth;  // of k in one packed element

  Product(const GemmArgs<T>& args, const B& b)
      : args_(args),
        b_(b),
        row_panels(ceil_div(args.m, Tile::rows)),
        column_panels(ceil_div(args.n, Tile::columns)),
        depth_(packed_depth<T, Isa>(args.k)),
        k_blocks_(std::max<std::int64_t>(1, ceil_div(depth_ * std::int64_t{sizeof(P)}, k_block_bytes))),
        k_block_(ceil_div(depth_, k_blocks_)) {}

  std::int64_t row_panel_begin(std::int64_t panel) const { return part_begin(panel, args_.m, row_panels); }

  /// Packed elements of k that are summed before the sum goes to memory.
  std::int64_t k_block() const { return k_block_; }

  /// Lays all of a out, for blocks that are narrow. `packed` holds packed_a_bytes() bytes. Otherwise blocks read a
  /// where it lies, or each its own copy after use_a_copies().
  std::size_t packed_a_bytes() const { return packed_bytes(row_panels * Tile::rows * depth_); }
  void pack_a(void* memory) {
    P* packed = static_cast<P*>(memory);
    for (std::int64_t i = 0; i < row_panels; ++i) pack_a_panel(packed + i * Tile::rows * depth_, i, 0, depth_);
    packed_a_ = packed;
  }
  void use_a_copies() { copy_a_ = true; }

  /// Scratch a call of `block` needs for so many row and column panels, in bytes.
  std::size_t scratch_bytes(std::int64_t rows, std::int64_t columns) const {
    return sums_bytes(rows, columns) + packed_bytes(panel_size() + (copy_a_ ? rows * Tile::rows * k_block_ : 0));
  }

  /// Computes row panels [row_begin, row_end) x column panels [column_begin, column_end) of c.
  void block(std::int64_t row_begin, std::int64_t row_end, std::int64_t column_begin, std::int64_t column_end,
             void* scratch) const {
    alignas(64) T local[tile_size];
    T* const sums = static_cast<T*>(scratch);
    P* const b_panel = reinterpret_cast<P*>(static_cast<char*>(scratch) +
                                            sums_bytes(row_end - row_begin, column_end - column_begin));
    P* const a_copy = b_panel + panel_size();
    for (std::int64_t part = 0; part < k_blocks_; ++part) {
      const std::int64_t k0 = part_begin(part, depth_, k_blocks_);  // in packed elements, as depth
      const std::int64_t depth = part_begin(part + 1, depth_, k_blocks_) - k0;
      T* tile = k_blocks_ > 1 ? sums : local;
      if (copy_a_)
        for (std::int64_t i = row_begin; i < row_end; ++i)
          pack_a_panel(a_copy + (i - row_begin) * Tile::rows * k_block_, i, k0, depth);
      for (std::int64_t panel = column_begin; panel < column_end; ++panel) {
        const std::int64_t column = panel * Tile::columns;
        const std::int64_t columns = std::min<std::int64_t>(Tile::columns, args_.n - column);
        const PanelView<P> b = b_.panel(b_panel, k0 * group, elements(k0, depth), column, columns);
        // The next panel comes from far away: it is asked for in equal portions while this one is worked on.
        const P* next = b.data;
        std::int64_t next_step = 0;
        if (B::packed && panel + 1 < column_end) {
          next = b.data + depth_ * Tile::columns;
          next_step = ceil_div(Tile::columns, row_end - row_begin);
        }
        for (std::int64_t row_panel = row_begin; row_panel < row_end; ++row_panel) {
          const std::int64_t row = row_panel_begin(row_panel), rows = row_panel_begin(row_panel + 1) - row;
          MicroKernelArgs<T, P> call{depth, nullptr, 1, Tile::rows, b.data, b.k_stride,
                                     tile, Tile::columns, part > 0, next, next_step};
          next += next_step * depth;
          if (copy_a_) {
            call.a = a_copy + (row_panel - row_begin) * Tile::rows * k_block_;
          } else if (packed_a_) {
            call.a = packed_a_ + (row_panel * depth_ + k0) * Tile::rows;
          } else if constexpr (std::is_same_v<P, T>) {
            const PanelSource<T> a = a_source(args_);
            call.a = a.data + row * a.lane_stride + k0 * a.k_stride;
            call.a_row = a.lane_stride;
            call.a_k = a.k_stride;
          }
          micro_kernels<T, Isa>[rows - 1][columns > Tile::width ? 1 : 0](call);
          if (part + 1 == k_blocks_) finish_tile<T, Isa>(args_, tile, row, rows, column, columns);
          if (k_blocks_ > 1) tile += tile_size;
        }
      }
    }
  }

 private:
  static std::size_t packed_bytes(std::int64_t elements) { return static_cast<std::size_t>(elements) * sizeof(P); }
  /// Of k behind `depth` packed elements from k0 on: the last one may be half full.
  std::int64_t elements(std::int64_t k0, std::int64_t depth) const {
    return std::min(depth * group, args_.k - k0 * group);
  }
  std::int64_t panel_size() const { return B::packed ? 0 : k_block_ * Tile::columns; }
  std::size_t sums_bytes(std::int64_t rows, std::int64_t columns) const {
    return k_blocks_ > 1 ? static_cast<std::size_t>(rows * columns * tile_size) * sizeof(T) : 0;
  }
  void pack_a_panel(P* panel, std::int64_t row_panel, std::int64_t k0, std::int64_t depth) const {
    const std::int64_t row = row_panel_begin(row_panel);
    PanelSource<T> source = a_source(args_);
    source.data += row * source.lane_stride + k0 * group * source.k_stride;
    pack_panel<T, Isa, Tile::rows>(panel, source, elements(k0, depth), row_panel_begin(row_panel + 1) - row);
  }

  const GemmArgs<T>& args_;
  const B& b_;
  const P* packed_a_ = nullptr;
  bool copy_a_ = false;

 public:
  const std::int64_t row_panels, column_panels;

 private:
  const std::int64_t depth_;  // k in packed elements
  const std::int64_t k_blocks_, k_block_;
};

}  // namespace detail
}  // namespace promptiqa::cpu
