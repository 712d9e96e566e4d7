// Mal: "multi-view attention learning" over K maps of T tokens and width D (model.md section 2.3).
// Surprising choice: maps are kept token-major, (B, T, D), where the reference keeps them channel-major, so the
// 1x1 convolutions are Linear layers and channel attention needs no transpose. The reference's quirks stay:
// pixel attention reads K neighbouring channels of ONE map as a row, and both attentions store their result
// transposed and re-read that memory as if it had not been.
#pragma once

#include <atomic>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include <promptiqa/core/host_values.hpp>
#include <promptiqa/core/tensor_list.hpp>
#include <promptiqa/model/pass.hpp>
#include <promptiqa/nn/modules.hpp>

namespace promptiqa {

/// Self-attention of one map: gamma * softmax(q k^T) v + x, the scores not scaled (model.md section 2.3).
template <class T>
struct MapSelfAttention {
  Tensor<T> gamma;  // (1)
  Linear<T> query, key, value;

  MapSelfAttention(std::int64_t width, std::int64_t reduction)
      : query(width, width / reduction, true, true), key(width, width / reduction, true, true),
        value(width, width, true, true) {}

  /// x (B, T, D) -> (B, T, D).
  Tensor<T> operator()(Context& ctx, const Tensor<T>& x) const {
    const Tensor<T> scores = matmul(ctx, query(ctx, x), key(ctx, x), false, true, 1.0);
    const Tensor<T> mixed = matmul(ctx, softmax(ctx, scores, 1.0), value(ctx, x), false, false, 1.0);
    return add(ctx, multiply(ctx, mixed, gamma), x);
  }

  template <class F>
  void each_linear(F&& f) {
    f(query), f(key), f(value);
  }

  template <class V>
  void visit(V& v, const std::string& prefix) {
    v.tensor(prefix + "gamma", gamma, Shape{1}, true);
    query.visit(v, prefix + "qConv.");
    key.visit(v, prefix + "kConv.");
    value.visit(v, prefix + "vConv.");
  }
};

/// The reference's Attention_Block: single-head attention over R rows of width C whose result, (R, C), is
/// transposed to (C, R) and its memory re-read as (R, C) before the residual (model.md section 2.3, "the trap").
template <class T>
struct FlatAttention {
  std::int64_t width = 0;
  double drop = 0;
  Linear<T> query, key, value;

  FlatAttention(std::int64_t w, double dropout_p) : width(w), drop(dropout_p), query(w, w), key(w, w), value(w, w) {}

  /// softmax over keys of the scaled scores: (B, R, R). `query_key`, when ready, replaces the two products
  /// q = x Wq^T + bq and k = x Wk^T + bk by one: q k^T = (x Wq^T Wk + Wk^T bq) x^T + terms constant along the
  /// softmax axis (model.md section 5).
  Tensor<T> probabilities(Context& ctx, const Tensor<T>& x, const Linear<T>* query_key) const {
    const Tensor<T> scores = query_key ? matmul(ctx, (*query_key)(ctx, x), x, false, true, 1.0)
                                       : matmul(ctx, query(ctx, x), key(ctx, x), false, true, 1.0);
    return softmax(ctx, scores, 1.0 / std::sqrt(static_cast<double>(width)));
  }

  /// Transposes the last two dimensions and re-reads the memory under the shape `as`.
  static Tensor<T> scramble(Context& ctx, const Tensor<T>& y, const Shape& as) { return transpose(ctx, y).reshape(as); }

  /// The form as written; x (B, R, C) -> (B, R, C).
  Tensor<T> operator()(Context& ctx, const Tensor<T>& x, const Pass<T>& pass) const {
    const Tensor<T> y = matmul(ctx, probabilities(ctx, x, nullptr), value(ctx, x), false, false, 1.0);
    return add(ctx, x, dropout(ctx, scramble(ctx, y, x.shape()), drop, pass.training));
  }

  /// The single layer that `probabilities` may use: weight Wk^T Wq, bias Wk^T bq. Costs 2 C^3 operations.
  Linear<T> make_query_key(Context& ctx, const WeightReleased& released) const {
    Linear<T> merged(width, width);
    const Tensor<T> bias = detail::converted<T>(ctx, query.bias.reshape({1, width}));
    merged.bias =
        detail::converted<accumulate_t<T>>(ctx, matmul(ctx, bias, key.weight, false, false, 1.0).reshape({width}));
    key.release(released);
    const std::int64_t rows = ctx.device() == Device::cpu ? 512 : width;  // only a mapped file is read piece by piece
    merged.weight = matmul_by_rows(ctx, key.weight, query.weight, rows, [&](std::int64_t begin, std::int64_t end) {
      if (!released) return;
      const auto bytes = static_cast<std::size_t>((end - begin) * width) * sizeof(T);
      released(key.weight.data() + begin * width, bytes);
      released(query.weight.data() + begin * width, bytes);
    });
    merged.keep_only_packed(ctx);
    return merged;
  }

  template <class V>
  void visit(V& v, const std::string& prefix) {
    query.visit(v, prefix + "c_q.");
    key.visit(v, prefix + "c_k.");
    value.visit(v, prefix + "c_v.");
  }
};

template <class T>
struct Mal {
  std::int64_t width = 0, views = 0, tokens = 0;  // D, K, T
  FlatAttention<T> channel_attention, feature_attention;
  std::vector<MapSelfAttention<T>> attention_module;

