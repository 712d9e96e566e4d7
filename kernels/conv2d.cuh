// Convolution and its gradients as matrix products that gather their operands (implicit GEMM).
// Surprising choice: one kernel for all three; see conv2d_geometry.cuh for what it gathers from where.
#pragma once

#include "conv2d_geometry.cuh"
#include "mma.cuh"
#include "reduce.cuh"

namespace promptiqa::cuda {

/// Sizes of a block's tile of C and of the step it takes in depth: a warp has 32 rows.
template <class Math>
struct ConvTile {
  using Operand = typename Math::Operand;
  using Sum = typename Math::Sum;
  static constexpr int warps = 4, threads = 32 * warps, rows = 32 * warps, columns = 64;
  static constexpr int depth = 16, pitch = padded<Operand>(depth);
  static constexpr int blocks_at_once = sizeof(Sum) == 8 ? 1 : 3;  // of a multiprocessor: what registers must allow
};

/// Sums of one kind of product go through store(number of C's element, row, sum).
template <class T>
struct StoreConvolution {  // y = activation(sum + bias + residual); without those, a gradient
  T* y;
  const accumulate_t<T>* bias;
  const T* residual;
  bool relu;
  PROMPTIQA_DEVICE T finished(int row, accumulate_t<T> sum, const T* addend) const {
    if (bias) sum += bias[row];
    if (addend) sum += widen(*addend);
    return narrow<T>(relu && sum < 0 ? accumulate_t<T>(0) : sum);  // keeps NaN
  }
  PROMPTIQA_DEVICE void operator()(std::int64_t i, int row, accumulate_t<T> sum) const {
    y[i] = finished(row, sum, residual ? residual + i : nullptr);
  }
  /// The same for `width` neighbours at 16-byte addresses.
  static constexpr int width = vector_width<T>;
  PROMPTIQA_DEVICE void vector(std::int64_t i, int row, const Vector<accumulate_t<T>, width>& sums) const {
    Vector<T, width> v, addend;
    if (residual) addend = load_vector<width>(residual + i);
    PROMPTIQA_UNROLL
    for (int n = 0; n < width; ++n) v.values[n] = finished(row, sums.values[n], residual ? &addend.values[n] : nullptr);
    store_vector<width>(y + i, v);
  }
};
template <class A>
struct StorePartialSum {
  A* partial;
  std::int64_t size;  // of C; a split of the depth has one C
  PROMPTIQA_DEVICE void operator()(std::int64_t i, int, A sum) const { partial[blockIdx.z * size + i] = sum; }
  static constexpr int width = vector_width<A>;
  PROMPTIQA_DEVICE void vector(std::int64_t i, int, const Vector<A, width>& sums) const {
    store_vector<width>(partial + (blockIdx.z * size + i), sums);
  }
};

/// One tile of C. Grid: x over tiles of columns, y over tiles of rows, z over classes of pixels (ConvData) or over
/// parts of the depth, `part` long each.
template <class T, class Math, class Product, class Store>
__global__ void __launch_bounds__(ConvTile<Math>::threads, ConvTile<Math>::blocks_at_once)
    conv2d_kernel(Product product, int part, Store store) {
  using Tile = ConvTile<Math>;
  using Operand = typename Tile::Operand;
  using Sum = typename Tile::Sum;
  if (!product.select(static_cast<int>(blockIdx.z))) return;
  const int rows = product.rows(), columns = product.columns();
  const int first_row = static_cast<int>(blockIdx.y) * Tile::rows,
            first_column = static_cast<int>(blockIdx.x) * Tile::columns;
  if (first_column >= columns) return;  // classes differ in their number of pixels
  const int begin = Product::classes ? 0 : static_cast<int>(blockIdx.z) * part;
  const int end = product.depth() - begin < part ? product.depth() : begin + part;
  const int thread = static_cast<int>(threadIdx.x), warp_row = thread / 32 * 32;

  PROMPTIQA_SHARED(Operand, a_tile, Tile::rows * Tile::pitch);
  PROMPTIQA_SHARED(Operand, b_tile, Tile::columns * Tile::pitch);  // transposed: (column, k)
  PROMPTIQA_SHARED(ConvPlace, column_places, Tile::columns);
  PROMPTIQA_SHARED(std::int64_t, c_columns, Tile::columns);
  PROMPTIQA_SHARED(ConvPlace, term_places, Tile::depth);
  PROMPTIQA_SHARED(std::int64_t, a_terms, Tile::depth);

  const auto place_terms = [&](int k0) {
    if (thread >= Tile::depth) return;
    const int k = k0 + thread;
    a_terms[thread] = k < end ? product.a_term(k) : std::int64_t{-1};
    term_places[thread] = k < end ? product.term(k) : ConvPlace{0, outside, outside};
  };
  if (thread < Tile::columns) {
    const int n = first_column + thread;
    column_places[thread] = n < columns ? product.column(n) : ConvPlace{0, outside, outside};
    c_columns[thread] = n < columns ? product.c_column(n) : std::int64_t{-1};
  }
  place_terms(begin);
  __syncthreads();

  // The next step's operands, on their way from memory in registers while this step's are multiplied.
  constexpr int a_count = Tile::rows * Tile::depth / Tile::threads,
                b_count = Tile::columns * Tile::depth / Tile::threads;
  Operand a_next[a_count], b_next[b_count];
  // Neighbouring threads read neighbouring pixels, which are columns of B, or its depth when the weight's gradient is
  // sought.
  constexpr int across = Product::pixels_are_columns ? Tile::columns : Tile::depth;
  const auto b_column = [thread](int i) {
    return Product::pixels_are_columns ? thread % across : thread / across + i * (Tile::threads / across);
  };
  const auto b_depth = [thread](int i) {
    return Product::pixels_are_columns ? thread / across + i * (Tile::threads / across) : thread % across;
  };
  const auto load = [&] {
    const auto operand = [](T x) {
      if constexpr (sizeof(T) == sizeof(Operand))
        return x;
      else
        return widen(x);
    };
    const int k = thread % Tile::depth;
    const std::int64_t a_term = a_terms[k];
    PROMPTIQA_UNROLL
    for (int i = 0; i < a_count; ++i) {
      const int row = first_row + thread / Tile::depth + i * (Tile::threads / Tile::depth);
      a_next[i] = a_term >= 0 && row < rows ? operand(product.a[row * product.a_row() + a_term]) : Operand{};
    }
    PROMPTIQA_UNROLL
    for (int i = 0; i < b_count; ++i) {
      const ConvPlace column = column_places[b_column(i)], term = term_places[b_depth(i)];
      const int y = column.y + term.y, x = column.x + term.x;
      const bool inside = y >= 0 && y < product.height() && x >= 0 && x < product.width();
      b_next[i] = inside ? operand(product.b[column.offset + term.offset]) : Operand{};
    }
  };
  const auto to_tiles = [&] {
    PROMPTIQA_UNROLL
    for (int i = 0; i < a_count; ++i)
      a_tile[(thread / Tile::depth + i * (Tile::threads / Tile::depth)) * Tile::pitch + thread % Tile::depth] =
          a_next[i];
    PROMPTIQA_UNROLL
    for (int i = 0; i < b_count; ++i) b_tile[b_column(i) * Tile::pitch + b_depth(i)] = b_next[i];
  };

  Fragment<Sum, Tile::columns / 8> sums[2];
  sums[0].clear();
  sums[1].clear();
  if (begin < end) load();
  for (int k = begin; k < end; k += Tile::depth) {
    __syncthreads();  // the tiles have been multiplied, the places been used
    to_tiles();
    place_terms(k + Tile::depth);
    __syncthreads();
    if (k + Tile::depth < end) load();
    if (first_row + warp_row < rows)
      Math::template add_rows_times_rows<Tile::depth>(sums, a_tile + warp_row * Tile::pitch, Tile::pitch, b_tile,
                                                      Tile::pitch);
  }

  PROMPTIQA_UNROLL
  for (int half = 0; half < 2; ++half)
    sums[half].for_each([&](Sum& sum, int second, int column) {
      const int row = first_row + warp_row + 16 * half + 8 * second + fragment_row();
      const std::int64_t c_column = c_columns[column];
      if (row < rows && c_column >= 0) store(row * product.c_row() + c_column, row, sum);
    });
}

/// y[i] = the sum of `parts` numbers i, in their order.
template <class T>
__global__ void __launch_bounds__(256)
    add_parts_kernel(std::int64_t count, int parts, const accumulate_t<T>* partial, T* y) {
  const std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= count) return;
  accumulate_t<T> sum = 0;
  for (int part = 0; part < parts; ++part) sum += partial[part * count + i];
  y[i] = narrow<T>(sum);
}

/// dbias of one channel: a block.
template <class T>
__global__ void __launch_bounds__(256) conv2d_dbias_kernel(Conv2dGeometry g, const T* dy, accumulate_t<T>* dbias) {
  const std::int64_t area = g.out_h * g.out_w;
  accumulate_t<T> sum = 0;
  for (std::int64_t image = 0; image < g.batch; ++image)
    for (std::int64_t i = threadIdx.x; i < area; i += blockDim.x)
      sum += widen(dy[(image * g.out_channels + blockIdx.x) * area + i]);
  sum = block_sum(sum);
  if (threadIdx.x == 0) dbias[blockIdx.x] = sum;
}

/// packed = weight, each output channel times its scale.
template <class T>
__global__ void __launch_bounds__(256) pack_conv2d_kernel(PackConv2dArgs<T> args, std::int64_t depth) {
  const std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= args.out_channels * depth) return;
  static_cast<T*>(args.packed)[i] =
      args.scale ? narrow<T>(widen(args.weight[i]) * args.scale[i / depth]) : args.weight[i];
}

}  // namespace promptiqa::cuda
