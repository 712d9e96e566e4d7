// Multi-head scaled dot-product attention without the matrix of scores in memory.
// Surprising choice: heads are never moved; q, k and v are read with strides where the linear layers put them.
#pragma once

#include <promptiqa/core/context.hpp>

namespace promptiqa {

/// softmax(scale * q k^T) v for each head.  q (B, Nq, H*D), k and v (B, Nk, H*D) -> (B, Nq, H*D), where a row holds
/// head 0's D values, then head 1's. Throws ShapeError, also when the width is no positive multiple of num_heads.
template <class T>
Tensor<T> attention(Context& ctx, const Tensor<T>& q, const Tensor<T>& k, const Tensor<T>& v, int num_heads,
                    double scale);

/// The same with q, k and v side by side as one linear layer gives them: qkv (B, N, 3*H*D), ordered
/// [q | k | v][head][d] (model.md section 2) -> (B, N, H*D).
template <class T>
Tensor<T> attention_qkv(Context& ctx, const Tensor<T>& qkv, int num_heads, double scale);

}  // namespace promptiqa

#if PROMPTIQA_WITH_BODIES
#include <promptiqa/ops/attention.ipp>
#endif
