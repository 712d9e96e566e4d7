// What the tiled attention kernels share: a block has rows of its own, 16 a warp, and walks over the rows of the other
// side in steps, the next step's rows on their way into shared memory while it computes. A kernel is written once; its
// Tile says how many rows that are, how they lie in shared memory and who multiplies them: each warp by itself, or four
// together (wgmma).
// Surprising choice: a head of fewer than D elements is filled up with zeros, so one kernel serves all head dimensions
// up to D.
#pragma once

#include "async_copy.cuh"
#include "launch.cuh"
#include "mma.cuh"
#include "warpgroup.cuh"

namespace promptiqa::cuda {

/// Sizes that follow from a Tile's warps, the elements of a row, in memory `Pitch`, and the rows of a step.
template <class Operand_, class Sum_, int Warps, int D_, int Pitch, int Step>
struct AttentionSizes {
  using Operand = Operand_;
  using Sum = Sum_;
  static constexpr int D = D_, step = Step, pitch = Pitch;
  static constexpr int warps = Warps, threads = 32 * warps, rows = 16 * warps;
  static constexpr int columns = D / 8, step_columns = step / 8;  // fragments' column tiles

  /// Elements of `own` matrices of the block's rows, and of two of `step` rows for this step and two for the next one.
  static constexpr int own_size = rows * pitch, step_size = step * pitch;
  static constexpr std::size_t shared_bytes(int own, int values) {
    return static_cast<std::size_t>(own * own_size + 4 * step_size) * sizeof(Operand) +
           static_cast<std::size_t>(values) * sizeof(Sum);
  }
};

/// A kernel for heads of up to D elements that takes Step rows of the other side at a time; each of four warps
/// multiplies its 16 rows by itself.
template <class Math, int D, int Step>
struct AttentionTile
    : AttentionSizes<typename Math::Operand, typename Math::Sum, 4, D, padded<typename Math::Operand>(D), Step> {
  using Operand = typename Math::Operand;
  using Sum = typename Math::Sum;
  static constexpr int pitch = padded<Operand>(D);
  static constexpr int rows_together = 16;  // of threads that multiply together
  static constexpr int blocks_at_once = 0;  // of a multiprocessor, which registers must allow; 0: nothing is asked

  /// The place of element d of row r in a tile of Rows rows.
  template <int Rows>
  PROMPTIQA_DEVICE static constexpr int place(int r, int d) {
    return r * pitch + d;
  }

  /// What a warp needs of its rows of one of the block's own matrices, which has arrived.
  using Own = Shared<Operand>;
  PROMPTIQA_DEVICE static Own own_rows(Shared<Operand> tile, int first) { return tile + first * pitch; }

  /// After a thread's copies have arrived and before the barrier that shows them to the others.
  PROMPTIQA_DEVICE static void publish() {}

  /// sum (own rows, step rows) = own b^T, and sum (own rows, D) += p b, for the step's rows b.
  PROMPTIQA_DEVICE static void rows_times_rows(Fragment<Sum, Step / 8>& sum, const Own& own, Shared<Operand> b) {
    Fragment<Sum, Step / 8> sums[1];
    sums[0].clear();
    Math::template add_rows_times_rows<D>(sums, own, pitch, b, pitch);
    sum = sums[0];
  }
  PROMPTIQA_DEVICE static void add_fragment_times_matrix(Fragment<Sum, D / 8>& sum, const Fragment<Sum, Step / 8>& p,
                                                         Shared<Operand> b) {
    Math::add_fragment_times_matrix(sum, p, b, pitch);
  }
};

/// The same for bfloat16 on Hopper: four warps multiply their 64 rows together, and a block has `Groups` times as many.
template <int D, int Step, int Groups, int BlocksAtOnce>
struct WarpgroupTile : AttentionSizes<bfloat16, float, 4 * Groups, D, D, Step> {
  using Operand = bfloat16;
  using Sum = float;
  static constexpr int rows_together = 64, blocks_at_once = BlocksAtOnce;

  template <int Rows>
  PROMPTIQA_DEVICE static constexpr int place(int r, int d) {
    return swizzled_place<Rows>(r, d);
  }

  using Own = WarpgroupMath::Left<D>;
  PROMPTIQA_DEVICE static Own own_rows(Shared<Operand> tile, int first) {
    return WarpgroupMath::load<D, 64 * Groups>(tile, first);
  }
  PROMPTIQA_DEVICE static void publish() { publish_to_tensor_cores(); }
  PROMPTIQA_DEVICE static void rows_times_rows(Fragment<Sum, Step / 8>& sum, const Own& own, Shared<Operand> b) {
    WarpgroupMath::rows_times_rows(sum, own, b);
  }
  PROMPTIQA_DEVICE static void add_fragment_times_matrix(Fragment<Sum, D / 8>& sum, const Fragment<Sum, Step / 8>& p,
                                                         Shared<Operand> b) {
    WarpgroupMath::add_fragment_times_matrix(sum, p, b);
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
        copy_async(tile + Tile::template place<Rows>(r, d), matrix + (inside ? (first + r) * row + d : 0), inside);
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
    tile[Tile::template place<Rows>(r, d)] = v;
  }
}

/// Waits until what was to be copied before the latest group is there for all threads of the block.
template <class Tile>
PROMPTIQA_DEVICE void wait_for_step() {
  wait_for_copies<1>();
  Tile::publish();
  __syncthreads();
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

/// 2^x as softmaxes need it: in float one instruction, with a relative error of at most 2^-22, 0 where the result would
/// be below 2^-126. exp2() takes four to spare such results.
PROMPTIQA_DEVICE double power_of_2(double x) { return exp2(x); }
PROMPTIQA_DEVICE float power_of_2(float x) {
#if PROMPTIQA_EMULATED
  const float y = std::exp2(x);
  return y < 0x1p-126f ? 0.0f : y;
#else
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#endif
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
