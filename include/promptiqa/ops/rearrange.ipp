// Bodies of the rearranging ops.
// Surprising choice: concat and slice are the same strided row copy, run one way or the other.
#pragma once

#include <vector>

#include <promptiqa/ops/check.hpp>
#include <promptiqa/ops/rearrange.hpp>

namespace promptiqa {

namespace detail {

template <class T>
Tensor<T> permute_plain(Context& ctx, const char* op, const Tensor<T>& x, const int* order) {
  PermuteArgs<T> args{};
  Shape shape;
  args.rank = x.rank();
  for (int i = 0; i < x.rank(); ++i) {
    args.dims[i] = x.dim(i);
    args.order[i] = order[i];
    shape.push_back(x.dim(order[i]));
  }
  Tensor<T> y = ctx.allocate<T>(shape, op);
  args.x = x.data();
  args.y = y.mutable_data();
  ctx.kernels<T>().permute(ctx.kernel_context(), args);
  return y;
}

// Copies x, (outer, from, inner), into y, (outer, to, inner), so that x's entry a becomes y's entry a + shift:
// the part of x that falls outside y is dropped, the part of y that x does not reach is left alone.
template <class T>
void copy_along(Context& ctx, const Tensor<T>& x, Tensor<T>& y, std::int64_t outer, std::int64_t from, std::int64_t to,
                std::int64_t inner, std::int64_t shift) {
  const std::int64_t x_begin = std::max<std::int64_t>(0, -shift), y_begin = std::max<std::int64_t>(0, shift);
  const std::int64_t count = std::min(from - x_begin, to - y_begin);
  ctx.kernels<T>().copy_rows(ctx.kernel_context(), {outer, count * inner, from * inner, to * inner,
                                                    x.data() + x_begin * inner, y.mutable_data() + y_begin * inner});
}

}  // namespace detail

template <class T>
Tensor<T> permute(Context& ctx, const Tensor<T>& x, std::span<const int> order) {
  detail::check_present("permute", "x", x);
  int inverse[Shape::max_rank];
  unsigned seen = 0;
  bool valid = static_cast<int>(order.size()) == x.rank();
  for (int i = 0; valid && i < x.rank(); ++i) {
    const int from = order[static_cast<std::size_t>(i)];
    valid = from >= 0 && from < x.rank();
    if (valid) seen |= 1u << from, inverse[from] = i;
  }
  if (!valid || seen != (1u << x.rank()) - 1) {
    std::string got;
    for (int from : order) got += (got.empty() ? "" : ", ") + std::to_string(from);
    detail::shape_error(
        "permute", "order must be a permutation of the dimensions of x " + x.shape().str() + ", got (" + got + ")");
  }
  Tensor<T> y = detail::permute_plain(ctx, "permute", x, order.data());
  if (detail::recording(ctx, x)) {
    std::array<int, Shape::max_rank> back{};
    std::copy(inverse, inverse + x.rank(), back.begin());
    ctx.tape()->record(y, [tape = ctx.tape(), x, back](Context& c, const Tensor<T>& dy) {
      tape->accumulate(c, x, detail::permute_plain(c, "permute_backward", dy, back.data()));
    });
  }
  return y;
}

template <class T>
Tensor<T> transpose(Context& ctx, const Tensor<T>& x) {
  detail::check_min_rank("transpose", "x", x, 2);
  int order[Shape::max_rank];
  for (int i = 0; i < x.rank(); ++i) order[i] = i;
  std::swap(order[x.rank() - 1], order[x.rank() - 2]);
  return permute(ctx, x, std::span<const int>(order, static_cast<std::size_t>(x.rank())));
}

template <class T>
Tensor<T> concat(Context& ctx, std::span<const Tensor<T>> parts, int axis) {
  if (parts.empty()) detail::shape_error("concat", "parts must be at least one tensor, got none");
  detail::check_present("concat", "tensor 0", parts[0]);
  axis = detail::check_axis("concat", parts[0].shape(), axis);
  Shape shape = parts[0].shape();
  std::int64_t total = 0;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    Shape expected = shape;
    if (parts[i] && parts[i].rank() == shape.rank()) expected.set(axis, parts[i].dim(axis));
    detail::check_shape("concat", ("tensor " + std::to_string(i)).c_str(), parts[i], expected);
    total += parts[i].dim(axis);
  }
  shape.set(axis, total);
  const std::int64_t outer = shape.product(0, axis), inner = shape.product(axis + 1, shape.rank());
  Tensor<T> y = ctx.allocate<T>(shape, "concat");
  std::int64_t at = 0;
  bool record = false;
  for (const Tensor<T>& part : parts) {
    detail::copy_along(ctx, part, y, outer, part.dim(axis), total, inner, at);
    at += part.dim(axis);
    record = record || detail::recording(ctx, part);
  }
  if (record)
    ctx.tape()->record(y, [tape = ctx.tape(), inputs = std::vector<Tensor<T>>(parts.begin(), parts.end()), axis, outer,
                           total, inner](Context& c, const Tensor<T>& dy) {
      std::int64_t offset = 0;
      for (const Tensor<T>& input : inputs) {
        if (tape->tracks(input)) {
          Tensor<T> d = c.allocate<T>(input.shape(), "concat_backward");
          detail::copy_along(c, dy, d, outer, total, input.dim(axis), inner, -offset);
          tape->accumulate(c, input, d);
        }
        offset += input.dim(axis);
      }
    });
  return y;
}