  /// What inference uses besides the weights; made by pack() and form_products().
  struct Products {
    Linear<T> channel, feature;  // merged query-key layers
  };
  Linear<T> mean_value;  // feature attention's value layer, its rows averaged over the maps: (T, K*T)

  Mal(std::int64_t d, std::int64_t k, std::int64_t t, std::int64_t reduction, double drop)
      : width(d), views(k), tokens(t), channel_attention(d * k, drop), feature_attention(t * k, drop),
        attention_module(static_cast<std::size_t>(k), MapSelfAttention<T>(d, reduction)) {}

  /// K maps (B, T, D) -> (B, T, D).
  Tensor<T> operator()(Context& ctx, const TensorList<T>& maps, const Pass<T>& pass, const Products* products,
                       const std::string& name) const {
    TensorList<T> attended;
    for (std::size_t i = 0; i < maps.size(); ++i) attended.push_back(attention_module[i](ctx, maps[i]));
    const Tensor<T> stack = concat<T>(ctx, attended, 2);  // (B, T, K*D)
    const std::int64_t batch = stack.dim(0);
    // Channel-major memory re-read with K neighbouring channels a row.
    const Tensor<T> rows = transpose(ctx, stack).reshape({batch, width, views * tokens});
    if (pass.trace) pass.note(name + ".self_attention", rows.reshape({batch, views * width, tokens}));
    const Tensor<T> y = pass.training || !pass.rewrites || !mean_value.ready_for(ctx) || ctx.tape()
                            ? plain(ctx, stack, rows, pass, name)
                            : rewritten(ctx, stack, rows, products);
    if (pass.trace) pass.note(name, transpose(ctx, y));
    return y;
  }

  /// As the reference computes it.
  Tensor<T> plain(Context& ctx, const Tensor<T>& stack, const Tensor<T>& rows, const Pass<T>& pass,
                  const std::string& name) const {
    const std::int64_t batch = stack.dim(0);
    const Tensor<T> feature = feature_attention(ctx, rows, pass);     // (B, D, K*T)
    const Tensor<T> channel = channel_attention(ctx, stack, pass);    // (B, T, K*D)
    pass.note(name + ".feature_attention", feature);
    pass.note(name + ".channel_attention", channel);
    const Tensor<T> both = add(ctx, transpose(ctx, feature.reshape({batch, views * width, tokens})), channel);
    return scale_shift(ctx, mean(ctx, both.reshape({batch, tokens, views, width}), 2), 0.5, 0.0);
  }

  /// The same with the exact rewrites of model.md section 5: the mean over the K maps is taken of feature
  /// attention's value weights instead of its result, and the query-key products are merged when formed.
  Tensor<T> rewritten(Context& ctx, const Tensor<T>& stack, const Tensor<T>& rows, const Products* products) const {
    const std::int64_t batch = stack.dim(0);
    Tensor<T> feature = matmul(ctx, feature_attention.probabilities(ctx, rows, products ? &products->feature : nullptr),
                               mean_value(ctx, rows), false, false, 1.0);                     // (B, D, T)
    feature = FlatAttention<T>::scramble(ctx, feature, Shape{batch, width, tokens});
    Tensor<T> channel =
        matmul(ctx, channel_attention.probabilities(ctx, stack, products ? &products->channel : nullptr),
               channel_attention.value(ctx, stack), false, false, 1.0);  // (B, T, K*D)
    channel = FlatAttention<T>::scramble(ctx, channel, stack.shape());
    const Shape by_map{batch, tokens, views, width};
    const Tensor<T> attended = add(ctx, transpose(ctx, feature), mean(ctx, channel.reshape(by_map), 2));
    return add(ctx, scale_shift(ctx, attended, 0.5, 0.0), mean(ctx, stack.reshape(by_map), 2));
  }

  /// merging: the query and key layers will soon be replaced by their product, so no packed copies are made of them:
  /// the few images before then read the plain weights.
  void pack(Context& ctx, const WeightReleased& released, bool merging) {
    for (auto& map : attention_module) map.each_linear([&](Linear<T>& layer) { layer.pack(ctx, released); });
    channel_attention.value.pack(ctx, released);
    for (FlatAttention<T>* block : {&channel_attention, &feature_attention})
      for (Linear<T>* layer : {&block->query, &block->key})
        merging ? layer->stream(released) : layer->pack(ctx, released);
    const Linear<T>& value = feature_attention.value;
    mean_value = Linear<T>(views * tokens, tokens);
    mean_value.weight = mean(ctx, value.weight.reshape({views, tokens, views * tokens}), 0);
    mean_value.bias = mean(ctx, value.bias.reshape({views, tokens}), 0);
    mean_value.keep_only_packed(ctx);
    value.release(released);
  }

  void unpack() {
    for (auto& map : attention_module) map.each_linear([](Linear<T>& layer) { layer.unpack(); });
    for (FlatAttention<T>* block : {&channel_attention, &feature_attention})
      for (Linear<T>* layer : {&block->query, &block->key, &block->value}) layer->unpack();
    mean_value = Linear<T>();
  }

  Products form_products(Context& ctx, const WeightReleased& released) const {
    return {channel_attention.make_query_key(ctx, released), feature_attention.make_query_key(ctx, released)};
  }

  template <class V>
  void visit(V& v, const std::string& prefix) {
    channel_attention.visit(v, prefix + "channel_attention.");
    feature_attention.visit(v, prefix + "feature_attention.");
    for (std::size_t i = 0; i < attention_module.size(); ++i)
      attention_module[i].visit(v, prefix + "attention_module." + std::to_string(i) + ".");
  }
};

}  // namespace promptiqa
