// Bodies of the norms.
// Surprising choice: the row statistics are computed and kept only when something is recorded.
#pragma once

#include <cmath>

#include <promptiqa/ops/check.hpp>
#include <promptiqa/ops/norm.hpp>

namespace promptiqa {

namespace detail {

inline void check_eps(const char* op, double eps) {
  if (!(eps > 0) || !std::isfinite(eps)) shape_error(op, "eps must be positive and finite, got " + std::to_string(eps));
}

}  // namespace detail

template <class T>
Tensor<T> layer_norm(Context& ctx, const Tensor<T>& x, const Tensor<accumulate_t<T>>& weight,
                     const Tensor<accumulate_t<T>>& bias, double eps) {
  using A = accumulate_t<T>;
  detail::check_min_rank("layer_norm", "x", x, 1);
  const std::int64_t columns = x.dim(-1), rows = x.shape().product(0, x.rank() - 1);
  detail::check_numel("layer_norm", "weight", weight, columns);
  detail::check_numel("layer_norm", "bias", bias, columns);
  detail::check_eps("layer_norm", eps);
  const bool record = detail::recording(ctx, x, weight, bias);
  Tensor<T> y = ctx.allocate<T>(x.shape(), "layer_norm");
  Tensor<A> mean, rstd;
  if (record) mean = ctx.allocate<A>(Shape{rows}, "layer_norm"), rstd = ctx.allocate<A>(Shape{rows}, "layer_norm");
  ctx.kernels<T>().layer_norm(
      ctx.kernel_context(), {rows, columns, static_cast<A>(eps), x.data(), weight.data(), bias.data(), y.mutable_data(),
                             mean.mutable_data(), rstd.mutable_data()});
  if (record)
    ctx.tape()->record(
        y, [tape = ctx.tape(), x, weight, bias, mean, rstd, rows, columns](Context& c, const Tensor<T>& dy) {
          const bool parameters = tape->tracks(weight) || tape->tracks(bias);
          Tensor<T> dx;
          Tensor<A> dw, db;
          if (tape->tracks(x)) dx = c.allocate<T>(x.shape(), "layer_norm_backward");
          if (parameters)
            dw = c.allocate<A>(weight.shape(), "layer_norm_backward"),
            db = c.allocate<A>(bias.shape(), "layer_norm_backward");
          c.kernels<T>().layer_norm_backward(
              c.kernel_context(), {rows, columns, x.data(), dy.data(), weight.data(), mean.data(), rstd.data(),
                                   dx.mutable_data(), dw.mutable_data(), db.mutable_data()});
          if (dx) tape->accumulate(c, x, dx);
          if (parameters) tape->accumulate(c, weight, dw), tape->accumulate(c, bias, db);
        });
  return y;
}

namespace detail {

// Both modes: `running` holds mutable pointers that only training writes through.
template <class T>
Tensor<T> batch_norm(Context& ctx, const char* op, const Tensor<T>& x, const Tensor<accumulate_t<T>>& weight,
                     const Tensor<accumulate_t<T>>& bias, accumulate_t<T>* running_mean, accumulate_t<T>* running_var,
                     double eps, double momentum, bool training) {
  using A = accumulate_t<T>;
  const std::int64_t batch = x.dim(0), channels = x.dim(1), area = x.shape().product(2, x.rank());
  check_numel(op, "weight", weight, channels);
  check_numel(op, "bias", bias, channels);
  check_eps(op, eps);
  if (!(momentum >= 0 && momentum <= 1)) shape_error(op, "momentum must be in [0, 1], got " + std::to_string(momentum));
  if (training && batch * area < 2)
    shape_error(op, "a channel must have at least 2 values to have a variance, got x " + x.shape().str());
  const bool record = recording(ctx, x, weight, bias);
  Tensor<T> y = ctx.allocate<T>(x.shape(), op);
  Tensor<A> mean, rstd;
  if (record || training) mean = ctx.allocate<A>(Shape{channels}, op), rstd = ctx.allocate<A>(Shape{channels}, op);
  ctx.kernels<T>().batch_norm(
      ctx.kernel_context(),
      {batch, channels, area, static_cast<A>(eps), static_cast<A>(momentum), training, x.data(), weight.data(),
       bias.data(), running_mean, running_var, y.mutable_data(), mean.mutable_data(), rstd.mutable_data()});
  if (record)
    ctx.tape()->record(y, [tape = ctx.tape(), x, weight, bias, mean, rstd, batch, channels, area, training](
                              Context& c, const Tensor<T>& dy) {
      const bool parameters = tape->tracks(weight) || tape->tracks(bias);
      Tensor<T> dx;
      Tensor<A> dw, db;
      if (tape->tracks(x)) dx = c.allocate<T>(x.shape(), "batch_norm_backward");
      if (parameters)
        dw = c.allocate<A>(weight.shape(), "batch_norm_backward"),
        db = c.allocate<A>(bias.shape(), "batch_norm_backward");
      c.kernels<T>().batch_norm_backward(
          c.kernel_context(), {batch, channels, area, training, x.data(), dy.data(), weight.data(), mean.data(),
                               rstd.data(), dx.mutable_data(), dw.mutable_data(), db.mutable_data()});
      if (dx) tape->accumulate(c, x, dx);
      if (parameters) tape->accumulate(c, weight, dw), tape->accumulate(c, bias, db);
    });
  return y;
}

}  // namespace detail

template <class T>
Tensor<T> batch_norm_training(Context& ctx, const Tensor<T>& x, const Tensor<accumulate_t<T>>& weight,
                              const Tensor<accumulate_t<T>>& bias, Tensor<accumulate_t<T>>& running_mean,
                              Tensor<accumulate_t<T>>& running_var, double eps, double momentum) {
  detail::check_min_rank("batch_norm_training", "x", x, 2);
  detail::check_numel("batch_norm_training", "running_mean", running_mean, x.dim(1));
  detail::check_numel("batch_norm_training", "running_var", running_var, x.dim(1));
  return detail::batch_norm(ctx, "batch_norm_training", x, weight, bias, running_mean.mutable_data(),
                            running_var.mutable_data(), eps, momentum, true);
}

template <class T>
Tensor<T> batch_norm_inference(Context& ctx, const Tensor<T>& x, const Tensor<accumulate_t<T>>& weight,
                               const Tensor<accumulate_t<T>>& bias, const Tensor<accumulate_t<T>>& running_mean,
                               const Tensor<accumulate_t<T>>& running_var, double eps) {
  using A = accumulate_t<T>;
  detail::check_min_rank("batch_norm_inference", "x", x, 2);
  detail::check_numel("batch_norm_inference", "running_mean", running_mean, x.dim(1));
  detail::check_numel("batch_norm_inference", "running_var", running_var, x.dim(1));
  return detail::batch_norm(ctx, "batch_norm_inference", x, weight, bias, const_cast<A*>(running_mean.data()),
                            const_cast<A*>(running_var.data()), eps, 0, false);
}

}  // namespace promptiqa
