// Layer norm and its gradients: a warp a row while it fits in registers, else a block a row.
// Surprising choice: the backward pass reads x and dy once; each lane always has the same columns, so it sums the
// gradients of weight and bias in registers over all rows of its warp, and blocks leave one partial sum each. The number
// of blocks depends on the shape only, so sums have the same bits on every device.
#pragma once

#include "reduce.cuh"
#include "row.cuh"

namespace promptiqa::cuda {

/// One warp, one row of at most Row::most_columns elements.
template <class T, int Width, int Vectors>
__global__ void __launch_bounds__(32 * rows_per_block) layer_norm_kernel(LayerNormArgs<T> args) {
  using A = accumulate_t<T>;
  const std::int64_t row = std::int64_t{blockIdx.x} * rows_per_block + threadIdx.y;
  if (row >= args.rows) return;
  const int columns = static_cast<int>(args.columns);
  Row<T, Width, Vectors> x;
  x.load(args.x + row * columns, columns);
  A sum = 0, squares = 0;
  x.for_each(columns, [&](A& v, int) { sum += v; });
  const A mean = warp_sum(sum) / static_cast<A>(columns);
  x.for_each(columns, [&](A& v, int) { squares += (v - mean) * (v - mean); });
  const A rstd = 1 / sqrt(warp_sum(squares) / static_cast<A>(columns) + args.eps);
  x.for_each(columns, [&](A& v, int column) { v = (v - mean) * rstd * args.weight[column] + args.bias[column]; });
  x.store(args.y + row * columns, columns);
  if (args.mean && threadIdx.x == 0) {
    args.mean[row] = mean;
    args.rstd[row] = rstd;
  }
}

/// One block, one row of any length.
template <class T>
__global__ void __launch_bounds__(256) layer_norm_long_kernel(LayerNormArgs<T> args) {
  using A = accumulate_t<T>;
  const std::int64_t row = blockIdx.x, columns = args.columns;
  const T* x = args.x + row * columns;
  T* y = args.y + row * columns;
  A sum = 0, squares = 0;
  for (std::int64_t i = threadIdx.x; i < columns; i += blockDim.x) sum += widen(x[i]);
  const A mean = block_sum(sum) / static_cast<A>(columns);
  for (std::int64_t i = threadIdx.x; i < columns; i += blockDim.x) {
    const A v = widen(x[i]) - mean;
    squares += v * v;
  }
  const A rstd = 1 / sqrt(block_sum(squares) / static_cast<A>(columns) + args.eps);
  for (std::int64_t i = threadIdx.x; i < columns; i += blockDim.x)
    y[i] = narrow<T>((widen(x[i]) - mean) * rstd * args.weight[i] + args.bias[i]);
  if (args.mean && threadIdx.x == 0) {
    args.mean[row] = mean;
    args.rstd[row] = rstd;
  }
}

/// dx = rstd * (g - mean(g) - xhat * mean(g * xhat)) with g = dy * weight, xhat = (x - mean) * rstd. Warps walk over rows.
/// partial, unless null, gets this block's sums: (gridDim.x, 2, columns), of dy * xhat and of dy.
template <class T, int Width, int Vectors>
__global__ void __launch_bounds__(32 * rows_per_block)
    layer_norm_backward_kernel(LayerNormBackwardArgs<T> args, accumulate_t<T>* partial) {
  using A = accumulate_t<T>;
  using R = Row<T, Width, Vectors>;
  const int columns = static_cast<int>(args.columns);
  R dweight, dbias;
  dweight.clear();
  dbias.clear();
  for (std::int64_t row = std::int64_t{blockIdx.x} * rows_per_block + threadIdx.y; row < args.rows;
       row += std::int64_t{gridDim.x} * rows_per_block) {
    const A mean = args.mean[row], rstd = args.rstd[row];
    // As stored, which in bfloat16 takes half the registers, unless zeros are mixed in.
#if PROMPTIQA_EMULATED
    Vector<T, Width> x[Vectors] = {}, dy[Vectors] = {};  // g++ does not see that only what was written is read
#else
    Vector<T, Width> x[Vectors], dy[Vectors];
#endif
    A sum = 0, dot = 0;
    R::for_each_vector(columns, [&](int vector, int column) {
      x[vector] = load_vector<Width>(args.x + row * columns + column);
      dy[vector] = load_vector<Width>(args.dy + row * columns + column);
      for (int i = 0; i < Width; ++i) {
        const A xhat = (widen(x[vector].values[i]) - mean) * rstd, d = widen(dy[vector].values[i]);
        const A g = d * args.weight[column + i];
        dweight.values[vector][i] += d * xhat;
        dbias.values[vector][i] += d;
        sum += g;
        dot += g * xhat;
      }
    });
    if (!args.dx) continue;
    sum = warp_sum(sum) / static_cast<A>(columns);
    dot = warp_sum(dot) / static_cast<A>(columns);
    R::for_each_vector(columns, [&](int vector, int column) {
      Vector<T, Width> dx;
      for (int i = 0; i < Width; ++i) {
        const A xhat = (widen(x[vector].values[i]) - mean) * rstd;
        const A g = widen(dy[vector].values[i]) * args.weight[column + i];
        dx.values[i] = narrow<T>((g - sum - xhat * dot) * rstd);
      }
      store_vector<Width>(args.dx + row * columns + column, dx);
    });
  }
  if (!partial) return;
  // One warp after the other adds its sums: a fixed order.
  PROMPTIQA_SHARED(A, sums, 2 * R::most_columns);
  for (int warp = 0; warp < rows_per_block; ++warp) {
    if (static_cast<int>(threadIdx.y) == warp) {
      dweight.for_each(columns, [&](A& v, int column) { sums[column] = warp == 0 ? v : sums[column] + v; });
      dbias.for_each(columns, [&](A& v, int column) {
        sums[R::most_columns + column] = warp == 0 ? v : sums[R::most_columns + column] + v;
      });
    }
    __syncthreads();
  }
  A* mine = partial + std::int64_t{blockIdx.x} * 2 * columns;
  for (int i = static_cast<int>(threadIdx.y * 32 + threadIdx.x); i < 2 * columns; i += 32 * rows_per_block)
    mine[i] = sums[i < columns ? i : R::most_columns + i - columns];
}

/// dx of one row of any length: one block.
template <class T>
__global__ void __launch_bounds__(256) layer_norm_backward_long_kernel(LayerNormBackwardArgs<T> args) {
  using A = accumulate_t<T>;
  const std::int64_t row = blockIdx.x, columns = args.columns;
  const T *x = args.x + row * columns, *dy = args.dy + row * columns;
  const A mean = args.mean[row], rstd = args.rstd[row];
  A sum = 0, dot = 0;
  for (std::int64_t i = threadIdx.x; i < columns; i += blockDim.x) {
    const A g = widen(dy[i]) * args.weight[i];
    sum += g;
    dot += g * ((widen(x[i]) - mean) * rstd);
  }
  sum = block_sum(sum) / static_cast<A>(columns);
  dot = block_sum(dot) / static_cast<A>(columns);
  for (std::int64_t i = threadIdx.x; i < columns; i += blockDim.x)
    args.dx[row * columns + i] =
        narrow<T>((widen(dy[i]) * args.weight[i] - sum - (widen(x[i]) - mean) * rstd * dot) * rstd);
}

/// Sums of dy * xhat and of dy over rows of any length: a block of (32, 8) has 32 columns and every gridDim.y-th group of
/// 8 rows, and leaves one partial sum a column: (gridDim.y, 2, columns).
template <class T>
__global__ void __launch_bounds__(256)
    layer_norm_parameters_long_kernel(LayerNormBackwardArgs<T> args, accumulate_t<T>* partial) {
  using A = accumulate_t<T>;
  PROMPTIQA_SHARED(A, sums, 2 * 8 * 32);
  const std::int64_t column = std::int64_t{blockIdx.x} * 32 + threadIdx.x;
  A dweight = 0, dbias = 0;
  if (column < args.columns)
    for (std::int64_t row = std::int64_t{blockIdx.y} * 8 + threadIdx.y; row < args.rows;
         row += std::int64_t{gridDim.y} * 8) {
      const A dy = widen(args.dy[row * args.columns + column]);
      dweight += dy * ((widen(args.x[row * args.columns + column]) - args.mean[row]) * args.rstd[row]);
      dbias += dy;
    }
  sums[threadIdx.y * 32 + threadIdx.x] = dweight;
  sums[256 + threadIdx.y * 32 + threadIdx.x] = dbias;
  __syncthreads();
  if (threadIdx.y > 1 || column >= args.columns) return;
  A total = 0;
  for (unsigned y = 0; y < 8; ++y) total += sums[256 * threadIdx.y + y * 32 + threadIdx.x];
  partial[(std::int64_t{blockIdx.y} * 2 + threadIdx.y) * args.columns + column] = total;
}

/// dweight and dbias from `blocks` partial sums of every column of (2, columns): 32 columns a block of (32, 8).
template <class A>
__global__ void __launch_bounds__(256)
    layer_norm_parameters_kernel(const A* partial, int blocks, std::int64_t columns, A* dweight, A* dbias) {
  PROMPTIQA_SHARED(A, sums, 8 * 32);
  const std::int64_t i = std::int64_t{blockIdx.x} * 32 + threadIdx.x;
  A sum = 0;
  if (i < 2 * columns)
    for (int block = static_cast<int>(threadIdx.y); block < blocks; block += 8) sum += partial[block * 2 * columns + i];
  sums[threadIdx.y * 32 + threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y > 0 || i >= 2 * columns) return;
  for (unsigned y = 1; y < 8; ++y) sum += sums[y * 32 + threadIdx.x];
  if (i < columns)
    dweight[i] = sum;
  else
    dbias[i - columns] = sum;
}

}  // namespace promptiqa::cuda
