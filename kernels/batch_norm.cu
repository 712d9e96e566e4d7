// Launches of the batch-norm kernels.
// Surprising choice: three launches, statistics of the parts, of the channels, and the elements: a channel is too long
// for one block when the image is large, and there are too few channels to fill a device.
#include <algorithm>

#include "batch_norm.cuh"
#include "kernel_table.hpp"

namespace promptiqa::cuda {

namespace {

/// Parts a channel of `values` values is cut into: 4096 values each, at most 64 parts.
int parts_of(std::int64_t values) { return static_cast<int>(std::clamp<std::int64_t>(values / 4096, 1, 64)); }

}  // namespace

template <class T>
void batch_norm(const KernelContext& kc, const BatchNormArgs<T>& args) {
  using A = accumulate_t<T>;
  const Op op("batch_norm", kc);
  if (args.channels == 0) return;
  const std::int64_t values = args.batch * args.area;
  const int parts = parts_of(values);
  const StorageRef scratch = op.memory.allocate(static_cast<std::size_t>(args.channels) * 2 * (parts + 1) * sizeof(A));
  A* applied = static_cast<A*>(scratch->data);
  A* moments = applied + 2 * args.channels;
  if (args.training)
    launch(batch_moments_kernel<T>, blocks_for(op, args.channels * parts, 1), 256, 0, op, args, parts, moments);
  launch(batch_statistics_kernel<T>, blocks_for(op, args.channels, 128), 128, 0, op, args, parts, moments, applied);
  launch(batch_norm_kernel<T>, blocks_for(op, values * args.channels, 256), 256, 0, op, args, applied);
}
PROMPTIQA_CUDA_INSTANTIATE(batch_norm, BatchNormArgs)

template <class T>
void batch_norm_backward(const KernelContext& kc, const BatchNormBackwardArgs<T>& args) {
  using A = accumulate_t<T>;
  const Op op("batch_norm_backward", kc);
  if (args.channels == 0) return;
  const std::int64_t values = args.batch * args.area;
  const int parts = parts_of(values);
  StorageRef scratch;
  A* totals = nullptr;
  if (args.dweight || args.training) {
    scratch = op.memory.allocate(static_cast<std::size_t>(args.channels) * 2 * (parts + 1) * sizeof(A));
    totals = static_cast<A*>(scratch->data);
    A* sums = totals + 2 * args.channels;
    launch(batch_norm_sums_kernel<T>, blocks_for(op, args.channels * parts, 1), 256, 0, op, args, parts, sums);
    launch(batch_norm_parameters_kernel<T>, blocks_for(op, args.channels, 128), 128, 0, op, args, parts, sums, totals);
  }
  if (args.dx)
    launch(batch_norm_backward_kernel<T>, blocks_for(op, values * args.channels, 256), 256, 0, op, args,
           args.training ? totals : nullptr);
}
PROMPTIQA_CUDA_INSTANTIATE(batch_norm_backward, BatchNormBackwardArgs)

}  // namespace promptiqa::cuda
