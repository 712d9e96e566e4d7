// PromptEncoder: image features and scores of the n pairs to the fused prompt F_AC (model.md section 3).
// Surprising choice: image features come in ready, so new scores for the same images never touch the backbone.
#pragma once

#include <string>
#include <vector>

#include <promptiqa/model/config.hpp>
#include <promptiqa/model/pass.hpp>
#include <promptiqa/nn/transformer_block.hpp>

namespace promptiqa {

template <class T>
struct PromptEncoder {
  std::int64_t width = 0;                    // M
  bool learned_token = false;
  Linear<T> score_token;                     // (M, 1); only when learned
  std::vector<TransformerBlock<T>> pair_blocks, prompt_blocks;
  Linear<T> mlp0, mlp2;

  explicit PromptEncoder(const ModelConfig& c)
      : width(c.prompt_dim), learned_token(c.score_token == "learned"), score_token(1, c.prompt_dim),
        mlp0(c.prompt_dim, c.prompt_dim / 2), mlp2(c.prompt_dim / 2, c.prompt_dim) {
    const auto plain = TransformerBlock<T>::plain(c.prompt_dim, static_cast<int>(c.prompt_heads), 4);
    pair_blocks.assign(static_cast<std::size_t>(c.ip_depth), plain);
    prompt_blocks.assign(static_cast<std::size_t>(c.pf_depth), plain);
  }

  /// One prompt feature F_P per pair.  image_feature (n, M), score (n, 1) in [0, 1] -> (n, M). (Paper section 3.3.)
  Tensor<T> pairs(Context& ctx, const Tensor<T>& image_feature, const Tensor<T>& score, const Pass<T>& pass) const {
    const std::int64_t n = image_feature.dim(0);
    // A constant token is invisible to every LayerNorm that follows: the official model only shifts by score / 2.
    const Tensor<T> token = learned_token ? score_token(ctx, score) : expand(ctx, score, 1, width);
    Tensor<T> x = concat(ctx, {image_feature.reshape({n, 1, width}), token.reshape({n, 1, width})}, 1);
    for (const TransformerBlock<T>& block : pair_blocks) x = block(ctx, x);
    pass.note("i_p_fusion", x);
    x = mlp2(ctx, mlp0(ctx, mean(ctx, x, 1), {Activation::gelu, nullptr, nullptr}));
    pass.note("prompt_feature", x);
    return x;
  }

  /// ISPP fusion.  (B, n, M) -> F_AC (B, n, M); the order of the pairs does not matter. (Paper section 3.4.)
  Tensor<T> fuse(Context& ctx, Tensor<T> x, const Pass<T>& pass) const {
    for (const TransformerBlock<T>& block : prompt_blocks) x = block(ctx, x);
    pass.note("prompt_fusion", x);
    return x;
  }

  void pack(Context& ctx, const WeightReleased& released) {
    for (auto& block : pair_blocks) block.pack(ctx, released);
    for (auto& block : prompt_blocks) block.pack(ctx, released);
    mlp0.pack(ctx, released);
    mlp2.pack(ctx, released);
  }
  void unpack() {
    for (auto& block : pair_blocks) block.unpack();
    for (auto& block : prompt_blocks) block.unpack();
    mlp0.unpack();
    mlp2.unpack();
  }

  template <class V>
  void visit(V& v) {
    if (learned_token) score_token.visit(v, "score_token.");
    for (std::size_t i = 0; i < pair_blocks.size(); ++i)
      pair_blocks[i].visit(v, "i_p_fusion." + std::to_string(i) + ".");
    mlp0.visit(v, "mlp.0.");
    mlp2.visit(v, "mlp.2.");
    for (std::size_t i = 0; i < prompt_blocks.size(); ++i)
      prompt_blocks[i].visit(v, "prompt_fusion." + std::to_string(i) + ".");
  }
};

}  // namespace promptiqa
