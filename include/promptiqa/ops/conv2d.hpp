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

/// A convolution's weight laid out once for inference with one kernel table.
template <class T>
class PackedConv2d {
 public:
  PackedConv2d() = default;

  /// Lays out weight (O, C, kh, kw), its output channels multiplied by scale (O) unless that is empty.
  /// Throws ShapeError.
  static PackedConv2d pack(Context& ctx, const Tensor<T>& weight, const Tensor<accumulate_t<T>>& scale);

  explicit operator bool() const { return static_cast<bool>(storage_); }
  const void* data() const { return storage_->data; }
  const Shape& shape() const { return shape_; }
  /// True when the kernels of `ctx` understand this layout.
  bool fits(const Context& ctx) const { return storage_ && layout_ == ctx.kernels<T>().packed_layout; }

 private:
  StorageRef storage_;
  Shape shape_;
  int layout_ = 0;
};

/// What conv2d() does besides, at inference: activation(x * weight + bias + residual).
template <class T>
struct Conv2dEpilogue {
  Activation activation = Activation::none;  // none or relu
  const Tensor<T>* residual = nullptr;       // shaped as the result
};

/// x (B, C, H, W), weight (O, C, kh, kw), bias (O) or empty -> (B, O, H', W') with
/// H' = (H + 2 pad_h - kh) / stride_h + 1. Throws ShapeError, also when the kernel does not fit the padded input.
template <class T>
Tensor<T> conv2d(Context& ctx, const Tensor<T>& x, const Tensor<T>& weight, const Tensor<accumulate_t<T>>& bias,
                 const Conv2dOptions& options);

/// The same from a packed weight that fits the context, with an epilogue. For inference: throws Error when a tape
/// records one of the operands. Throws ShapeError.
template <class T>
Tensor<T> conv2d(Context& ctx, const Tensor<T>& x, const PackedConv2d<T>& weight, const Tensor<accumulate_t<T>>& bias,
                 const Conv2dOptions& options, const Conv2dEpilogue<T>& epilogue = {});

}  // namespace promptiqa

#if PROMPTIQA_WITH_BODIES
#include <promptiqa/ops/conv2d.ipp>
#endif
