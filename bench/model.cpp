// Speed of the whole model: image features, which are nearly all the work, the heads that turn them into scores, a
// training step; on every backend of this machine, a CUDA device among them.
// Surprising choice: weights are random (Model::create), so no file is needed; the work does not depend on them.
#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <promptiqa/core/tape.hpp>
#include <promptiqa/model.hpp>
#include <promptiqa/ops/all.hpp>

#include "common.hpp"

namespace {

using namespace promptiqa;
using bench::Backend;
using bench::random_tensor;

constexpr benchmark::TimeUnit unit = benchmark::kMillisecond;

// The widest matrix of a MAL: products of two such pay after about width / tokens images.
std::int64_t max_width(const ModelConfig& config) {
  return static_cast<std::int64_t>(config.taps.size()) * std::max(config.vit_dim, config.tokens());
}

// A Context that lives as long as the models in its memory do: one for each backend.
Context& lasting_context(const Backend& backend) {
  static std::map<std::string, Context> contexts;
  const auto found = contexts.find(backend.name);
  return found != contexts.end() ? found->second
                                 : contexts.emplace(backend.name, bench::context(backend)).first->second;
}

// A model of random weights, packed for the backend as load() leaves it and, when asked for, after so many images that
// its merged products stand (ModelOptions::merge_products): what a long run is like. One model at a time is kept: the
// official one takes gigabytes.
template <class T>
const Model<T>& model_of(const Backend& backend, const ModelConfig& config, bool warm) {
  static std::pair<std::string, std::unique_ptr<Model<T>>> kept;
  static bool kept_warm = false;
  Context& ctx = lasting_context(backend);
  const std::string key = config.to_json() + backend.name;
  if (kept.first != key) {
    kept = {};
    kept = {key, std::make_unique<Model<T>>(Model<T>::create(ctx, config, 1))};
    kept.second->pack(ctx);
    kept_warm = false;
  }
  if (warm && !kept_warm) {
    const Tensor<T> grey = ctx.zeros<T>(Shape{1, 3, config.image_size, config.image_size});
    for (std::int64_t seen = 0; seen * config.tokens() < 2 * max_width(config); ++seen)
      kept.second->image_features(ctx, grey);
    kept_warm = true;
  }
  return *kept.second;
}

// Registers body(state, ctx, T()) for the backend; ctx is the one that its models live in.
template <class Body>
void add(const std::string& name, const Backend& backend, const Body& body) {
  bench::add(name, backend, unit,
             [=](benchmark::State& state, Context&, auto type) { body(state, lasting_context(backend), type); });
}

void count_images(benchmark::State& state, std::int64_t images) {
  state.counters["images/s"] =
      benchmark::Counter(static_cast<double>(images), benchmark::Counter::kIsIterationInvariantRate);
}

// V(I) of `images` normalised images in one pass.
void add_image_features(const std::string& name, const Backend& backend, const ModelConfig& config,
                        std::int64_t images) {
  add(name + "/image_features/" + std::to_string(images), backend,
      [=](benchmark::State& state, Context& ctx, auto type) {
        using T = decltype(type);
        const Model<T>& model = model_of<T>(backend, config, true);
        const auto nchw = random_tensor<T>(ctx, Shape{images, 3, config.image_size, config.image_size});
        bench::measure(state, ctx, [&] { benchmark::DoNotOptimize(model.image_features(ctx, nchw).data()); });
        count_images(state, images);
      });
}

// Images, and a prompt of ten pairs whose prompt features are given, to scores: what bench/peers times.
template <class T>
Tensor<T> forward(const Model<T>& model, Context& ctx, const Tensor<T>& nchw, const Tensor<T>& prompt) {
  const Tensor<T> fused = model.fuse_prompt(ctx, prompt);
  const Tensor<T> features = model.image_features(ctx, nchw);
  return sigmoid(ctx, model.logits(ctx, features, expand(ctx, fused, 0, nchw.dim(0))));
}

void add_forward(const std::string& name, const Backend& backend, const ModelConfig& config, std::int64_t images) {
  add(name + "/forward/" + std::to_string(images), backend, [=](benchmark::State& state, Context& ctx, auto type) {
    using T = decltype(type);
    const Model<T>& model = model_of<T>(backend, config, true);
    const auto nchw = random_tensor<T>(ctx, Shape{images, 3, config.image_size, config.image_size});
    const auto prompt = random_tensor<T>(ctx, Shape{1, 10, config.prompt_dim}, 2);
    bench::measure(state, ctx, [&] { benchmark::DoNotOptimize(forward(model, ctx, nchw, prompt).data()); });
    count_images(state, images);
  });
}

// The same as a graph of the device.
void add_forward_graph(const std::string& name, const Backend& backend, const ModelConfig& config,
                       std::int64_t images) {
#if PROMPTIQA_BENCH_CUDA
  if (!backend.cuda) return;
  add(name + "/forward_graph/" + std::to_string(images), backend,
      [=](benchmark::State& state, Context& ctx, auto type) {
        using T = decltype(type);
        const Model<T>& model = model_of<T>(backend, config, true);
        const auto nchw = random_tensor<T>(ctx, Shape{images, 3, config.image_size, config.image_size});
        const auto prompt = random_tensor<T>(ctx, Shape{1, 10, config.prompt_dim}, 2);
        Tensor<T> scores;
        CudaGraph graph = CudaGraph::capture(ctx, [&](Context& own) { scores = forward(model, own, nchw, prompt); });
        bench::measure(state, ctx, [&] { graph.replay(); });
        count_images(state, images);
        state.counters["nodes"] = static_cast<double>(graph.size());
      });
#else
  (void)name, (void)backend, (void)config, (void)images;
#endif
}

// From features: ten pairs to a fused prompt (what new scores for known images cost).
void add_encode_pairs(const Backend& backend) {
  add("compact/encode_pairs/10", backend, [=](benchmark::State& state, Context& ctx, auto type) {
    using T = decltype(type);
    const ModelConfig config = ModelConfig::compact();
    const Model<T>& model = model_of<T>(backend, config, false);
    const std::int64_t n = 10, m = config.prompt_dim;
    const auto feature = random_tensor<T>(ctx, Shape{n, m}), scores = random_tensor<T>(ctx, Shape{n, 1}, 2);
    bench::measure(state, ctx, [&] {
      const Tensor<T> pairs = model.prompt_features(ctx, feature, scores);
      benchmark::DoNotOptimize(model.fuse_prompt(ctx, pairs.reshape({1, n, m})).data());
    });
  });
}

// From features and a fused prompt of ten pairs to the logits of `images` images.
void add_logits(const Backend& backend, std::int64_t images) {
  add("compact/logits/" + std::to_string(images), backend, [=](benchmark::State& state, Context& ctx, auto type) {
    using T = decltype(type);
    const ModelConfig config = ModelConfig::compact();
    const Model<T>& model = model_of<T>(backend, config, false);
    const std::int64_t n = 10, m = config.prompt_dim;
    const auto feature = random_tensor<T>(ctx, Shape{images, m});
    const auto fused = random_tensor<T>(ctx, Shape{images, n, m}, 2);
    bench::measure(state, ctx, [&] { benchmark::DoNotOptimize(model.logits(ctx, feature, fused).data()); });
  });
}

// Forward and backward of one training step, without the optimiser: four groups of eleven images through one backbone
// pass, each group scored leave-one-out under three sets of scores.
void training_step(benchmark::State& state, Context& ctx, const ModelConfig& config) {
  constexpr std::int64_t groups = 4, members = 11, requirements = 3, images = groups * members;
  Model<float> model = Model<float>::create(ctx, config, 1);
  const std::int64_t side = config.image_size;
  const auto nchw = random_tensor<float>(ctx, Shape{images, 3, side, side});
  const Tensor<float> scores = scale_shift(ctx, random_tensor<float>(ctx, Shape{requirements * images, 1}, 2), 1, 0.5);
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
  bench::measure(state, ctx, step);
  count_images(state, images);
}

void add_training_step(const Backend& backend) {
  add("compact/training_step/44", backend,
      [](benchmark::State& state, Context& ctx, auto) { training_step(state, ctx, ModelConfig::compact()); });
}

void add_all(bool with_base) {
  const ModelConfig compact = ModelConfig::compact();
  for (const Backend& backend : bench::backends()) {
    for (const std::int64_t images : {1, 8}) add_image_features("compact", backend, compact, images);
    add_encode_pairs(backend);
    for (const std::int64_t images : {1, 8}) add_logits(backend, images);
  }
  add_training_step({"automatic"});
  for (const Backend& backend : bench::cuda_backends()) {
    // Weights stay in float: what trains with products in bfloat16 is mixed precision.
    add_training_step(backend.precision == "bf16" ? Backend{"cuda_mixed", CpuBackend::automatic, true, "mixed"}
                                                  : backend);
    for (const std::int64_t images : {1, 8, 32}) {
      add_forward("compact", backend, compact, images);
      add_forward_graph("compact", backend, compact, images);
    }
  }
  // The official size takes gigabytes and a while to get ready: only when asked for, and on the CPU only with the
  // backend that a program would use.
  if (!with_base) return;
  add_image_features("base", {"automatic"}, ModelConfig::base(), 1);
  for (const Backend& backend : bench::cuda_backends())
    for (const std::int64_t images : {1, 8, 32}) {
      add_forward("base", backend, ModelConfig::base(), images);
      add_forward_graph("base", backend, ModelConfig::base(), images);
    }
}

}  // namespace

int main(int argc, char** argv) {
  const bool with_base = bench::asked(argc, argv, "--benchmark_filter", "base");
  return bench::run(argc, argv, [&] { add_all(with_base); });
}
