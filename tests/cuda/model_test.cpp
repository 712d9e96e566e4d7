// The whole model on the emulated device: golden parity with all gradients, scores, prompts and prompt files as the
// CPU's. Surprising choice: the golden checks are the CPU's own, with its tolerances: nothing is loosened for a device.
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <string>
#include <vector>

#include <promptiqa/model.hpp>
#include <promptiqa/prompt/prompt_file.hpp>

#include "emulated.hpp"
#include "golden_parity.hpp"
#include "temporary_folder.hpp"

using namespace promptiqa_test;

namespace {

std::vector<Image> pictures(int count) {
  std::vector<Image> images;
  for (int i = 0; i < count; ++i) {
    std::vector<std::uint8_t> pixels(20 * 17 * 3);
    for (std::size_t j = 0; j < pixels.size(); ++j)
      pixels[j] = static_cast<std::uint8_t>(j * static_cast<std::size_t>(3 + i) % 256);
    images.push_back(Image::from_vector(std::move(pixels), 20, 17, 3));
  }
  return images;
}

TensorFile weights(const std::string& name) { return golden::weights_of(golden::read(name)); }

}  // namespace

TEST_CASE("golden parity on the emulated device", "[cuda]") {
  golden::check_training<double>(emulated(), golden::files[0]);
  golden::check_training<float>(emulated(), golden::files[0]);
  golden::check_training<float>(emulated(), golden::files[1]);
  golden::check_evaluation<float>(emulated(), golden::files[0], true);
  BarredDevice device;
  golden::check_training<float>(device.ctx, golden::files[2]);
  golden::check_evaluation<float>(device.ctx, golden::files[2], true);
  golden::check_evaluation<float>(device.ctx, golden::files[2], false);
}

// CPU and device may each be four times as far from the golden values as PyTorch in float32 is.
TEST_CASE("scores, features and prompts on the emulated device are the CPU's", "[cuda]") {
  BarredDevice device;
  Context cpu = Context::cpu(1);
  const auto ours = Model<float>::from_tensors(device.ctx, weights("stem"));
  const auto theirs = Model<float>::from_tensors(cpu, weights("stem"));
  const double allowed = 8 * golden::files[2].output_deviation;
  CHECK(ours.weights_id() == theirs.weights_id());

  const std::vector<Image> images = pictures(5);
  const std::vector<float> scores = {20, 40, 55, 90};
  const std::span<const Image> pairs = std::span<const Image>(images).first(4);
  const auto check = [&](const std::vector<float>& a, const std::vector<float>& b) {
    CHECK(golden::deviation(cpu.from<float>(Shape{static_cast<std::int64_t>(a.size())}, std::span<const float>(a)),
                            cpu.from<float>(Shape{static_cast<std::int64_t>(b.size())}, std::span<const float>(b))) <=
          allowed);
  };
  check(ours.features(device.ctx, images), theirs.features(cpu, images));

  const Prompt prompt = ours.encode_prompt(device.ctx, pairs, scores, {0, 100});
  const Prompt reference = theirs.encode_prompt(cpu, pairs, scores, {0, 100});
  const std::vector<float> reversed = {80, 60, 45, 10};
  const Prompt turned = ours.with_scores(device.ctx, prompt, reversed);
  const Prompt turned_reference = theirs.with_scores(cpu, reference, reversed);
  const auto compare = [&](const Prompt& a, const Prompt& b) {
    std::vector<float> x, y;
    for (const Prediction& p : ours.score(device.ctx, images, a)) x.insert(x.end(), {p.score / 100, p.logit});
    for (const Prediction& p : theirs.score(cpu, images, b)) y.insert(y.end(), {p.score / 100, p.logit});
    CHECK(x.size() == 10);
    check(x, y);
  };
  compare(prompt, reference);
  compare(turned, turned_reference);
  compare(reference, prompt);  // a prompt serves its weights on any device
  CHECK(ours.score(device.ctx, images[4], prompt).logit != ours.score(device.ctx, images[4], turned).logit);

  const TemporaryFolder folder;
  const std::string path = folder / "prompt.safetensors";
  save_prompt(path, prompt);
  compare(load_prompt(device.ctx, ours, path), load_prompt(cpu, theirs, path));
}

