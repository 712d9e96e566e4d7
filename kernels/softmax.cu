// Launches of the softmax kernels.
// Surprising choice: none; the kernels are in softmax.cuh.
#include "kernel_table.hpp"
#include "softmax.cuh"

namespace promptiqa::cuda {

template <class T>
void softmax(const KernelContext& kc, const SoftmaxArgs<T>& args) {
  const Op op("softmax", kc);
  if (args.rows == 0 || args.columns == 0) return;
  const bool vectors = rows_are_vectors<T>(args.columns, args.x, args.y);
  const bool fits = with_row_shape<T>(args.columns, vectors, [&](auto shape) {
    launch(softmax_kernel<T, decltype(shape)::Width, decltype(shape)::Vectors>, blocks_for(op, args.rows, rows_per_block),
           dim3(32, rows_per_block), 0, op, args);
  });
  if (!fits) launch(softmax_long_kernel<T>, blocks_for(op, args.rows, 1), 256, 0, op, args);
}
PROMPTIQA_CUDA_INSTANTIATE(softmax, SoftmaxArgs)

template <class T>
void softmax_backward(const KernelContext& kc, const SoftmaxBackwardArgs<T>& args) {
  const Op op("softmax_backward", kc);
  if (args.rows == 0 || args.columns == 0) return;
  const bool vectors = rows_are_vectors<T>(args.columns, args.y, args.dy, args.dx);
  const bool fits = with_row_shape<T>(args.columns, vectors, [&](auto shape) {
    launch(softmax_backward_kernel<T, decltype(shape)::Width, decltype(shape)::Vectors>,
           blocks_for(op, args.rows, rows_per_block), dim3(32, rows_per_block), 0, op, args);
  });
  if (!fits) launch(softmax_backward_long_kernel<T>, blocks_for(op, args.rows, 1), 256, 0, op, args);
}
PROMPTIQA_CUDA_INSTANTIATE(softmax_backward, SoftmaxBackwardArgs)

}  // namespace promptiqa::cuda
