// Average pooling and its gradient, one thread an element of the result.
// Surprising choice: the gradient is gathered, not scattered: windows do not overlap, so each input has at most one.
#pragma once

#include "launch.cuh"

namespace promptiqa::cuda {

template <class T>
__global__ void __launch_bounds__(256) avg_pool2d_kernel(AvgPool2dArgs<T> args) {
  using A = accumulate_t<T>;
  const std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= args.planes * args.out_h * args.out_w) return;
  const std::int64_t column = i % args.out_w, row = i / args.out_w % args.out_h, plane = i / args.out_w / args.out_h;
  const T* window = args.x + (plane * args.in_h + row * args.kernel) * args.in_w + column * args.kernel;
  A sum = 0;
  for (std::int64_t v = 0; v < args.kernel; ++v)
    for (std::int64_t u = 0; u < args.kernel; ++u) sum += widen(window[v * args.in_w + u]);
  args.y[i] = narrow<T>(sum * (1 / static_cast<A>(args.kernel * args.kernel)));
}

template <class T>
__global__ void __launch_bounds__(256) avg_pool2d_backward_kernel(AvgPool2dBackwardArgs<T> args) {
  using A = accumulate_t<T>;
  const std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= args.planes * args.in_h * args.in_w) return;
  const std::int64_t column = i % args.in_w / args.kernel, row = i / args.in_w % args.in_h / args.kernel,
                     plane = i / args.in_w / args.in_h;
  A value = 0;
  if (row < args.out_h && column < args.out_w)
    value = widen(args.dy[(plane * args.out_h + row) * args.out_w + column]) *
            (1 / static_cast<A>(args.kernel * args.kernel));
  args.dx[i] = narrow<T>(value);
}

}  // namespace promptiqa::cuda
