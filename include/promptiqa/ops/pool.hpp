// Average pooling.
// Surprising choice: stride equals the window and incomplete windows are dropped, the only form the model has.
#pragma once

#include <promptiqa/core/context.hpp>

namespace promptiqa {

/// Mean over kernel x kernel windows.  x (B, C, H, W) -> (B, C, H / kernel, W / kernel), rounded down.
/// Throws ShapeError when the window does not fit.
template <class T>
Tensor<T> avg_pool2d(Context& ctx, const Tensor<T>& x, std::int64_t kernel);

}  // namespace promptiqa

#if PROMPTIQA_WITH_BODIES
#include <promptiqa/ops/pool.ipp>
#endif
