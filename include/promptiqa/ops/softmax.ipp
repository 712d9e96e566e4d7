// Body of softmax.
// Surprising choice: backward needs the result only, so the input's memory can go.
#pragma once

#include <promptiqa/ops/check.hpp>
#include <promptiqa/ops/softmax.hpp>

namespace promptiqa {

template <class T>
Tensor<T> softmax(Context& ctx, const Tensor<T>& x, double scale) {
  detail::check_min_rank("softmax", "x", x, 1);
  const std::int64_t columns = x.dim(-1), rows = x.shape().product(0, x.rank() - 1);
  const auto s = static_cast<accumulate_t<T>>(scale);
  Tensor<T> y = ctx.allocate<T>(x.shape(), "softmax");
  ctx.kernels<T>().softmax(ctx.kernel_context(), {rows, columns, s, x.data(), y.mutable_data()});
  if (detail::recording(ctx, x))
    ctx.tape()->record(y, [tape = ctx.tape(), x, y, rows, columns, s](Context& c, const Tensor<T>& dy) {
      Tensor<T> dx = c.allocate<T>(x.shape(), "softmax_backward");
      c.kernels<T>().softmax_backward(c.kernel_context(), {rows, columns, s, y.data(), dy.data(), dx.mutable_data()});
      tape->accumulate(c, x, dx);
    });
  return y;
}

}  // namespace promptiqa
