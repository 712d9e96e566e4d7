// 2-D convolution (cross-correlation, as every deep-learning library means it).
// Surprising choice: stride and padding have no defaults; groups and dilation do not exist because no model here
// has them.
#pragma once

#include <promptiqa/core/context.hpp>

namespace promptiqa {

struct Conv2dOptions {
  std::int64_t stride_h, stride_w;  // >= 1
  std::int64_t pad_h, pad_w;        // >= 0, zeros

  /// The same stride and padding for height and width.
  static Conv2dOptions square(std::int64_t stride, std::int64_t padding) { return {stride, stride, padding, padding}; }
};

/// x (B, C, H, W), weight (O, C, kh, kw), bias (O) or empty -> (B, O, H', W') with
/// H' = (H + 2 pad_h - kh) / stride_h + 1. Throws ShapeError, also when the kernel does not fit the padded input.
template <class T>
Tensor<T> conv2d(Context& ctx, const Tensor<T>& x, const Tensor<T>& weight, const Tensor<accumulate_t<T>>& bias,
                 const Conv2dOptions& options);

}  // namespace promptiqa

#if PROMPTIQA_WITH_BODIES
#include <promptiqa/ops/conv2d.ipp>
#endif
