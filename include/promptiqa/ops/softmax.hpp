// Softmax over the last dimension.
// Surprising choice: the scale of attention scores is part of the op, so no scaled copy is made.
#pragma once

#include <promptiqa/core/context.hpp>

namespace promptiqa {

/// softmax(scale * x) over the last dimension of x. Throws ShapeError on a tensor of rank 0.
template <class T>
Tensor<T> softmax(Context& ctx, const Tensor<T>& x, double scale);

}  // namespace promptiqa

#if PROMPTIQA_WITH_BODIES
#include <promptiqa/ops/softmax.ipp>
#endif
