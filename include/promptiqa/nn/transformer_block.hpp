// Pre-norm transformer block: x + attention(norm(x)), then x + mlp(norm(x)).
// Surprising choice: qkv bias and eps are arguments, because the model has both kinds (model.md sections 2 and 3):
// ViT and fusion blocks with bias and eps 1e-6, "plain" ones without bias and with eps 1e-5.
#pragma once

#include <cmath>
#include <string>

#include <promptiqa/nn/modules.hpp>

namespace promptiqa {

template <class T>
struct TransformerBlock {
  int num_heads = 1;
  LayerNorm<T> norm1, norm2;
  Linear<T> qkv, proj, fc1, fc2;

  TransformerBlock() = default;
  TransformerBlock(std::int64_t width, int heads, std::int64_t mlp_ratio, bool qkv_bias, double eps)
      : num_heads(heads), norm1(width, eps), norm2(width, eps), qkv(width, 3 * width, qkv_bias), proj(width, width),
        fc1(width, mlp_ratio * width), fc2(mlp_ratio * width, width) {}

  /// The kind of section 2.1 and of the image-prompt fusion.
  static TransformerBlock vit(std::int64_t width, int heads, std::int64_t mlp_ratio) {
    return {width, heads, mlp_ratio, true, 1e-6};
  }
  /// The kind model.md marks "plain".
  static TransformerBlock plain(std::int64_t width, int heads, std::int64_t mlp_ratio) {
    return {width, heads, mlp_ratio, false, 1e-5};
  }

  /// x (B, N, C) -> (B, N, C).
  Tensor<T> operator()(Context& ctx, const Tensor<T>& x) const {
    const double scale = 1.0 / std::sqrt(static_cast<double>(qkv.inputs / num_heads));
    const Tensor<T> mixed = attention_qkv(ctx, qkv(ctx, norm1(ctx, x)), num_heads, scale);
    const Tensor<T> y = proj(ctx, mixed, {Activation::none, &x, nullptr});
    const Tensor<T> hidden = fc1(ctx, norm2(ctx, y), {Activation::gelu, nullptr, nullptr});
    return fc2(ctx, hidden, {Activation::none, &y, nullptr});
  }

  void pack(Context& ctx, const WeightReleased& released) {
    for (Linear<T>* layer : {&qkv, &proj, &fc1, &fc2}) layer->pack(ctx, released);
  }
  void unpack() {
    for (Linear<T>* layer : {&qkv, &proj, &fc1, &fc2}) layer->unpack();
  }

  template <class V>
  void visit(V& v, const std::string& prefix) {
    norm1.visit(v, prefix + "norm1.");
    qkv.visit(v, prefix + "attn.qkv.");
    proj.visit(v, prefix + "attn.proj.");
    norm2.visit(v, prefix + "norm2.");
    fc1.visit(v, prefix + "mlp.fc1.");
    fc2.visit(v, prefix + "mlp.fc2.");
  }
};

}  // namespace promptiqa
