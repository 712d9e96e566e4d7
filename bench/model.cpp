// Speed of the whole model: image features, which are nearly all the work, and the heads that turn them into scores.
// Surprising choice: weights are random (Model::create), so no file is needed; the work does not depend on them.
#include <algorithm>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <promptiqa/model.hpp>

#include "common.hpp"

namespace {

using namespace promptiqa;

// The widest matrix of a MAL: products of two such pay after about width / tokens images.
std::int64_t max_width(const ModelConfig& config) {
  return static_cast<std::int64_t>(config.taps.size()) * std::max(config.vit_dim, config.tokens());
}

// A model of random weights, packed for ctx's backend as load() leaves it; made when first asked for.
const Model<float>& model_of(Context& ctx, const ModelConfig& config) {
  static std::map<std::string, Model<float>> models;
  const std::string key = config.to_json() + ctx.kernels<float>().name;
  const auto found = models.find(key);
  if (found != models.end()) return found->second;
  Model<float> model = Model<float>::create(ctx, config, 1);
  model.pack(ctx);
  return models.emplace(key, std::move(model)).first->second;
}

// The same after so many images that its merged products stand (ModelOptions::merge_products): what a long run is like.
const Model<float>& warm_model_of(Context& ctx, const ModelConfig& config) {
  static std::set<const Model<float>*> warm;
  const Model<float>& model = model_of(ctx, config);
  if (warm.insert(&model).second) {
    const Tensor<float> grey = ctx.zeros<float>(Shape{1, 3, config.image_size, config.image_size});
    for (std::int64_t seen = 0; seen * config.tokens() < 2 * max_width(config); ++seen) model.image_features(ctx, grey);
  }
  return model;
}

// V(I) of `images` normalised images in one pass.
void image_features(benchmark::State& state, const ModelConfig& config, CpuBackend backend, std::int64_t images) {
  Context ctx = bench::context(backend);
  const Model<float>& model = warm_model_of(ctx, config);
  const std::int64_t side = config.image_size;
  const std::vector<float> pixels = bench::random_values(images * 3 * side * side);
  const Tensor<float> nchw = ctx.from<float>(Shape{images, 3, side, side}, std::span<const float>(pixels));
  for (auto _ : state) {
    const Tensor<float> feature = model.image_features(ctx, nchw);
    benchmark::DoNotOptimize(feature.data());
  }
  state.counters["images/s"] =
      benchmark::Counter(static_cast<double>(images), benchmark::Counter::kIsIterationInvariantRate);
}

// From features: ten pairs to a fused prompt (what new scores for known images cost).
void encode_pairs(benchmark::State& state, CpuBackend backend) {
  Context ctx = bench::context(backend);
  const ModelConfig config = ModelConfig::compact();
  const Model<float>& model = model_of(ctx, config);
  const std::int64_t n = 10, m = config.prompt_dim;
  const Tensor<float> feature = ctx.from<float>(Shape{n, m}, std::span<const float>(bench::random_values(n * m)));
  const Tensor<float> scores = ctx.full<float>(Shape{n, 1}, 0.5f);
  for (auto _ : state) {
    const Tensor<float> pairs = model.prompt_features(ctx, feature, scores);
    const Tensor<float> fused = model.fuse_prompt(ctx, pairs.reshape({1, n, m}));
    benchmark::DoNotOptimize(fused.data());
  }
}

// From features and a fused prompt of ten pairs to the logits of `images` images.
void logits(benchmark::State& state, CpuBackend backend, std::int64_t images) {
  Context ctx = bench::context(backend);
  const ModelConfig config = ModelConfig::compact();
  const Model<float>& model = model_of(ctx, config);
  const std::int64_t n = 10, m = config.prompt_dim;
  const Tensor<float> feature =
      ctx.from<float>(Shape{images, m}, std::span<const float>(bench::random_values(images * m)));
  const Tensor<float> fused =
      ctx.from<float>(Shape{images, n, m}, std::span<const float>(bench::random_values(images * n * m, 2)));
  for (auto _ : state) {
    const Tensor<float> logit = model.logits(ctx, feature, fused);
    benchmark::DoNotOptimize(logit.data());
  }
}

void add_all(bool with_base) {
  const auto add = [](const std::string& name, const std::function<void(benchmark::State&)>& body) {
    benchmark::RegisterBenchmark(name.c_str(), body)->UseRealTime()->Unit(benchmark::kMillisecond);
  };
  const auto add_each = [&](const std::string& name, const std::function<void(benchmark::State&, CpuBackend)>& body) {
    for (const bench::Backend& backend : bench::backends())
      add(name + "/" + backend.name, [=](benchmark::State& state) { body(state, backend.id); });
  };
  for (const std::int64_t images : {1, 8})
    add_each("compact/image_features/" + std::to_string(images), [=](benchmark::State& state, CpuBackend backend) {
      image_features(state, ModelConfig::compact(), backend, images);
    });
  add_each("compact/encode_pairs/10", encode_pairs);
  for (const std::int64_t images : {1, 8})
    add_each("compact/logits/" + std::to_string(images),
             [=](benchmark::State& state, CpuBackend backend) { logits(state, backend, images); });
  // The official size takes gigabytes and a while to get ready: only when asked for, and only with the backend that a
  // program would use.
  if (with_base)
    add("base/image_features/1/automatic", [](benchmark::State& state) {
      image_features(state, ModelConfig::base(), CpuBackend::automatic, 1);
    });
}

}  // namespace

int main(int argc, char** argv) {
  const bool with_base = bench::asked(argc, argv, "--benchmark_filter", "base");
  return bench::run(argc, argv, [&] { add_all(with_base); });
}
