// Body of conv2d.
// Surprising choice: the two gradients are separate kernels, so an image that needs none costs none.
#pragma once

#include <promptiqa/ops/check.hpp>
#include <promptiqa/ops/conv2d.hpp>

namespace promptiqa {

namespace detail {

// Checks the operands of conv2d, a weight of rank 4, and works out its sizes.
template <class T>
Conv2dGeometry conv2d_geometry(const Tensor<T>& x, const Shape& weight, const Tensor<accumulate_t<T>>& bias,
                               const Conv2dOptions& options) {
  check_rank("conv2d", "x", x, 4);
  if (x.dim(1) != weight[1])
    shape_error("conv2d", "x must have " + std::to_string(weight[1]) + " channels as weight " + weight.str() +
                              ", got x " + x.shape().str());
  if (weight.numel() == 0) shape_error("conv2d", "weight must not have an empty dimension, got shape " + weight.str());
  if (bias) check_numel("conv2d", "bias", bias, weight[0]);
  const auto pair = [](std::int64_t h, std::int64_t w) { return std::to_string(h) + ", " + std::to_string(w); };
  constexpr std::int64_t limit = std::int64_t{1} << 31;  // far from overflow in what follows
  if (options.stride_h < 1 || options.stride_w < 1)
    shape_error("conv2d", "stride must be at least 1, got " + pair(options.stride_h, options.stride_w));
  if (options.pad_h < 0 || options.pad_w < 0 || options.pad_h >= limit || options.pad_w >= limit)
    shape_error("conv2d", "padding must be in [0, 2^31), got " + pair(options.pad_h, options.pad_w));
  const std::int64_t room_h = x.dim(2) + 2 * options.pad_h - weight[2];
  const std::int64_t room_w = x.dim(3) + 2 * options.pad_w - weight[3];
  if (room_h < 0 || room_w < 0)
    shape_error("conv2d", "weight " + weight.str() + " must fit x with padding " + pair(options.pad_h, options.pad_w) +
                              ", got x " + x.shape().str());
  return {x.dim(0),
          x.dim(1),
          x.dim(2),
          x.dim(3),
          weight[0],
          room_h / options.stride_h + 1,
          room_w / options.stride_w + 1,
          weight[2],
          weight[3],
          options.stride_h,
          options.stride_w,
          options.pad_h,
          options.pad_w};
}

}  // namespace detail

template <class T>
PackedConv2d<T> PackedConv2d<T>::pack(Context& ctx, const Tensor<T>& weight, const Tensor<accumulate_t<T>>& scale) {
  detail::check_rank("pack_conv2d", "weight", weight, 4);
  if (weight.numel() == 0)
    detail::shape_error("pack_conv2d", "weight must not have an empty dimension, got shape " + weight.shape().str());
  if (scale) detail::check_numel("pack_conv2d", "scale", scale, weight.dim(0));
  const auto& kernels = ctx.kernels<T>();
  PackedConv2d packed;
  packed.storage_ =
      ctx.block(kernels.packed_conv2d_bytes(weight.dim(0), weight.dim(1), weight.dim(2), weight.dim(3)), "pack_conv2d");
  packed.shape_ = weight.shape();
  packed.layout_ = kernels.packed_layout;
  kernels.pack_conv2d(ctx.kernel_context(), {weight.dim(0), weight.dim(1), weight.dim(2), weight.dim(3), weight.data(),
                                             scale.data(), packed.storage_->data});
  return packed;
}

template <class T>
Tensor<T> conv2d(Context& ctx, const Tensor<T>& x, const PackedConv2d<T>& weight, const Tensor<accumulate_t<T>>& bias,
                 const Conv2dOptions& options, const Conv2dEpilogue<T>& epilogue) {
  if (!weight.fits(ctx))
    detail::shape_error(
        "conv2d", "the packed weight must have been packed for kernels \"" + std::string(ctx.kernels<T>().name) + "\"");
  detail::check_rank("conv2d", "x", x, 4);
  if (epilogue.activation == Activation::gelu)
    detail::shape_error("conv2d", "activation must be none or relu, got gelu");
  const Conv2dGeometry geometry = detail::conv2d_geometry(x, weight.shape(), bias, options);
  Tensor<T> y = ctx.allocate<T>(Shape{geometry.batch, geometry.out_channels, geometry.out_h, geometry.out_w}, "conv2d");
  if (epilogue.residual && epilogue.residual->shape() != y.shape())
    detail::shape_error("conv2d",
                        "residual must have shape " + y.shape().str() + ", got " + epilogue.residual->shape().str());
  if (detail::recording(ctx, x, bias) || (epilogue.residual && detail::recording(ctx, *epilogue.residual)))
    throw Error("conv2d: a packed weight is for inference, but a tape records an operand");
  Conv2dArgs<T> args{geometry, x.data(), nullptr, bias.data(), y.mutable_data()};
  args.packed_weight = weight.data();
  args.residual = epilogue.residual ? epilogue.residual->data() : nullptr;
  args.activation = epilogue.activation;
  ctx.kernels<T>().conv2d(ctx.kernel_context(), args);
  return y;
}

template <class T>
Tensor<T> conv2d(Context& ctx, const Tensor<T>& x, const Tensor<T>& weight, const Tensor<accumulate_t<T>>& bias,
                 const Conv2dOptions& options) {
  using A = accumulate_t<T>;
  detail::check_rank("conv2d", "x", x, 4);
  detail::check_rank("conv2d", "weight", weight, 4);
  const Conv2dGeometry geometry = detail::conv2d_geometry(x, weight.shape(), bias, options);
  Tensor<T> y = ctx.allocate<T>(Shape{geometry.batch, geometry.out_channels, geometry.out_h, geometry.out_w}, "conv2d");
  ctx.kernels<T>().conv2d(ctx.kernel_context(), {geometry, x.data(), weight.data(), bias.data(), y.mutable_data()});
  if (detail::recording(ctx, x, weight, bias))
    ctx.tape()->record(y, [tape = ctx.tape(), x, weight, bias, geometry](Context& c, const Tensor<T>& dy) {
      if (tape->tracks(x)) {
        Tensor<T> dx = c.allocate<T>(x.shape(), "conv2d_backward_data");
        c.kernels<T>().conv2d_backward_data(c.kernel_context(),
                                            {geometry, dy.data(), weight.data(), dx.mutable_data()});
        tape->accumulate(c, x, dx);
      }
      if (tape->tracks(weight) || tape->tracks(bias)) {
        Tensor<T> dw = c.allocate<T>(weight.shape(), "conv2d_backward_weight");
        Tensor<A> db = bias ? c.allocate<A>(bias.shape(), "conv2d_backward_weight") : Tensor<A>();
        c.kernels<T>().conv2d_backward_weight(c.kernel_context(),
                                              {geometry, dy.data(), x.data(), dw.mutable_data(), db.mutable_data()});
        tape->accumulate(c, weight, dw);
        if (db) tape->accumulate(c, bias, db);
      }
    });
  return y;
}

}  // namespace promptiqa
