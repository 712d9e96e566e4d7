// Layer norm and batch norm.
// Surprising choice: eps, momentum and train/eval have no defaults, because the reference mixes 1e-5 and 1e-6
// (model.md sections 2 and 3) and a default would hide the mistake.
#pragma once

#include <promptiqa/core/context.hpp>

namespace promptiqa {

/// (x - mean) / sqrt(var + eps) * weight + bias over the last dimension; the variance is the biased one.
/// x (..., C), weight and bias (C). Throws ShapeError, also unless eps is positive.
template <class T>
Tensor<T> layer_norm(Context& ctx, const Tensor<T>& x, const Tensor<accumulate_t<T>>& weight,
                     const Tensor<accumulate_t<T>>& bias, double eps);

/// Batch norm with the statistics of this batch; x (B, C, ...), the others (C). The running statistics become
/// (1 - momentum) * running + momentum * batch, the variance unbiased. Throws ShapeError, also when a channel has
/// a single value, eps is not positive or momentum not in [0, 1].
template <class T>
Tensor<T> batch_norm_training(Context& ctx, const Tensor<T>& x, const Tensor<accumulate_t<T>>& weight,
                              const Tensor<accumulate_t<T>>& bias, Tensor<accumulate_t<T>>& running_mean,
                              Tensor<accumulate_t<T>>& running_var, double eps, double momentum);

/// Batch norm with the running statistics. Throws ShapeError, also unless eps is positive.
template <class T>
Tensor<T> batch_norm_inference(Context& ctx, const Tensor<T>& x, const Tensor<accumulate_t<T>>& weight,
                               const Tensor<accumulate_t<T>>& bias, const Tensor<accumulate_t<T>>& running_mean,
                               const Tensor<accumulate_t<T>>& running_var, double eps);

}  // namespace promptiqa

#if PROMPTIQA_WITH_BODIES
#include <promptiqa/ops/norm.ipp>
#endif
