// Matrix products: linear layers and batched matmul.
// Surprising choice: activation and residual are fused into the product when nothing is recorded, and are
// separate ops when something is; the result is the same function.
#pragma once

#include <cstdint>
#include <functional>

#include <promptiqa/core/context.hpp>

namespace promptiqa {

/// A weight laid out once for the products of one kernel table. Owned by whoever owns the weight.
template <class T>
class PackedMatrix {
 public:
  PackedMatrix() = default;

  /// Lays out op(b), (k, n), where b is (n, k) when `transpose_b` (a Linear's weight) and (k, n) otherwise.
  static PackedMatrix pack(Context& ctx, const Tensor<T>& b, bool transpose_b);

  explicit operator bool() const { return static_cast<bool>(storage_); }
  PackedMatrixView view() const { return {storage_->data, k_, n_, layout_}; }
  /// True when the kernels of `ctx` understand this layout.
  bool fits(const Context& ctx) const { return storage_ && layout_ == ctx.kernels<T>().packed_layout; }

 private:
  StorageRef storage_;
  std::int64_t k_ = 0, n_ = 0;
  int layout_ = 0;
};

/// What linear() does to x W^T + bias besides: activation(...) + residual.
template <class T>
struct LinearEpilogue {
  Activation activation = Activation::none;
  const Tensor<T>* residual = nullptr;       // shaped as the result
  const PackedMatrix<T>* packed = nullptr;   // the same weight, packed; used when it fits the context
};

/// y = activation(x W^T + bias) + residual.  x (..., K), weight (O, K), bias (O) or empty -> y (..., O).
/// Throws ShapeError on mismatching shapes.
template <class T>
Tensor<T> linear(Context& ctx, const Tensor<T>& x, const Tensor<T>& weight, const Tensor<accumulate_t<T>>& bias,
                 const LinearEpilogue<T>& epilogue = {});

/// alpha * op(a) op(b) for each batch entry.  a (..., m, k) or (..., k, m) when transposed, b (..., k, n) or
/// (..., n, k); equal leading dimensions, or b of rank 2, shared by all. -> (..., m, n). Throws ShapeError.
template <class T>
Tensor<T> matmul(Context& ctx, const Tensor<T>& a, const Tensor<T>& b, bool transpose_a, bool transpose_b,
                 double alpha);

/// a^T b for a (K, m) and b (K, n), summed over `rows` rows of both at a time; after each block used(begin, end) is
/// told which rows will not be read again, so that weights in a mapped file need not be in memory at once. For
/// inference: no tape may record. Throws ShapeError.
template <class T>
Tensor<T> matmul_by_rows(Context& ctx, const Tensor<T>& a, const Tensor<T>& b, std::int64_t rows,
                         const std::function<void(std::int64_t begin, std::int64_t end)>& used);

}  // namespace promptiqa

#if PROMPTIQA_WITH_BODIES
#include <promptiqa/ops/linear.ipp>
#endif
