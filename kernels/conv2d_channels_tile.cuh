// The tiles of the convolutions that gather 16 bytes of channels at a time: their sizes, where their operands lie in
// shared memory, and how a warp multiplies them.
// Surprising choice: rows of a tile are 128 bytes without padding, in both types; their 16-byte chunks change places
// with the row's number instead. Hopper's warpgroup products read tiles that lie just so.
#pragma once

#include "async_copy.cuh"
#include "mma.cuh"
#include "warpgroup.cuh"

namespace promptiqa::cuda {

PROMPTIQA_DEVICE void mma_operands(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2], bfloat16) {
  mma_bf16(c, a, b);
}
PROMPTIQA_DEVICE void mma_operands(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2], float) {
  mma_tf32(c, a, b);
}

/// ldmatrix moves 16 bytes of a row whatever they are: eight bfloat16 or four floats.
PROMPTIQA_DEVICE void load_operand_matrices(unsigned (&r)[4], Shared<bfloat16> row, bool transpose) {
  load_matrices(r, row, transpose);
}
PROMPTIQA_DEVICE void load_operand_matrices(unsigned (&r)[4], Shared<float> row, bool transpose) {
#if PROMPTIQA_EMULATED
  load_matrices(r, row.template as<bfloat16>(), transpose);
#else
  load_matrices(r, reinterpret_cast<const bfloat16*>(row), transpose);
#endif
}

/// A block's tile of C (Rows, Columns) and what it holds of A and B for a step in depth. T: bfloat16, or float for
/// TF32 (rounded already). A warp has WarpRows x WarpColumns of C, and multiplies them by itself.
template <class T, int Rows, int Columns, int WarpRows, int WarpColumns, int Stages, int BlocksAtOnce>
struct ChannelsTile {
  static constexpr int rows = Rows, columns = Columns, stages = Stages, blocks_at_once = BlocksAtOnce;
  static constexpr int warps_down = Rows / WarpRows, warps = warps_down * (Columns / WarpColumns), threads = 32 * warps;
  static constexpr int chunk = vector_width<T>, chunks = 8,
                       depth = chunk * chunks;  // elements; a step's depth: 128 bytes
  static constexpr int a_size = rows * depth, b_size = columns * depth, stage_size = a_size + b_size;
  static constexpr std::size_t stages_bytes = std::size_t{stages} * stage_size * sizeof(T);

  /// A lane's sums: [r] are rows 16 r and following of its warp's.
  static constexpr int row_tiles = WarpRows / 16, column_tiles = WarpColumns / 8;
  using Sums = Fragment<float, column_tiles>[row_tiles];
  PROMPTIQA_DEVICE static int warp_row() { return static_cast<int>(threadIdx.x / 32) % warps_down * WarpRows; }
  PROMPTIQA_DEVICE static int warp_column() { return static_cast<int>(threadIdx.x / 32) / warps_down * WarpColumns; }
  /// The first row of the warps that multiply together.
  PROMPTIQA_DEVICE static int first_row_together() { return warp_row(); }

  /// After a thread's copies have arrived and before the barrier that shows them to the others.
  PROMPTIQA_DEVICE static void publish() {}

  /// Sums of a block in shared memory, where the stages were: floats between rows, so that no banks are shared by lanes
  /// that write at once.
  static constexpr int sums_pitch = columns + 8;
  static_assert(std::size_t{rows} * sums_pitch * sizeof(float) <= stages_bytes, "the sums lie where the stages were");

  // ---- depth along a tile's rows: A (row, k), B (column, k)

  /// The element at which a chunk of a row begins.
  PROMPTIQA_DEVICE static int place(int row, int c) { return row * depth + (c ^ (row % 8)) * chunk; }

  /// sums += A B^T of one step.
  PROMPTIQA_DEVICE static void multiply(Sums& sums, Shared<T> a, Shared<T> b) {
    const int lane = static_cast<int>(threadIdx.x % 32), matrix = lane / 8, row = lane % 8;
    const Shared<T> a_rows = a + (warp_row() + row + matrix % 2 * 8) * depth,
                    b_rows = b + (warp_column() + row + matrix / 2 * 8) * depth;
    PROMPTIQA_UNROLL
    for (int c = 0; c < chunks; c += 2) {  // two chunks are the depth of an instruction, in both types
      const int a_chunk = ((c + matrix / 2) ^ row) * chunk, b_chunk = ((c + matrix % 2) ^ row) * chunk;
      unsigned rows_of_a[row_tiles][4];
      PROMPTIQA_UNROLL
      for (int r = 0; r < row_tiles; ++r)
        load_operand_matrices(rows_of_a[r], a_rows + (16 * r * depth + a_chunk), false);
      PROMPTIQA_UNROLL
      for (int j = 0; j < column_tiles; j += 2) {
        unsigned pair[4];
        load_operand_matrices(pair, b_rows + (8 * j * depth + b_chunk), false);
        add_pair(sums, rows_of_a, pair, j);
      }
    }
  }

  // ---- depth across a tile's rows: A (k, row), B (k, column), cut into stripes of 128 bytes

