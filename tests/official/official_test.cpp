// The official-size model against expectations computed in float64, from both kinds of weights file.
// Surprising choice: it runs only when PROMPTIQA_OFFICIAL_DIR names a folder with weights.safetensors,
// weights.pth.tar and io.safetensors (1.27 GB each for the weights), and says so when it does not.
#include <sys/resource.h>

#include <chrono>
#include <cstdlib>
#include <iostream>

#include <promptiqa/io/tensor_file.hpp>
#include <promptiqa/model.hpp>
#include <promptiqa/ops/all.hpp>

#include "catch.hpp"
#include "golden.hpp"

using namespace promptiqa;

namespace {

// PyTorch float32's own distance from float64 at official size, max|diff| (its authors' measurement over several
// inputs): the floor under the distance found in the file at hand, which for a single number can be small by luck.
constexpr double feature_floor = 1.1e-6, logit_floor = 8e-7;

double distance(const Tensor<float>& a, const Tensor<float>& b) {
  if (a.numel() != b.numel()) return INFINITY;
  double worst = 0;
  for (std::int64_t i = 0; i < a.numel(); ++i) {
    const double d = std::abs(static_cast<double>(a.data()[i]) - static_cast<double>(b.data()[i]));
    if (!std::isfinite(d)) return INFINITY;
    worst = std::max(worst, d);
  }
  return worst;
}

double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void check(const std::string& weights) {
  const char* folder = std::getenv("PROMPTIQA_OFFICIAL_DIR");
  if (!folder) {
    WARN("not run: set PROMPTIQA_OFFICIAL_DIR to a folder of official-size weights and expectations");
    return;
  }
  Context ctx = Context::cpu();
  double start = seconds();
  const auto model = Model<float>::load(ctx, std::string(folder) + "/" + weights);
  std::cout << weights << ": loaded in " << seconds() - start << " s\n";
  CHECK(model.config() == ModelConfig::base());

  const TensorFile io = read_tensor_file(std::string(folder) + "/io.safetensors");
  const auto get = [&](const std::string& name) { return golden::tensor<float>(ctx, io, name); };
  const auto gate = [&](const char* what, const Tensor<float>& ours, double floor) {
    const double own = distance(get(what), get(std::string(what) + ".f64")),
                 found = distance(ours, get(std::string(what) + ".f64"));
    std::cout << "  " << what << ": PyTorch float32 is " << own << " from float64, this is " << found << "\n";
    CHECK(found <= 4 * std::max(own, floor));
  };

  // The image first, one pass each way: as written, and with the rewrites as a program would run it.
  const Tensor<float> image = get("image");
  for (bool rewrites : {false, true}) {
    Pass<float> pass;
    pass.rewrites = rewrites;
    start = seconds();
    const Tensor<float> feature = model.image_features(ctx, image, pass);
    std::cout << "  image feature " << (rewrites ? "with the rewrites" : "as written") << ": "
              << (seconds() - start) / static_cast<double>(image.dim(0)) << " s per image\n";
    gate("feature", feature, feature_floor);
    const Tensor<float> prompts = get("prompts");
    const Tensor<float> fused =
        model.fuse_prompt(ctx, expand(ctx, prompts.reshape({1, prompts.dim(0), prompts.dim(1)}), 0, image.dim(0)));
    const Tensor<float> logit = model.logits(ctx, feature, fused);
    gate("logit", logit, logit_floor);
    gate("score", sigmoid(ctx, logit), logit_floor / 4);
  }
  // Ten prompt images: enough for the merged products, so this covers every form of the model.
  const Tensor<float> prompt_images = get("prompt_image");
  std::vector<Tensor<float>> features;
  start = seconds();
  for (std::int64_t i = 0; i < prompt_images.dim(0); ++i)
    features.push_back(model.image_features(ctx, slice(ctx, prompt_images, 0, i, i + 1)));
  std::cout << "  ten prompt images one by one: " << seconds() - start << " s, the merged products formed among them\n";
  const Tensor<float> feature = concat(ctx, std::span<const Tensor<float>>(features), 0);
  gate("prompt_image_feature", feature, feature_floor);
  gate("prompt_feature", model.prompt_features(ctx, feature, get("prompt_score")), feature_floor);

  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const double peak = static_cast<double>(usage.ru_maxrss) / 1e6;  // kilobytes on Linux
  std::cout << "  peak memory " << peak << " GB\n";
  CHECK(peak < 1.6);  // GB; 1.44 measured, of which the test's own data are a part
}

}  // namespace

TEST_CASE("official size from safetensors", "[safetensors]") { check("weights.safetensors"); }

TEST_CASE("official size from a PyTorch checkpoint", "[checkpoint]") { check("weights.pth.tar"); }
