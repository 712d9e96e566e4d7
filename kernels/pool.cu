// Launches of the pooling kernels.
// Surprising choice: none; the kernels are in pool.cuh.
#include "kernel_table.hpp"
#include "pool.cuh"

namespace promptiqa::cuda {

template <class T>
void avg_pool2d(const KernelContext& kc, const AvgPool2dArgs<T>& args) {
  const Op op("avg_pool2d", kc);
  launch(avg_pool2d_kernel<T>, blocks_for(op, args.planes * args.out_h * args.out_w, 256), 256, 0, op, args);
}
PROMPTIQA_CUDA_INSTANTIATE(avg_pool2d, AvgPool2dArgs)

template <class T>
void avg_pool2d_backward(const KernelContext& kc, const AvgPool2dBackwardArgs<T>& args) {
  const Op op("avg_pool2d_backward", kc);
  launch(avg_pool2d_backward_kernel<T>, blocks_for(op, args.planes * args.in_h * args.in_w, 256), 256, 0, op, args);
}
PROMPTIQA_CUDA_INSTANTIATE(avg_pool2d_backward, AvgPool2dBackwardArgs)

}  // namespace promptiqa::cuda