template <class T>
Tensor<T> slice(Context& ctx, const Tensor<T>& x, int axis, std::int64_t begin, std::int64_t end) {
  detail::check_present("slice", "x", x);
  axis = detail::check_axis("slice", x.shape(), axis);
  const std::int64_t size = x.dim(axis);
  if (begin < 0 || end < begin || end > size)
    detail::shape_error("slice", "begin and end must be inside dimension " + std::to_string(axis) + " of x " +
                                     x.shape().str() + ", got [" + std::to_string(begin) + ", " + std::to_string(end) +
                                     ")");
  Shape shape = x.shape();
  shape.set(axis, end - begin);
  const std::int64_t outer = shape.product(0, axis), inner = shape.product(axis + 1, shape.rank());
  Tensor<T> y = ctx.allocate<T>(shape, "slice");
  detail::copy_along(ctx, x, y, outer, size, end - begin, inner, -begin);
  if (detail::recording(ctx, x))
    ctx.tape()->record(y, [tape = ctx.tape(), x, outer, size, inner, begin, end](Context& c, const Tensor<T>& dy) {
      Tensor<T> dx = c.zeros<T>(x.shape(), "slice_backward");
      detail::copy_along(c, dy, dx, outer, end - begin, size, inner, begin);
      tape->accumulate(c, x, dx);
    });
  return y;
}

template <class T>
Tensor<T> mean(Context& ctx, const Tensor<T>& x, int axis) {
  detail::check_present("mean", "x", x);
  axis = detail::check_axis("mean", x.shape(), axis);
  const std::int64_t size = x.dim(axis);
  if (size == 0)
    detail::shape_error("mean",
                        "dimension " + std::to_string(axis) + " of x must not be empty, got shape " + x.shape().str());
  Shape shape;
  for (int i = 0; i < x.rank(); ++i)
    if (i != axis) shape.push_back(x.dim(i));
  const std::int64_t outer = x.shape().product(0, axis), inner = x.shape().product(axis + 1, x.rank());
  const auto scale = accumulate_t<T>(1) / static_cast<accumulate_t<T>>(size);
  Tensor<T> y = ctx.allocate<T>(shape, "mean");
  ctx.kernels<T>().reduce_sum(ctx.kernel_context(), {outer, size, inner, scale, x.data(), y.mutable_data()});
  if (detail::recording(ctx, x))
    ctx.tape()->record(y, [tape = ctx.tape(), x, outer, size, inner, scale](Context& c, const Tensor<T>& dy) {
      Tensor<T> dx = c.allocate<T>(x.shape(), "mean_backward");
      c.kernels<T>().expand(c.kernel_context(), {outer, size, inner, scale, dy.data(), dx.mutable_data()});
      tape->accumulate(c, x, dx);
    });
  return y;
}

template <class T>
Tensor<T> expand(Context& ctx, const Tensor<T>& x, int axis, std::int64_t count) {
  detail::check_present("expand", "x", x);
  axis = detail::check_axis("expand", x.shape(), axis);
  if (x.dim(axis) != 1 || count < 1)
    detail::shape_error("expand", "dimension " + std::to_string(axis) + " of x " + x.shape().str() +
                                      " must be 1 and the count at least 1, got count " + std::to_string(count));
  Shape shape = x.shape();
  shape.set(axis, count);
  const std::int64_t outer = x.shape().product(0, axis), inner = x.shape().product(axis + 1, x.rank());
  Tensor<T> y = ctx.allocate<T>(shape, "expand");
  ctx.kernels<T>().expand(ctx.kernel_context(), {outer, count, inner, accumulate_t<T>(1), x.data(), y.mutable_data()});
  if (detail::recording(ctx, x))
    ctx.tape()->record(y, [tape = ctx.tape(), x, outer, count, inner](Context& c, const Tensor<T>& dy) {
      Tensor<T> dx = c.allocate<T>(x.shape(), "expand_backward");
      c.kernels<T>().reduce_sum(c.kernel_context(),
                                {outer, count, inner, accumulate_t<T>(1), dy.data(), dx.mutable_data()});
      tape->accumulate(c, x, dx);
    });
  return y;
}

template <class T>
Tensor<T> index_select(Context& ctx, const Tensor<T>& x, int axis, std::span<const std::int64_t> indices) {
  detail::check_present("index_select", "x", x);
  axis = detail::check_axis("index_select", x.shape(), axis);
  const std::int64_t size = x.dim(axis), count = static_cast<std::int64_t>(indices.size());
  for (std::int64_t index : indices)
    if (index < 0 || index >= size)
      detail::shape_error("index_select", "index " + std::to_string(index) + " is out of range for dimension " +
                                              std::to_string(axis) + " of x " + x.shape().str());
  Shape shape = x.shape();
  shape.set(axis, count);
  const std::int64_t outer = shape.product(0, axis), inner = shape.product(axis + 1, shape.rank());
  Tensor<T> y = ctx.allocate<T>(shape, "index_select");
  ctx.kernels<T>().index_select(ctx.kernel_context(),
                                {outer, size, inner, count, indices.data(), x.data(), y.mutable_data()});
  if (detail::recording(ctx, x))
    ctx.tape()->record(y, [tape = ctx.tape(), x, picked = std::vector<std::int64_t>(indices.begin(), indices.end()),
                           outer, size, inner](Context& c, const Tensor<T>& dy) {
      Tensor<T> dx = c.allocate<T>(x.shape(), "index_select_backward");
      c.kernels<T>().index_select_backward(
          c.kernel_context(),
          {outer, size, inner, static_cast<std::int64_t>(picked.size()), picked.data(), dy.data(), dx.mutable_data()});
      tape->accumulate(c, x, dx);
    });
  return y;
}

}  // namespace promptiqa