TEST_CASE("a model of the emulated device is saved, made and refused as the CPU's", "[cuda]") {
  BarredDevice device;
  Context cpu = Context::cpu(1);
  const auto ours = Model<float>::from_tensors(device.ctx, weights("stem"));
  const auto theirs = Model<float>::from_tensors(cpu, weights("stem"));
  const TemporaryFolder folder;
  const auto bytes = [&](const Model<float>& model, const char* name) {
    const std::string path = folder / name;
    model.save(path, DType::f16);
    std::ifstream in(path, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(in), {});
  };
  const std::string written = bytes(ours, "ours");
  CHECK(written.size() > 10000);
  CHECK(written == bytes(theirs, "theirs"));
  CHECK(bytes(Model<float>::create(device.ctx, ours.config(), 3), "a") ==
        bytes(Model<float>::create(cpu, ours.config(), 3), "b"));

  TensorFile broken = weights("stem");
  std::vector<float> values(16, 1.0f);
  for (NamedTensor& tensor : broken.tensors)
    if (tensor.name == "vit.blocks.0.norm1.weight") tensor.data = values.data();
  CHECK_NOTHROW(Model<float>::from_tensors(device.ctx, broken));
  values[7] = std::numeric_limits<float>::infinity();
  CHECK_THROWS_WITH(Model<float>::from_tensors(device.ctx, broken), ContainsSubstring("not finite at element 7"));

  const std::vector<Image> images = pictures(2);
  const std::vector<float> scores = {0.2f, 0.8f};
  CHECK_THROWS_WITH(ours.encode_prompt(cpu, images, scores), ContainsSubstring("same device"));
  CHECK_THROWS_WITH(theirs.features(device.ctx, images), ContainsSubstring("same device"));
  const Tensor<float> pixels = theirs.preprocess(cpu, images);
  CHECK_THROWS_WITH(ours.image_features(device.ctx, pixels), ContainsSubstring("inputs and the context"));
  const Prompt prompt = theirs.encode_prompt(cpu, images, scores);
  CHECK_THROWS_WITH(ours.score_features(cpu, prompt.data().image_features, prompt), ContainsSubstring("same device"));
}

TEST_CASE("inference on the emulated device allocates nothing once warm and forms its products when loaded", "[cuda]") {
  BarredDevice device;
  Context& ctx = device.ctx;
  const auto model = Model<float>::from_tensors(ctx, weights("tiny"));
  const auto plain = Model<float>::from_tensors(ctx, weights("tiny"), {false, false});
  const std::vector<Image> images = pictures(2);
  const Prompt prompt = model.encode_prompt(ctx, images, std::vector<float>{0.3f, 0.6f});
  const Tensor<float> pixels = model.preprocess(ctx, images);

  // The same bits for the first image and the tenth: nothing is replaced on the way.
  const std::vector<float> first = model.image_features(ctx, pixels).host();
  for (int i = 0; i < 2; ++i) (void)model.score(ctx, images, prompt);
  const std::uint64_t requests = ctx.memory().system_allocations();
  for (int i = 0; i < 2; ++i) (void)model.score(ctx, images, prompt);
  CHECK(ctx.memory().system_allocations() == requests);
  CHECK(model.image_features(ctx, pixels).host() == first);
  CHECK(plain.image_features(ctx, pixels).host() != first);  // merged products round otherwise

  // The pass waits for nothing and copies nothing: it can be captured. The replay does all of it.
  Tensor<float> features;
  CudaGraph graph = CudaGraph::capture(ctx, [&](Context& c) { features = model.image_features(c, pixels); });
  graph.replay();
  CHECK(features.host() == first);
}
