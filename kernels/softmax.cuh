// Softmax over rows and its gradient: a warp a row while it fits in registers, else a block a row.
// Surprising choice: a row without a finite maximum gives NaN, as on the CPU.
#pragma once

#include "reduce.cuh"
#include "row.cuh"

namespace promptiqa::cuda {

/// One warp, one row of at most Row::most_columns elements.
template <class T, int Width, int Vectors>
__global__ void __launch_bounds__(32 * rows_per_block) softmax_kernel(SoftmaxArgs<T> args) {
  using A = accumulate_t<T>;
  const std::int64_t row = std::int64_t{blockIdx.x} * rows_per_block + threadIdx.y;
  if (row >= args.rows) return;
  const int columns = static_cast<int>(args.columns);
  Row<T, Width, Vectors> x;
  x.load(args.x + row * columns, columns);
  A largest = -static_cast<A>(INFINITY);
  x.for_each(columns, [&](A& v, int) {
    v *= args.scale;
    largest = largest < v ? v : largest;
  });
  largest = warp_max(largest);
  A sum = 0;
  x.for_each(columns, [&](A& v, int) {
    v = exp(v - largest);
    sum += v;
  });
  const A factor = 1 / warp_sum(sum);
  x.for_each(columns, [&](A& v, int) { v *= factor; });
  x.store(args.y + row * columns, columns);
}

/// One block, one row of any length.
template <class T>
__global__ void __launch_bounds__(256) softmax_long_kernel(SoftmaxArgs<T> args) {
  using A = accumulate_t<T>;
  const T* x = args.x + blockIdx.x * args.columns;
  T* y = args.y + blockIdx.x * args.columns;
  A largest = -static_cast<A>(INFINITY);
  for (std::int64_t i = threadIdx.x; i < args.columns; i += blockDim.x) {
    const A v = widen(x[i]) * args.scale;
    largest = largest < v ? v : largest;
  }
  largest = block_max(largest);
  A sum = 0;
  for (std::int64_t i = threadIdx.x; i < args.columns; i += blockDim.x) sum += exp(widen(x[i]) * args.scale - largest);
  const A factor = 1 / block_sum(sum);
  for (std::int64_t i = threadIdx.x; i < args.columns; i += blockDim.x)
    y[i] = narrow<T>(exp(widen(x[i]) * args.scale - largest) * factor);
}

/// dx = scale * y * (dy - sum(dy * y)).
template <class T, int Width, int Vectors>
__global__ void __launch_bounds__(32 * rows_per_block) softmax_backward_kernel(SoftmaxBackwardArgs<T> args) {
  using A = accumulate_t<T>;
  const std::int64_t row = std::int64_t{blockIdx.x} * rows_per_block + threadIdx.y;
  if (row >= args.rows) return;
  const int columns = static_cast<int>(args.columns);
  Row<T, Width, Vectors> y, dy;
  y.load(args.y + row * columns, columns);
  dy.load(args.dy + row * columns, columns);
  A dot = 0;
  y.for_each_vector(columns, [&](int vector, int) {
    for (int i = 0; i < Width; ++i) dot += y.values[vector][i] * dy.values[vector][i];
  });
  dot = warp_sum(dot);
  y.for_each_vector(columns, [&](int vector, int) {
    for (int i = 0; i < Width; ++i)
      dy.values[vector][i] = args.scale * y.values[vector][i] * (dy.values[vector][i] - dot);
  });
  dy.store(args.dx + row * columns, columns);
}

template <class T>
__global__ void __launch_bounds__(256) softmax_backward_long_kernel(SoftmaxBackwardArgs<T> args) {
  using A = accumulate_t<T>;
  const std::int64_t first = blockIdx.x * args.columns;
  const T *y = args.y + first, *dy = args.dy + first;
  A dot = 0;
  for (std::int64_t i = threadIdx.x; i < args.columns; i += blockDim.x) dot += widen(y[i]) * widen(dy[i]);
  dot = block_sum(dot);
  for (std::int64_t i = threadIdx.x; i < args.columns; i += blockDim.x)
    args.dx[first + i] = narrow<T>(args.scale * widen(y[i]) * (widen(dy[i]) - dot));
}

}  // namespace promptiqa::cuda
