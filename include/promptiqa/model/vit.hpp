// Vit: the image to patch tokens, the transformer blocks, and the taps the MALs read (model.md section 2.1-2.2).
// Surprising choice: there is no final norm and no head; the class token takes part in attention and is dropped
// from the taps.
#pragma once

#include <string>
#include <vector>

#include <promptiqa/core/tensor_list.hpp>
#include <promptiqa/model/config.hpp>
#include <promptiqa/model/pass.hpp>
#include <promptiqa/nn/transformer_block.hpp>

namespace promptiqa {

/// relu(x + bn2(conv2(relu(bn1(conv1(x)))))), 3x3, padding 1, no conv bias (compact.md).
template <class T>
struct ResidualUnit {
  ConvNormRelu<T> first, second;

  ResidualUnit() = default;
  explicit ResidualUnit(std::int64_t channels)
      : first(Conv2d<T>(channels, channels, 3, 1, 1, false)), second(first.conv) {}

  Tensor<T> operator()(Context& ctx, const Tensor<T>& x, bool training) const {
    return second(ctx, first(ctx, x, training), training, &x);
  }

  void pack(Context& ctx) {
    first.pack(ctx);
    second.pack(ctx);
  }
  void unpack() {
    first.unpack();
    second.unpack();
  }

  template <class V>
  void visit(V& v, const std::string& prefix) {
    first.visit(v, prefix + "conv1.", prefix + "bn1.");
    second.visit(v, prefix + "conv2.", prefix + "bn2.");
  }
};

/// relu(bn(conv 3x3 stride 2)), then one residual unit except in the first stage (compact.md).
template <class T>
struct StemStage {
  ConvNormRelu<T> entry;
  bool has_unit = false;
  ResidualUnit<T> unit;

  StemStage(std::int64_t in, std::int64_t out, bool with_unit)
      : entry(Conv2d<T>(in, out, 3, 2, 1, false)), has_unit(with_unit), unit(out) {}

  Tensor<T> operator()(Context& ctx, const Tensor<T>& x, bool training) const {
    const Tensor<T> y = entry(ctx, x, training);
    return has_unit ? unit(ctx, y, training) : y;
  }

  void pack(Context& ctx) {
    entry.pack(ctx);
    if (has_unit) unit.pack(ctx);
  }
  void unpack() {
    entry.unpack();
    unit.unpack();
  }

  template <class V>
  void visit(V& v, const std::string& prefix) {
    entry.visit(v, prefix + "conv.", prefix + "bn.");
    if (has_unit) unit.visit(v, prefix + "unit.");
  }
};

template <class T>
struct Vit {
  ModelConfig config;
  Tensor<T> cls_token, pos_embed;   // (1, 1, D) when class_token; (1, T [+ 1], D)
  Conv2d<T> patch_embed;            // stem "patch"
  std::vector<StemStage<T>> stem;   // stem "residual"
  std::vector<TransformerBlock<T>> blocks;

  explicit Vit(const ModelConfig& c) : config(c) {
    if (c.stem == "patch") {
      patch_embed = Conv2d<T>(c.in_chans, c.vit_dim, c.patch_size, c.patch_size, 0, true);
    } else {
      std::int64_t in = c.in_chans;
      for (std::size_t i = 0; i < c.stem_channels.size(); ++i) {
        stem.emplace_back(in, c.stem_channels[i], i > 0);
        in = c.stem_channels[i];
      }
    }
    for (std::int64_t i = 0; i < c.vit_depth; ++i)
      blocks.push_back(TransformerBlock<T>::vit(c.vit_dim, static_cast<int>(c.vit_heads), c.mlp_ratio));
  }

  /// image (B, 3, S, S) in [-1, 1] -> one (B, T, D) per tap.
  TensorList<T> operator()(Context& ctx, const Tensor<T>& image, const Pass<T>& pass) const {
    const std::int64_t batch = image.dim(0), tokens = config.tokens(), width = config.vit_dim;
    Tensor<T> x;
    if (config.stem == "patch") {
      x = patch_embed(ctx, image);
    } else {
      x = image;
      for (const StemStage<T>& stage : stem) x = stage(ctx, x, pass.training);
    }
    x = transpose(ctx, x.reshape({batch, width, tokens}));
    pass.note("vit.patch_embed", x);
    if (config.class_token) x = concat(ctx, {expand(ctx, cls_token, 0, batch), x}, 1);
    x = add(ctx, x, pos_embed);
    pass.note("vit.embed", x);
    TensorList<T> taps;
    for (std::size_t i = 0; i < blocks.size() && taps.size() < config.taps.size(); ++i) {
      x = repeatable(ctx, pass, [block = &blocks[i], x](Context& c) { return (*block)(c, x); });
      if (config.taps[taps.size()] != static_cast<std::int64_t>(i)) continue;
      pass.note("vit.block" + std::to_string(i), x);
      taps.push_back(config.class_token ? slice(ctx, x, 1, 1, tokens + 1) : x);
    }
    return taps;
  }

  void pack(Context& ctx, const WeightReleased& released) {
    if (config.stem == "patch") patch_embed.pack(ctx);
    for (StemStage<T>& stage : stem) stage.pack(ctx);
    for (TransformerBlock<T>& block : blocks) block.pack(ctx, released);
  }
  void unpack() {
    patch_embed.unpack();
    for (StemStage<T>& stage : stem) stage.unpack();
    for (TransformerBlock<T>& block : blocks) block.unpack();
  }

  template <class V>
  void visit(V& v, const std::string& prefix) {
    if (config.class_token) v.tensor(prefix + "cls_token", cls_token, Shape{1, 1, config.vit_dim}, true);
    v.tensor(prefix + "pos_embed", pos_embed, Shape{1, config.tokens() + (config.class_token ? 1 : 0), config.vit_dim},
             true);
    if (config.stem == "patch") patch_embed.visit(v, prefix + "patch_embed.proj.");
    for (std::size_t i = 0; i < stem.size(); ++i)
      stem[i].visit(v, prefix + "patch_embed.proj." + std::to_string(i) + ".");
    for (std::size_t i = 0; i < blocks.size(); ++i) blocks[i].visit(v, prefix + "blocks." + std::to_string(i) + ".");
  }
};

}  // namespace promptiqa
