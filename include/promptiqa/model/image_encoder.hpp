// ImageEncoder: pixels to the image feature V(I): ViT, MALs, fusion MAL, one block, CNN (model.md section 2).
// Surprising choice: the merged query-key products are handed in by the caller, so the encoder itself is const and
// shared by many threads while another forms them.
#pragma once

#include <string>
#include <vector>

#include <promptiqa/model/cnn.hpp>
#include <promptiqa/model/mal.hpp>
#include <promptiqa/model/vit.hpp>

namespace promptiqa {

template <class T>
struct ImageEncoder {
  using MalProducts = std::vector<typename Mal<T>::Products>;  // one per MAL, the fusion MAL last

  ModelConfig config;
  Vit<T> vit;
  std::vector<Mal<T>> mals;
  Mal<T> fusion_mal;
  TransformerBlock<T> block;
  CnnHead<T> cnn;

  explicit ImageEncoder(const ModelConfig& c)
      : config(c), vit(c),
        mals(static_cast<std::size_t>(c.num_mals),
             Mal<T>(c.vit_dim, static_cast<std::int64_t>(c.taps.size()), c.tokens(), c.sa_reduction, c.drop)),
        fusion_mal(c.vit_dim, c.num_mals, c.tokens(), c.sa_reduction, c.drop),
        block(TransformerBlock<T>::plain(c.vit_dim, static_cast<int>(c.block_heads), 4)), cnn(c) {}

  /// image (B, 3, S, S) in [-1, 1] -> (B, M).
  Tensor<T> operator()(Context& ctx, const Tensor<T>& image, const Pass<T>& pass, const MalProducts* products) const {
    const TensorList<T> taps = vit(ctx, image, pass);
    TensorList<T> views;
    const auto attend = [&](const Mal<T>& mal, const TensorList<T>& maps, std::size_t i, std::string name) {
      const auto* merged = products ? &(*products)[i] : nullptr;
      return repeatable(ctx, pass, [&mal, maps, pass, merged, name = std::move(name)](Context& c) {
        return mal(c, maps, pass, merged, name);
      });
    };
    for (std::size_t i = 0; i < mals.size(); ++i) views.push_back(attend(mals[i], taps, i, "mal" + std::to_string(i)));
    Tensor<T> x = attend(fusion_mal, views, mals.size(), "fusion_mal");
    x = block(ctx, x);
    pass.note("block", x);
    x = transpose(ctx, x).reshape({x.dim(0), config.vit_dim, config.grid(), config.grid()});
    x = cnn(ctx, x, pass);
    pass.note("img_feature", x);
    return x;
  }

  /// Operations (multiply-add = 2) that forming the merged products costs, and saves per image.
  double products_cost() const {
    double cost = 0;
    each_width([&](double width, double) { cost += 2 * width * width * width; });
    return cost;
  }
  double products_saving() const {
    double saving = 0;
    each_width([&](double width, double rows) { saving += 2 * rows * width * width; });
    return saving;
  }

  MalProducts form_products(Context& ctx, const WeightReleased& released) const {
    MalProducts products;
    for (const Mal<T>& mal : mals) products.push_back(mal.form_products(ctx, released));
    products.push_back(fusion_mal.form_products(ctx, released));
    return products;
  }

  /// merging: whether form_products() will be called, see Mal::pack.
  void pack(Context& ctx, const WeightReleased& released, bool merging) {
    vit.pack(ctx, released);
    for (Mal<T>& mal : mals) mal.pack(ctx, released, merging);
    fusion_mal.pack(ctx, released, merging);
    block.pack(ctx, released);
    cnn.pack(ctx);
  }
  /// Whether pack() was for ctx's kernels.
  bool packed_for(const Context& ctx) const { return fusion_mal.mean_value.ready_for(ctx); }
  void unpack() {
    vit.unpack();
    for (Mal<T>& mal : mals) mal.unpack();
    fusion_mal.unpack();
    block.unpack();
    cnn.unpack();
  }

  template <class V>
  void visit(V& v) {
    vit.visit(v, "vit.");
    for (std::size_t i = 0; i < mals.size(); ++i) mals[i].visit(v, "MALs." + std::to_string(i) + ".");
    fusion_mal.visit(v, "fusion_mal.");
    block.visit(v, "block.");
    cnn.visit(v, "cnn.");
  }

 private:
  // Calls f(width, rows) for each of the flat attentions.
  template <class F>
  void each_width(F&& f) const {
    const auto one = [&](const Mal<T>& mal) {
      f(static_cast<double>(mal.channel_attention.width), static_cast<double>(mal.tokens));
      f(static_cast<double>(mal.feature_attention.width), static_cast<double>(mal.width));
    };
    for (const Mal<T>& mal : mals) one(mal);
    one(fusion_mal);
  }
};

}  // namespace promptiqa
