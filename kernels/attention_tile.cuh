// What the tiled attention kernels share: a block of four warps has 64 rows of its own in shared memory, 16 a warp, and
// walks over the rows of the other side in steps, the next step's rows on their way while it computes.
// Surprising choice: a head of fewer than D elements is filled up with zeros, so one kernel serves all head dimensions
// up to D.
#pragma once

#include "async_copy.cuh"
#include "launch.cuh"
#include "mma.cuh"

namespace promptiqa::cuda {

/// Sizes of a kernel for heads of up to D elements that takes `Step` rows of the other side at a time.
template <class Math, int D_, int Step_>
struct AttentionTile {
  using Operand = typename Math::Operand;
  using Sum = typename Math::Sum;
  static constexpr int D = D_, step = Step_;
  static constexpr int warps = 4, threads = 32 * warps, rows = 16 * warps;
  static constexpr int pitch = padded<Operand>(D);
  static constexpr int columns = D / 8, step_columns = step / 8;  // fragments' column tiles

  /// `own` matrices of the block's rows, and two of `step` rows for this step and two for the next one.
  static constexpr int own_size = rows * pitch, step_size = step * pitch;
  static constexpr std::size_t shared_bytes(int own, int values) {
    return static_cast<std::size_t>(own * own_size + 4 * step_size) * sizeof(Operand) +
           static_cast<std::size_t>(values) * sizeof(Sum);
  }
};

/// Begins to bring rows [first, first + Rows) of a matrix of `length` rows, `row` elements apart, into a tile; zeros
/// behind the matrix's end. `vectors`: rows can be read in 16 bytes.
template <class Tile, int Rows, class T, class Operand>
PROMPTIQA_DEVICE void load_rows(Shared<Operand> tile, const T* matrix, std::int64_t row, int first, int length,
                                int head_dim, bool vectors) {
  if constexpr (sizeof(T) == sizeof(Operand)) {
    if (vectors) {
      constexpr int width = vector_width<T>, in_row = Tile::D / width;
      for (int i = static_cast<int>(threadIdx.x); i < Rows * in_row; i += Tile::threads) {
        const int r = i / in_row, d = i % in_row * width;
        const bool inside = first + r < length && d < head_dim;
        copy_async(tile + (r * Tile::pitch + d), matrix + (inside ? (first + r) * row + d : 0), inside);
      }
      return;
    }
  }
  for (int i = static_cast<int>(threadIdx.x); i < Rows * Tile::D; i += Tile::threads) {
    const int r = i / Tile::D, d = i % Tile::D;
    Operand v = {};
    if (first + r < length && d < head_dim) {
      if constexpr (sizeof(T) == sizeof(Operand))
        v = matrix[(first + r) * row + d];
      else
        v = widen(matrix[(first + r) * row + d]);
    }
    tile[r * Tile::pitch + d] = v;
  }
}

/// Stores a warp's 16 rows, from `first` on, each times its factor.
template <class Tile, class T>
PROMPTIQA_DEVICE void store_rows(T* matrix, std::int64_t row, int first, int length, int head_dim, bool vectors,
                                 Fragment<typename Tile::Sum, Tile::columns>& values,
                                 const typename Tile::Sum (&factors)[2]) {
  const int t = static_cast<int>(threadIdx.x % 4);
  PROMPTIQA_UNROLL
  for (int second = 0; second < 2; ++second) {
    const int r = first + fragment_row() + 8 * second;
    if (r >= length) continue;
    PROMPTIQA_UNROLL
    for (int j = 0; j < Tile::columns; ++j) {
      const int d = 8 * j + 2 * t;
      Vector<T, 2> pair;
      for (int i = 0; i < 2; ++i) pair.values[i] = narrow<T>(values.values[j][2 * second + i] * factors[second]);
      if (vectors && d < head_dim)
        store_vector<2>(matrix + r * row + d, pair);
      else
        for (int i = 0; i < 2 && d + i < head_dim; ++i) matrix[r * row + d + i] = pair.values[i];
    }
  }
}

/// Of the four lanes that share a fragment's rows.
template <class A>
PROMPTIQA_DEVICE A quad_max(A v) {
  for (int lanes = 1; lanes <= 2; lanes *= 2) {
    const A other = __shfl_xor_sync(0xFFFFFFFFu, v, lanes);
    v = v < other ? other : v;
  }
  return v;
}
template <class A>
PROMPTIQA_DEVICE A quad_sum(A v) {
  for (int lanes = 1; lanes <= 2; lanes *= 2) v += __shfl_xor_sync(0xFFFFFFFFu, v, lanes);
  return v;
}

constexpr double log2_of_e = 1.44269504088896340736, log_of_2 = 0.69314718055994530942;

/// The (batch entry, head) pair and the block of rows that a block works on; the grid is one-dimensional.
struct AttentionBlock {
  std::int64_t pair, b, h;
  int first;  // row
};
PROMPTIQA_DEVICE AttentionBlock attention_block(std::int64_t heads, std::int64_t length, int rows) {
  const std::int64_t blocks = ceil_div(length, rows), pair = blockIdx.x / blocks;
  return {pair, pair / heads, pair % heads, static_cast<int>(blockIdx.x % blocks) * rows};
}

}  // namespace promptiqa::cuda
