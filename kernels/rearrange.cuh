// Copies that change the order of elements: permute, rows, selection, repetition.
// Surprising choice: indices of a selection travel inside the launch's arguments, 256 at a time: they lie in the host's
// memory, and this neither copies to the device nor waits for it.
#pragma once

#include <promptiqa/core/permute_loops.hpp>

#include "launch.cuh"

namespace promptiqa::cuda {

/// One thread an element of y: right for everything, fast when the last dimension of y is also that of x.
template <class Index, class T>
__global__ void __launch_bounds__(256) gather_kernel(std::int64_t count, PermuteLoops loops, const T* x, T* y) {
  const std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= count) return;
  Index rest = static_cast<Index>(i), from = 0;
  for (int d = loops.rank - 1; d >= 0; --d) {
    const Index dim = static_cast<Index>(loops.dims[d]);
    from += rest % dim * static_cast<Index>(loops.x_strides[d]);
    rest /= dim;
  }
  y[i] = x[from];
}

constexpr int transpose_tile = 32, transpose_rows = 8;

/// Tiles of 32 x 32 through shared memory: dimension `inner` of y is x's innermost, y's last dimension is another one.
/// A block of (32, 8) has one tile; blockIdx.x counts the tiles of all matrices that the other dimensions number.
template <class T>
__global__ void __launch_bounds__(transpose_tile * transpose_rows)
    transpose_kernel(PermuteLoops loops, int inner, std::int64_t tiles_down, std::int64_t tiles_across, const T* x, T* y) {
  // One more column than there are: threads that read down a column reach different banks.
  PROMPTIQA_SHARED(T, tile, transpose_tile * (transpose_tile + 1));
  const int last = loops.rank - 1;
  const std::int64_t columns = loops.dims[inner], rows = loops.dims[last];  // of x: columns lie together
  const std::int64_t row_stride = loops.x_strides[last], column_stride = loops.y_strides[inner];
  std::int64_t rest = blockIdx.x;
  const std::int64_t first_row = rest % tiles_down * transpose_tile;
  rest /= tiles_down;
  const std::int64_t first_column = rest % tiles_across * transpose_tile;
  rest /= tiles_across;
  for (int d = loops.rank - 1; d >= 0; --d) {
    if (d == last || d == inner) continue;
    const std::int64_t at = rest % loops.dims[d];
    rest /= loops.dims[d];
    x += at * loops.x_strides[d];
    y += at * loops.y_strides[d];
  }
  const int lane = static_cast<int>(threadIdx.x);
  for (int i = static_cast<int>(threadIdx.y); i < transpose_tile; i += transpose_rows)
    if (first_row + i < rows && first_column + lane < columns)
      tile[i * (transpose_tile + 1) + lane] = x[(first_row + i) * row_stride + first_column + lane];
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.y); i < transpose_tile; i += transpose_rows)
    if (first_column + i < columns && first_row + lane < rows)
      y[(first_column + i) * column_stride + first_row + lane] = tile[lane * (transpose_tile + 1) + i];
}

/// `run` elements of each row, in vectors of Width; one thread a vector.
template <int Width, class T>
__global__ void __launch_bounds__(256)
    copy_rows_kernel(std::int64_t rows, std::int64_t vectors, std::int64_t x_stride, std::int64_t y_stride, const T* x, T* y) {
  const std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= rows * vectors) return;
  const std::int64_t row = i / vectors, first = i % vectors * Width;
  store_vector<Width>(y + row * y_stride + first, load_vector<Width>(x + row * x_stride + first));
}

/// Part of a selection's indices.
struct Indices {
  static constexpr int most = 256;
  int count;
  std::int64_t values[most];
};

/// y[o, first + j, i] = x[o, indices[j], i] for y of (outer, total, inner); one thread an element.
template <class T>
__global__ void __launch_bounds__(256)
    index_select_kernel(std::int64_t outer, std::int64_t axis, std::int64_t inner, std::int64_t total, std::int64_t first,
                        Indices indices, const T* x, T* y) {
  const std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= outer * indices.count * inner) return;
  const std::int64_t column = i % inner, j = i / inner % indices.count, o = i / inner / indices.count;
  y[(o * total + first + j) * inner + column] = x[(o * axis + indices.values[j]) * inner + column];
}

/// dx[o, indices[j], i] += dy[o, first + j, i]; one thread owns column i of entry o and goes through j in order.
template <class T>
__global__ void __launch_bounds__(256)
    index_select_backward_kernel(std::int64_t outer, std::int64_t axis, std::int64_t inner, std::int64_t total,
                                 std::int64_t first, Indices indices, const T* dy, T* dx) {
  const std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= outer * inner) return;
  const std::int64_t column = i % inner, o = i / inner;
  for (int j = 0; j < indices.count; ++j) {
    T& target = dx[(o * axis + indices.values[j]) * inner + column];
    target = narrow<T>(widen(target) + widen(dy[(o * total + first + j) * inner + column]));
  }
}

/// y[o, a, i] = scale * x[o, i]; one thread an element of y.
template <class T>
__global__ void __launch_bounds__(256) expand_kernel(ExpandArgs<T> args) {
  const std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= args.outer * args.axis * args.inner) return;
  const std::int64_t column = i % args.inner, o = i / args.inner / args.axis;
  args.y[i] = narrow<T>(args.scale * widen(args.x[o * args.inner + column]));
}

}  // namespace promptiqa::cuda
