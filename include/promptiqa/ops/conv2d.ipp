// Body of conv2d.
// Surprising choice: the two gradients are separate kernels, so an image that needs none costs none.
#pragma once

#include <promptiqa/ops/check.hpp>
#include <promptiqa/ops/conv2d.hpp>

namespace promptiqa {

template <class T>
Tensor<T> conv2d(Context& ctx, const Tensor<T>& x, const Tensor<T>& weight, const Tensor<accumulate_t<T>>& bias,
                 const Conv2dOptions& options) {
  using A = accumulate_t<T>;
  detail::check_rank("conv2d", "x", x, 4);
  detail::check_rank("conv2d", "weight", weight, 4);
  if (x.dim(1) != weight.dim(1))
    detail::shape_error("conv2d", "x must have " + std::to_string(weight.dim(1)) + " channels as weight " +
                                      weight.shape().str() + ", got x " + x.shape().str());
  if (weight.numel() == 0)
    detail::shape_error("conv2d", "weight must not have an empty dimension, got shape " + weight.shape().str());
  if (bias) detail::check_numel("conv2d", "bias", bias, weight.dim(0));
  const auto pair = [](std::int64_t h, std::int64_t w) { return std::to_string(h) + ", " + std::to_string(w); };
  constexpr std::int64_t limit = std::int64_t{1} << 31;  // far from overflow in what follows
  if (options.stride_h < 1 || options.stride_w < 1)
    detail::shape_error("conv2d", "stride must be at least 1, got " + pair(options.stride_h, options.stride_w));
  if (options.pad_h < 0 || options.pad_w < 0 || options.pad_h >= limit || options.pad_w >= limit)
    detail::shape_error("conv2d", "padding must be in [0, 2^31), got " + pair(options.pad_h, options.pad_w));
  const std::int64_t room_h = x.dim(2) + 2 * options.pad_h - weight.dim(2);
  const std::int64_t room_w = x.dim(3) + 2 * options.pad_w - weight.dim(3);
  if (room_h < 0 || room_w < 0)
    detail::shape_error("conv2d", "weight " + weight.shape().str() + " must fit x with padding " +
                                      pair(options.pad_h, options.pad_w) + ", got x " + x.shape().str());
  const Conv2dGeometry geometry{x.dim(0),
                                x.dim(1),
                                x.dim(2),
                                x.dim(3),
                                weight.dim(0),
                                room_h / options.stride_h + 1,
                                room_w / options.stride_w + 1,
                                weight.dim(2),
                                weight.dim(3),
                                options.stride_h,
                                options.stride_w,
                                options.pad_h,
                                options.pad_w};
  Tensor<T> y = ctx.allocate<T>(Shape{geometry.batch, geometry.out_channels, geometry.out_h, geometry.out_w});
  ctx.kernels<T>().conv2d(ctx.kernel_context(), {geometry, x.data(), weight.data(), bias.data(), y.mutable_data()});
  if (detail::recording(ctx, x, weight, bias))
    ctx.tape()->record(y, [tape = ctx.tape(), x, weight, bias, geometry](Context& c, const Tensor<T>& dy) {
      if (tape->tracks(x)) {
        Tensor<T> dx = c.allocate<T>(x.shape());
        c.kernels<T>().conv2d_backward_data(c.kernel_context(),
                                            {geometry, dy.data(), weight.data(), dx.mutable_data()});
        tape->accumulate(c, x, dx);
      }
      if (tape->tracks(weight) || tape->tracks(bias)) {
        Tensor<T> dw = c.allocate<T>(weight.shape());
        Tensor<A> db = bias ? c.allocate<A>(bias.shape()) : Tensor<A>();
        c.kernels<T>().conv2d_backward_weight(c.kernel_context(),
                                              {geometry, dy.data(), x.data(), dw.mutable_data(), db.mutable_data()});
        tape->accumulate(c, weight, dw);
        if (db) tape->accumulate(c, bias, db);
      }
    });
  return y;
}

}  // namespace promptiqa
