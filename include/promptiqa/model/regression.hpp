// Regression: an image feature and a fused prompt to a logit and a score (model.md section 3).
// Surprising choice: only row 0, the image's, is read out; the reference regresses all rows and drops the others.
#pragma once

#include <string>
#include <vector>

#include <promptiqa/model/config.hpp>
#include <promptiqa/model/pass.hpp>
#include <promptiqa/nn/transformer_block.hpp>

namespace promptiqa {

template <class T>
struct Regression {
  std::int64_t width = 0;
  double drop = 0;
  std::vector<TransformerBlock<T>> blocks;
  LayerNorm<T> norm;
  Linear<T> hidden, output;

  explicit Regression(const ModelConfig& c)
      : width(c.prompt_dim), drop(c.drop), norm(c.prompt_dim, 1e-5), hidden(c.prompt_dim, c.prompt_dim / 2),
        output(c.prompt_dim / 2, 1) {
    blocks.assign(static_cast<std::size_t>(c.fuse_depth),
                  TransformerBlock<T>::vit(c.prompt_dim, static_cast<int>(c.prompt_heads), 4));
  }

  /// image_feature (B, M), fused (B, n, M) -> logits (B).
  Tensor<T> operator()(Context& ctx, const Tensor<T>& image_feature, const Tensor<T>& fused,
                       const Pass<T>& pass) const {
    const std::int64_t batch = image_feature.dim(0);
    Tensor<T> x = concat(ctx, {image_feature.reshape({batch, 1, width}), fused}, 1);
    for (const TransformerBlock<T>& block : blocks) x = block(ctx, x);
    if (pass.trace) pass.note("fused_tokens", norm(ctx, x));
    x = norm(ctx, slice(ctx, x, 1, 0, 1).reshape({batch, width}));
    x = hidden(ctx, x, {Activation::relu, nullptr, nullptr});
    const Tensor<T> logit = output(ctx, dropout(ctx, x, drop, pass.training)).reshape({batch});
    pass.note("logit", logit);
    return logit;
  }

  void pack(Context& ctx, const WeightReleased& released) {
    for (auto& block : blocks) block.pack(ctx, released);
    hidden.pack(ctx, released);
    output.pack(ctx, released);
  }
  void unpack() {
    for (auto& block : blocks) block.unpack();
    hidden.unpack();
    output.unpack();
  }

  template <class V>
  void visit(V& v) {
    for (std::size_t i = 0; i < blocks.size(); ++i) blocks[i].visit(v, "blocks." + std::to_string(i) + ".");
    norm.visit(v, "norm.");
    hidden.visit(v, "score_block.0.");
    output.visit(v, "score_block.3.");
  }
};

}  // namespace promptiqa
