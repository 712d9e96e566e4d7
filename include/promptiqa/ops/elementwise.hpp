// Ops that work element by element, dropout and the L1 loss.
// Surprising choice: dropout stores no mask; the backward pass draws the same numbers again from the op's key.
#pragma once

#include <promptiqa/core/context.hpp>

namespace promptiqa {

/// max(x, 0); the gradient at 0 is 0.
template <class T>
Tensor<T> relu(Context& ctx, const Tensor<T>& x);

/// Exact GELU, x/2 (1 + erf(x / sqrt 2)) (model.md section 2).
template <class T>
Tensor<T> gelu(Context& ctx, const Tensor<T>& x);

/// 1 / (1 + exp(-x)).
template <class T>
Tensor<T> sigmoid(Context& ctx, const Tensor<T>& x);

/// alpha * x + beta.
template <class T>
Tensor<T> scale_shift(Context& ctx, const Tensor<T>& x, double alpha, double beta);

/// a + b, a - b, a * b with NumPy's broadcasting: aligned at the last dimension, 1 stretches.
/// Throws ShapeError when the shapes do not broadcast.
template <class T>
Tensor<T> add(Context& ctx, const Tensor<T>& a, const Tensor<T>& b);
template <class T>
Tensor<T> subtract(Context& ctx, const Tensor<T>& a, const Tensor<T>& b);
template <class T>
Tensor<T> multiply(Context& ctx, const Tensor<T>& a, const Tensor<T>& b);

/// In training, zeroes each element with probability p and divides the rest by 1 - p; otherwise returns x itself.
/// The mask comes from ctx's random stream. Throws ShapeError unless 0 <= p < 1.
template <class T>
Tensor<T> dropout(Context& ctx, const Tensor<T>& x, double p, bool training);

/// mean |prediction - target|, a tensor of one element (paper section 3.5; model.md section 4). The target gets no
/// gradient. Throws ShapeError when the shapes differ or are empty.
template <class T>
Tensor<T> l1_loss(Context& ctx, const Tensor<T>& prediction, const Tensor<T>& target);

}  // namespace promptiqa

#if PROMPTIQA_WITH_BODIES
#include <promptiqa/ops/elementwise.ipp>
#endif