  /// The element at which a chunk of row k begins. Floats are read one by one, and by four rows at once.
  PROMPTIQA_DEVICE static int place_across(int k, int c) {
    return c / chunks * (depth * depth) + k * depth + ((c % chunks) ^ key(k)) * chunk;
  }
  PROMPTIQA_DEVICE static int key(int k) { return sizeof(T) == 2 ? k % 8 : k % 4 * 2; }

  /// sums += A^T B of one step.
  PROMPTIQA_DEVICE static void multiply_across(Sums& sums, Shared<T> a, Shared<T> b) {
    PROMPTIQA_UNROLL
    for (int k = 0; k < depth; k += 2 * chunk) {
      unsigned rows_of_a[row_tiles][4];
      PROMPTIQA_UNROLL
      for (int r = 0; r < row_tiles; ++r) load_across(rows_of_a[r], a, k, warp_row() + 16 * r, false);
      PROMPTIQA_UNROLL
      for (int j = 0; j < column_tiles; j += 2) {
        unsigned pair[4];
        load_across(pair, b, k, warp_column() + 8 * j, true);
        add_pair(sums, rows_of_a, pair, j);
      }
    }
  }

 protected:
  /// Registers of an instruction's operand from 16 columns of a tile, from `first` on: as A, or as B of two
  /// instructions.
  PROMPTIQA_DEVICE static void load_across(unsigned (&r)[4], Shared<T> tile, int k, int first, bool is_b) {
    const int lane = static_cast<int>(threadIdx.x % 32);
    if constexpr (sizeof(T) == 2) {
      const int matrix = lane / 8, later = is_b ? matrix % 2 : matrix / 2, right = is_b ? matrix / 2 : matrix % 2;
      load_operand_matrices(r, tile + place_across(k + 8 * later + lane % 8, first / 8 + right), true);
    } else {
      const int g = fragment_row(), t = lane % 4;
      PROMPTIQA_UNROLL
      for (int i = 0; i < 4; ++i) {
        const int later = is_b ? i % 2 : i / 2, right = is_b ? i / 2 : i % 2;
        r[i] = __float_as_uint(tile[place_across(k + 4 * later + t, (first + 8 * right + g) / chunk) + g % chunk]);
      }
    }
  }

 private:
  PROMPTIQA_DEVICE static void add_pair(Sums& sums, const unsigned (&a)[row_tiles][4], const unsigned (&pair)[4],
                                        int j) {
    PROMPTIQA_UNROLL
    for (int r = 0; r < row_tiles; ++r) {
      mma_operands(sums[r].values[j], a[r], {pair[0], pair[1]}, T());
      mma_operands(sums[r].values[j + 1], a[r], {pair[2], pair[3]}, T());
    }
  }
};

/// The same for bfloat16 on Hopper: four warps multiply 64 rows of C together, all columns of them. A is loaded into
/// registers; B lies in shared memory as the tensor cores want it.
template <int Groups, int Columns, int Stages, int BlocksAtOnce>
struct WarpgroupChannelsTile : ChannelsTile<bfloat16, 64 * Groups, Columns, 16, Columns, Stages, BlocksAtOnce> {
  using Base = ChannelsTile<bfloat16, 64 * Groups, Columns, 16, Columns, Stages, BlocksAtOnce>;
  using typename Base::Sums;
  PROMPTIQA_DEVICE static int first_row_together() { return static_cast<int>(threadIdx.x / 128) * 64; }
  PROMPTIQA_DEVICE static void publish() { publish_to_tensor_cores(); }

  PROMPTIQA_DEVICE static void multiply(Sums& sums, Shared<bfloat16> a, Shared<bfloat16> b) {
    const auto left = WarpgroupMath::load<Base::depth, Base::rows>(a, Base::warp_row());
    WarpgroupMath::rows_times_rows(sums[0], left, b, true);
  }
  PROMPTIQA_DEVICE static void multiply_across(Sums& sums, Shared<bfloat16> a, Shared<bfloat16> b) {
    WarpgroupMath::Left<Base::depth> left;
    PROMPTIQA_UNROLL
    for (int k = 0; k < Base::depth; k += 16) Base::load_across(left.values[k / 16], a, k, Base::warp_row(), false);
    WarpgroupMath::add_rows_times_matrix(sums[0], left, b);
  }
};

/// For many rows of C, and for few.
template <class T>
using LargeChannelsTile = ChannelsTile<T, 128, 128, 64, 64, 3, 2>;
template <class T>
using LowChannelsTile = ChannelsTile<T, 64, 128, 32, 64, 3, 3>;
/// The more rows a tile has, the less often the pixels come from the L2 cache, which is what limits them.
using HighWarpgroupChannelsTile = WarpgroupChannelsTile<4, 128, 3, 1>;
using LargeWarpgroupChannelsTile = WarpgroupChannelsTile<2, 128, 3, 2>;
using LowWarpgroupChannelsTile = WarpgroupChannelsTile<1, 128, 3, 3>;

}  // namespace promptiqa::cuda
