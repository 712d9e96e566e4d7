// Launches of the copies.
// Surprising choice: a permutation is merged to as few dimensions as it has, and only if x's innermost dimension is then
// not y's does it go through tiles of shared memory.
#include <algorithm>
#include <cstring>

#include "kernel_table.hpp"
#include "rearrange.cuh"

namespace promptiqa::cuda {

namespace {

/// Copies rows in the widest vectors that addresses, strides and length allow.
template <class T>
void copy(const Op& op, std::int64_t rows, std::int64_t run, std::int64_t x_stride, std::int64_t y_stride, const T* x, T* y) {
  if (rows <= 0 || run <= 0) return;
  constexpr int width = vector_width<T>;
  if (run % width == 0 && x_stride % width == 0 && y_stride % width == 0 && aligned(x, 16) && aligned(y, 16))
    launch(copy_rows_kernel<width, T>, blocks_for(op, rows * (run / width), 256), 256, 0, op, rows, run / width, x_stride,
           y_stride, x, y);
  else
    launch(copy_rows_kernel<1, T>, blocks_for(op, rows * run, 256), 256, 0, op, rows, run, x_stride, y_stride, x, y);
}

}  // namespace

template <class T>
void copy_rows(const KernelContext& kc, const CopyRowsArgs<T>& args) {
  const Op op("copy_rows", kc);
  if (args.run == args.x_stride && args.run == args.y_stride)
    copy(op, 1, args.rows * args.run, args.rows * args.run, args.rows * args.run, args.x, args.y);
  else
    copy(op, args.rows, args.run, args.x_stride, args.y_stride, args.x, args.y);
}
PROMPTIQA_CUDA_INSTANTIATE(copy_rows, CopyRowsArgs)

template <class T>
void permute(const KernelContext& kc, const PermuteArgs<T>& args) {
  const Op op("permute", kc);
  const PermuteLoops loops = merge_dimensions(args);
  std::int64_t count = 1;
  for (int d = 0; d < loops.rank; ++d) count *= loops.dims[d];
  if (count == 0) return;
  const int last = loops.rank - 1;
  if (loops.rank <= 1) return copy(op, 1, count, count, count, args.x, args.y);
  if (loops.x_strides[last] == 1) {
    with_index_type(count, [&](auto index) {
      launch(gather_kernel<decltype(index), T>, blocks_for(op, count, 256), 256, 0, op, count, loops, args.x, args.y);
    });
    return;
  }
  int inner = 0;
  while (loops.x_strides[inner] != 1) ++inner;
  const std::int64_t rows = loops.dims[last], columns = loops.dims[inner];
  const std::int64_t down = ceil_div(rows, transpose_tile), across = ceil_div(columns, transpose_tile);
  launch(transpose_kernel<T>, blocks_for(op, down * across * (count / (rows * columns)), 1),
         dim3(transpose_tile, transpose_rows), 0, op, loops, inner, down, across, args.x, args.y);
}
PROMPTIQA_CUDA_INSTANTIATE(permute, PermuteArgs)

namespace {

/// Calls run(first, Indices) for consecutive parts of the indices.
template <class Run>
void in_parts(const std::int64_t* index, std::int64_t count, Run&& run) {
  for (std::int64_t first = 0; first < count; first += Indices::most) {
    Indices part = {};
    part.count = static_cast<int>(std::min<std::int64_t>(Indices::most, count - first));
    std::memcpy(part.values, index + first, static_cast<std::size_t>(part.count) * sizeof(std::int64_t));
    run(first, part);
  }
}

}  // namespace

template <class T>
void index_select(const KernelContext& kc, const IndexSelectArgs<T>& args) {
  const Op op("index_select", kc);
  in_parts(args.index, args.count, [&](std::int64_t first, const Indices& part) {
    launch(index_select_kernel<T>, blocks_for(op, args.outer * part.count * args.inner, 256), 256, 0, op, args.outer,
           args.axis, args.inner, args.count, first, part, args.x, args.y);
  });
}
PROMPTIQA_CUDA_INSTANTIATE(index_select, IndexSelectArgs)

template <class T>
void index_select_backward(const KernelContext& kc, const IndexSelectBackwardArgs<T>& args) {
  const Op op("index_select_backward", kc);
  fill<T>(kc, {args.outer * args.axis * args.inner, T{}, args.dx});
  in_parts(args.index, args.count, [&](std::int64_t first, const Indices& part) {
    launch(index_select_backward_kernel<T>, blocks_for(op, args.outer * args.inner, 256), 256, 0, op, args.outer,
           args.axis, args.inner, args.count, first, part, args.dy, args.dx);
  });
}
PROMPTIQA_CUDA_INSTANTIATE(index_select_backward, IndexSelectBackwardArgs)

template <class T>
void expand(const KernelContext& kc, const ExpandArgs<T>& args) {
  const Op op("expand", kc);
  launch(expand_kernel<T>, blocks_for(op, args.outer * args.axis * args.inner, 256), 256, 0, op, args);
}
PROMPTIQA_CUDA_INSTANTIATE(expand, ExpandArgs)

}  // namespace promptiqa::cuda
