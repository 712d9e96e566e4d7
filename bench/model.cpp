// Speed of the whole model: image features, which are nearly all the work, and the heads that turn them into scores.
// Surprising choice: weights are random (Model::create), so no file is needed; the work does not depend on them.
#include <algorithm>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <promptiqa/core/tape.hpp>
#include <promptiqa/model.hpp>
#include <promptiqa/ops/all.hpp>

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

// Forward and backward of one training step, without the optimiser: four groups of eleven images through one backbone
// pass, each group scored leave-one-out under three sets of scores.
void training_step(benchmark::State& state, CpuBackend backend) {
  constexpr std::int64_t groups = 4, members = 11, requirements = 3, images = groups * members;
  Context ctx = bench::context(backend);
  const ModelConfig config = ModelConfig::compact();
  Model<float> model = Model<float>::create(ctx, config, 1);
  const std::int64_t side = config.image_size;
  const std::vector<float> pixels = bench::random_values(images * 3 * side * side);
  const Tensor<float> nchw = ctx.from<float>(Shape{images, 3, side, side}, std::span<const float>(pixels));
  const std::vector<float> marks = bench::random_values(requirements * images, 2);
  const Tensor<float> centred = ctx.from<float>(Shape{requirements * images, 1}, std::span<const float>(marks));
  const Tensor<float> scores = scale_shift(ctx, centred, 1, 0.5);
  Pass<float> pass;
  pass.training = true;
  const auto step = [&] {
    Tape tape;
    const TapeScope recording(ctx, &tape);
    for (const auto& parameter : model.parameters()) tape.watch(parameter.value);
    const Tensor<float> features = model.image_features(ctx, nchw, pass);
    Tensor<float> loss;
    for (std::int64_t g = 0; g < groups; ++g) {
      const Tensor<float> group = slice(ctx, features, 0, g * members, (g + 1) * members);
      for (std::int64_t r = 0; r < requirements; ++r) {
        const std::int64_t first = r * images + g * members;
        const Tensor<float> wanted = slice(ctx, scores, 0, first, first + members);
        const Tensor<float> part =
            l1_loss(ctx, model.leave_one_out(ctx, group, wanted, pass), wanted.reshape({members}));
        loss = loss ? add(ctx, loss, part) : part;
      }
    }
    tape.backward(ctx, scale_shift(ctx, loss, 1.0 / (groups * requirements), 0));
    benchmark::DoNotOptimize(tape.gradient(model.parameters().front().value).data());
  };
  step();  // the first one asks the system for memory
  for (auto _ : state) step();
  state.counters["images/s"] =
      benchmark::Counter(static_cast<double>(images), benchmark::Counter::kIsIterationInvariantRate);
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
  add("compact/training_step/44", [](benchmark::State& state) { training_step(state, CpuBackend::automatic); });
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
