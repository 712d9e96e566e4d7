// Launches of the layer-norm kernels.
// Surprising choice: the gradients of the parameters take a second, small launch that adds the blocks' partial sums,
// because atomics would add them in another order each time.
#include <algorithm>

#include "kernel_table.hpp"
#include "layer_norm.cuh"

namespace promptiqa::cuda {

template <class T>
void layer_norm(const KernelContext& kc, const LayerNormArgs<T>& args) {
  const Op op("layer_norm", kc);
  if (args.rows == 0 || args.columns == 0) return;
  const bool vectors = rows_are_vectors<T>(args.columns, args.x, args.y);
  const bool fits = with_row_shape<T>(args.columns, vectors, [&](auto shape) {
    launch(layer_norm_kernel<T, decltype(shape)::Width, decltype(shape)::Vectors>,
           blocks_for(op, args.rows, rows_per_block), dim3(32, rows_per_block), 0, op, args);
  });
  if (!fits) launch(layer_norm_long_kernel<T>, blocks_for(op, args.rows, 1), 256, 0, op, args);
}
PROMPTIQA_CUDA_INSTANTIATE(layer_norm, LayerNormArgs)

template <class T>
void layer_norm_backward(const KernelContext& kc, const LayerNormBackwardArgs<T>& args) {
  using A = accumulate_t<T>;
  const Op op("layer_norm_backward", kc);
  if (args.columns == 0) return;
  // Four rows or more a warp, and at most two blocks for each of a large device's processors.
  const std::int64_t most_blocks = 264;
  const std::int64_t blocks = std::clamp<std::int64_t>(args.rows / (4 * rows_per_block), 1, most_blocks);
  StorageRef scratch;
  A* partial = nullptr;
  if (args.dweight) {
    scratch = op.memory.allocate(static_cast<std::size_t>(blocks * 2 * args.columns) * sizeof(A));
    partial = static_cast<A*>(scratch->data);
  }
  const bool vectors = rows_are_vectors<T>(args.columns, args.x, args.dy, args.dx);  // a null dx is aligned
  const bool fits = with_row_shape<T>(args.columns, vectors, [&](auto shape) {
    launch(layer_norm_backward_kernel<T, decltype(shape)::Width, decltype(shape)::Vectors>,
           static_cast<unsigned>(blocks), dim3(32, rows_per_block), 0, op, args, partial);
  });
  if (!fits && args.dx) launch(layer_norm_backward_long_kernel<T>, blocks_for(op, args.rows, 1), 256, 0, op, args);
  if (!fits && partial)
    launch(layer_norm_parameters_long_kernel<T>,
           dim3(blocks_for(op, args.columns, 32), static_cast<unsigned>(blocks)), dim3(32, 8), 0, op, args, partial);
  if (partial)
    launch(layer_norm_parameters_kernel<A>, blocks_for(op, 2 * args.columns, 32), dim3(32, 8), 0, op, partial,
           static_cast<int>(blocks), args.columns, args.dweight, args.dbias);
}
PROMPTIQA_CUDA_INSTANTIATE(layer_norm_backward, LayerNormBackwardArgs)

}  // namespace promptiqa::cuda
