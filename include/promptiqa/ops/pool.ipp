// Body of avg_pool2d.
// Surprising choice: a window of 1 is the identity and returns x itself.
#pragma once

#include <promptiqa/ops/check.hpp>
#include <promptiqa/ops/pool.hpp>

namespace promptiqa {

template <class T>
Tensor<T> avg_pool2d(Context& ctx, const Tensor<T>& x, std::int64_t kernel) {
  detail::check_rank("avg_pool2d", "x", x, 4);
  if (kernel < 1 || kernel > x.dim(2) || kernel > x.dim(3))
    detail::shape_error("avg_pool2d",
                        "kernel must be at least 1 and fit x " + x.shape().str() + ", got " + std::to_string(kernel));
  if (kernel == 1) return x;
  const std::int64_t planes = x.dim(0) * x.dim(1), in_h = x.dim(2), in_w = x.dim(3);
  const std::int64_t out_h = in_h / kernel, out_w = in_w / kernel;
  Tensor<T> y = ctx.allocate<T>(Shape{x.dim(0), x.dim(1), out_h, out_w}, "avg_pool2d");
  ctx.kernels<T>().avg_pool2d(ctx.kernel_context(),
                              {planes, in_h, in_w, out_h, out_w, kernel, x.data(), y.mutable_data()});
  if (detail::recording(ctx, x))
    ctx.tape()->record(
        y, [tape = ctx.tape(), x, planes, in_h, in_w, out_h, out_w, kernel](Context& c, const Tensor<T>& dy) {
          Tensor<T> dx = c.allocate<T>(x.shape(), "avg_pool2d_backward");
          c.kernels<T>().avg_pool2d_backward(c.kernel_context(),
                                             {planes, in_h, in_w, out_h, out_w, kernel, dy.data(), dx.mutable_data()});
          tape->accumulate(c, x, dx);
        });
  return y;
}

}  // namespace promptiqa
