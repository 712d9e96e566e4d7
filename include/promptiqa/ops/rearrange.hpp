// Ops that move, join, pick or average elements.
// Surprising choice: tensors are always contiguous, so each of these is a copy; the model is written so that few
// are needed.
#pragma once

#include <initializer_list>
#include <span>

#include <promptiqa/core/context.hpp>

namespace promptiqa {

/// Reorders dimensions: dimension i of the result is dimension order[i] of x. Throws ShapeError unless `order` is
/// a permutation of 0 .. rank-1.
template <class T>
Tensor<T> permute(Context& ctx, const Tensor<T>& x, std::span<const int> order);
template <class T>
Tensor<T> permute(Context& ctx, const Tensor<T>& x, std::initializer_list<int> order) {
  return permute(ctx, x, std::span<const int>(order.begin(), order.size()));
}

/// Swaps the last two dimensions.
template <class T>
Tensor<T> transpose(Context& ctx, const Tensor<T>& x);

/// Joins tensors along `axis` (negative counts from the end). Throws ShapeError when there are none or another
/// dimension differs.
template <class T>
Tensor<T> concat(Context& ctx, std::span<const Tensor<T>> parts, int axis);
template <class T>
Tensor<T> concat(Context& ctx, std::initializer_list<Tensor<T>> parts, int axis) {
  return concat(ctx, std::span<const Tensor<T>>(parts.begin(), parts.size()), axis);
}

/// Elements [begin, end) along `axis`. Throws ShapeError when the range is not inside the dimension.
template <class T>
Tensor<T> slice(Context& ctx, const Tensor<T>& x, int axis, std::int64_t begin, std::int64_t end);

/// Mean over `axis`, which disappears. Throws ShapeError when it is empty.
template <class T>
Tensor<T> mean(Context& ctx, const Tensor<T>& x, int axis);

/// Repeats x, of size 1 along `axis`, `count` times. Throws ShapeError otherwise.
template <class T>
Tensor<T> expand(Context& ctx, const Tensor<T>& x, int axis, std::int64_t count);

/// Entries indices[j] along `axis`; an index may repeat, and its gradients then add up. Throws ShapeError when an
/// index is out of range.
template <class T>
Tensor<T> index_select(Context& ctx, const Tensor<T>& x, int axis, std::span<const std::int64_t> indices);

}  // namespace promptiqa

#if PROMPTIQA_WITH_BODIES
#include <promptiqa/ops/rearrange.ipp>
#endif
