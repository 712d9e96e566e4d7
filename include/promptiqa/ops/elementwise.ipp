// Bodies of the element-by-element ops.
// Surprising choice: the gradient of a broadcast operand is summed by one reduction per stretched dimension.
#pragma once

#include <promptiqa/ops/check.hpp>
#include <promptiqa/ops/elementwise.hpp>

namespace promptiqa {

namespace detail {

template <class T>
Tensor<T> unary(Context& ctx, const char* op, UnaryKind kind, const Tensor<T>& x, double alpha, double beta) {
  check_present(op, "x", x);
  using A = accumulate_t<T>;
  Tensor<T> y = ctx.allocate<T>(x.shape(), op);
  ctx.kernels<T>().unary(ctx.kernel_context(),
                         {kind, x.numel(), static_cast<A>(alpha), static_cast<A>(beta), x.data(), y.mutable_data()});
  if (recording(ctx, x)) {
    const bool needs_x = kind == UnaryKind::relu || kind == UnaryKind::gelu;
    const bool needs_y = kind == UnaryKind::sigmoid;
    ctx.tape()->record(y, [tape = ctx.tape(), kind, alpha, input = x, saved_x = needs_x ? x : Tensor<T>(),
                           saved_y = needs_y ? y : Tensor<T>()](Context& c, const Tensor<T>& dy) {
      Tensor<T> dx = c.allocate<T>(input.shape(), "unary_backward");
      c.kernels<T>().unary_backward(c.kernel_context(), {kind, dy.numel(), static_cast<A>(alpha), saved_x.data(),
                                                         saved_y.data(), dy.data(), dx.mutable_data()});
      tape->accumulate(c, input, dx);
    });
  }
  return y;
}

inline Shape broadcast_shape(const char* op, const Shape& a, const Shape& b) {
  const int rank = std::max(a.rank(), b.rank());
  Shape y;
  for (int i = 0; i < rank; ++i) {
    const std::int64_t da = i < rank - a.rank() ? 1 : a[i - (rank - a.rank())];
    const std::int64_t db = i < rank - b.rank() ? 1 : b[i - (rank - b.rank())];
    if (da != db && da != 1 && db != 1) shape_error(op, "shapes " + a.str() + " and " + b.str() + " do not broadcast");
    y.push_back(da == 1 ? db : da);
  }
  return y;
}

// Strides of x when read with the shape y: 0 where x is stretched.
inline void broadcast_strides(const Shape& x, const Shape& y, std::int64_t* strides) {
  std::int64_t stride = 1;
  for (int i = y.rank() - 1; i >= 0; --i) {
    const int j = i - (y.rank() - x.rank());
    const std::int64_t dim = j < 0 ? 1 : x[j];
    strides[i] = dim == 1 && y[i] != 1 ? 0 : stride;
    stride *= dim;
  }
}

// Sums g, of shape `from`, down to the shape it was broadcast from.
template <class T>
Tensor<T> sum_to(Context& ctx, Tensor<T> g, const Shape& to) {
  const Shape from = g.shape();
  const int lead = from.rank() - to.rank();
  for (int i = from.rank() - 1; i >= 0; --i) {
    const std::int64_t want = i < lead ? 1 : to[i - lead];
    if (g.dim(i) == want) continue;
    Shape reduced = g.shape();
    reduced.set(i, 1);
    Tensor<T> sum = ctx.allocate<T>(reduced, "reduce_sum");
    ctx.kernels<T>().reduce_sum(ctx.kernel_context(),
                                {g.shape().product(0, i), g.dim(i), g.shape().product(i + 1, g.rank()),
                                 accumulate_t<T>(1), g.data(), sum.mutable_data()});
    g = sum;
  }
  return g.reshape(to);
}

template <class T>
Tensor<T> binary(Context& ctx, const char* op, BinaryKind kind, const Tensor<T>& a, const Tensor<T>& b) {
  check_present(op, "a", a);
  check_present(op, "b", b);
  Tensor<T> y = ctx.allocate<T>(broadcast_shape(op, a.shape(), b.shape()), op);
  const auto run = [](Context& c, BinaryKind k, const Tensor<T>& left, const Tensor<T>& right, Tensor<T>& out) {
    BinaryArgs<T> args{};
    args.kind = k;
    args.rank = out.rank();
    for (int i = 0; i < out.rank(); ++i) args.dims[i] = out.dim(i);
    broadcast_strides(left.shape(), out.shape(), args.a_strides);
    broadcast_strides(right.shape(), out.shape(), args.b_strides);
    args.a = left.data(), args.b = right.data(), args.y = out.mutable_data();
    c.kernels<T>().binary(c.kernel_context(), args);
  };
  run(ctx, kind, a, b, y);
  if (recording(ctx, a, b)) {
    ctx.tape()->record(y, [tape = ctx.tape(), kind, a, b, run](Context& c, const Tensor<T>& dy) {
      const auto gradient = [&](const Tensor<T>& input, const Tensor<T>& other, bool negate) {
        if (!tape->tracks(input)) return;
        Tensor<T> g = dy;
        if (kind == BinaryKind::multiply) {
          g = c.allocate<T>(dy.shape(), "binary_backward");
          run(c, BinaryKind::multiply, dy, other, g);
        }
        g = sum_to(c, g, input.shape());
        if (negate) {
          Tensor<T> n = c.allocate<T>(g.shape(), "binary_backward");
          c.kernels<T>().unary(c.kernel_context(), {UnaryKind::scale_shift, g.numel(), accumulate_t<T>(-1),
                                                    accumulate_t<T>(0), g.data(), n.mutable_data()});
          g = n;
        }
        tape->accumulate(c, input, g);
      };
      gradient(a, b, false);
      gradient(b, a, kind == BinaryKind::subtract);
    });
  }
  return y;
}

}  // namespace detail

template <class T>
Tensor<T> relu(Context& ctx, const Tensor<T>& x) {
  return detail::unary(ctx, "relu", UnaryKind::relu, x, 0, 0);
}

template <class T>
Tensor<T> gelu(Context& ctx, const Tensor<T>& x) {
  return detail::unary(ctx, "gelu", UnaryKind::gelu, x, 0, 0);
}

template <class T>
Tensor<T> sigmoid(Context& ctx, const Tensor<T>& x) {
  return detail::unary(ctx, "sigmoid", UnaryKind::sigmoid, x, 0, 0);
}

template <class T>
Tensor<T> scale_shift(Context& ctx, const Tensor<T>& x, double alpha, double beta) {
  return detail::unary(ctx, "scale_shift", UnaryKind::scale_shift, x, alpha, beta);
}

template <class T>
Tensor<T> add(Context& ctx, const Tensor<T>& a, const Tensor<T>& b) {
  return detail::binary(ctx, "add", BinaryKind::add, a, b);
}

template <class T>
Tensor<T> subtract(Context& ctx, const Tensor<T>& a, const Tensor<T>& b) {
  return detail::binary(ctx, "subtract", BinaryKind::subtract, a, b);
}

template <class T>
Tensor<T> multiply(Context& ctx, const Tensor<T>& a, const Tensor<T>& b) {
  return detail::binary(ctx, "multiply", BinaryKind::multiply, a, b);
}

template <class T>
Tensor<T> dropout(Context& ctx, const Tensor<T>& x, double p, bool training) {
  detail::check_present("dropout", "x", x);
  if (!(p >= 0 && p < 1)) detail::shape_error("dropout", "p must be in [0, 1), got " + std::to_string(p));
  if (!training || p == 0) return x;
  const std::uint64_t key = ctx.next_random_key();
  Tensor<T> y = ctx.allocate<T>(x.shape(), "dropout");
  ctx.kernels<T>().dropout(ctx.kernel_context(), {x.numel(), p, key, x.data(), y.mutable_data()});
  if (detail::recording(ctx, x))
    ctx.tape()->record(y, [tape = ctx.tape(), x, p, key](Context& c, const Tensor<T>& dy) {
      Tensor<T> dx = c.allocate<T>(x.shape(), "dropout_backward");
      c.kernels<T>().dropout(c.kernel_context(), {dy.numel(), p, key, dy.data(), dx.mutable_data()});
      tape->accumulate(c, x, dx);
    });
  return y;
}

template <class T>
Tensor<T> l1_loss(Context& ctx, const Tensor<T>& prediction, const Tensor<T>& target) {
  detail::check_present("l1_loss", "prediction", prediction);
  detail::check_shape("l1_loss", "target", target, prediction.shape());
  if (prediction.numel() == 0)
    detail::shape_error("l1_loss", "prediction must have elements, got shape " + prediction.shape().str());
  Tensor<T> loss = ctx.allocate<T>(Shape{1}, "l1_loss");
  ctx.kernels<T>().l1_loss(ctx.kernel_context(),
                           {prediction.numel(), prediction.data(), target.data(), loss.mutable_data()});
  if (detail::recording(ctx, prediction))
    ctx.tape()->record(loss, [tape = ctx.tape(), prediction, target](Context& c, const Tensor<T>& dloss) {
      Tensor<T> d = c.allocate<T>(prediction.shape(), "l1_loss_backward");
      c.kernels<T>().l1_loss_backward(
          c.kernel_context(), {prediction.numel(), prediction.data(), target.data(), dloss.data(), d.mutable_data()});
      tape->accumulate(c, prediction, d);
    });
  return loss;
}

}  // namespace promptiqa
