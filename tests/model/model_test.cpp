// The model as a program uses it: loading, prompts, scoring, saving, and every way a weights file can be wrong.
// Surprising choice: the shipped compact weights are used where meaning matters, the small golden ones elsewhere.
#include <promptiqa/core/tape.hpp>
#include <promptiqa/io/tensor_file.hpp>
#include <promptiqa/model.hpp>
#include <promptiqa/ops/all.hpp>

#include <cstring>
#include <limits>
#include <random>

#include "catch.hpp"
#include "golden.hpp"
#include "io/io_test_tools.hpp"

using namespace promptiqa;

namespace {

std::string compact_path() { return std::string(PROMPTIQA_SOURCE_DIR) + "/weights/promptiqa-compact.safetensors"; }

// A smooth seeded picture; `noise` 0..1 spoils it.
Image picture(unsigned seed, double noise = 0, int side = 96) {
  std::mt19937 random(seed);
  std::vector<std::uint8_t> pixels(static_cast<std::size_t>(side) * side * 3);
  const double fx = 0.02 + 0.002 * (random() % 30), fy = 0.02 + 0.002 * (random() % 30);
  for (int y = 0; y < side; ++y)
    for (int x = 0; x < side; ++x)
      for (int c = 0; c < 3; ++c) {
        const double clean = 128 + 90 * std::sin(fx * x + c) * std::cos(fy * y - c);
        const double spoiled = clean + noise * 255 * (static_cast<double>(random() % 1000) / 1000 - 0.5);
        pixels[static_cast<std::size_t>((y * side + x) * 3 + c)] =
            static_cast<std::uint8_t>(std::clamp(spoiled, 0.0, 255.0));
      }
  return Image::from_vector(std::move(pixels), side, side, 3);
}

std::vector<Image> pictures(unsigned count) {
  std::vector<Image> list;
  for (unsigned i = 0; i < count; ++i) list.push_back(picture(i, 0.1 * (i % 7)));
  return list;
}

std::vector<float> ramp(std::size_t n) {
  std::vector<float> scores;
  for (std::size_t i = 0; i < n; ++i) scores.push_back((static_cast<float>(i) + 0.5f) / static_cast<float>(n));
  return scores;
}

TensorFile tiny() { return golden::weights_of(golden::read("tiny")); }

}  // namespace

TEST_CASE("the shipped weights load, score and follow a reversed prompt") {
  Context ctx = Context::cpu(2);
  const auto model = Model<float>::load(ctx, compact_path());
  CHECK(model.config() == ModelConfig::compact());
  std::vector<Image> images;
  std::vector<float> scores, reversed;
  for (int i = 0; i < 10; ++i) {
    images.push_back(picture(static_cast<unsigned>(i), 0.09 * i));
    scores.push_back(0.95f - 0.1f * static_cast<float>(i));
    reversed.push_back(1 - scores.back());
  }
  const Prompt prompt = model.encode_prompt(ctx, images, scores);
  const Prompt flipped = model.with_scores(ctx, prompt, reversed);
  const Image clean = picture(100, 0), noisy = picture(100, 0.9);
  CHECK(model.score(ctx, clean, prompt).score > model.score(ctx, noisy, prompt).score);
  CHECK(model.score(ctx, clean, flipped).score < model.score(ctx, noisy, flipped).score);
  // with_scores is encode_prompt without the backbone: the same numbers.
  const Prompt direct = model.encode_prompt(ctx, images, reversed);
  CHECK(model.score(ctx, clean, flipped).logit == Approx(model.score(ctx, clean, direct).logit).margin(2e-6));
}

TEST_CASE("a batch, its pieces and single images agree, and so do stored features") {
  Context ctx = Context::cpu(2);
  ModelOptions options;
  options.merge_products = false;  // merging begins between calls and changes the last digits
  const auto model = Model<float>::load(ctx, compact_path(), options);
  const std::vector<Image> images = pictures(35);  // more than one piece
  const Prompt prompt = model.encode_prompt(ctx, std::span<const Image>(images).first(5), ramp(5));
  const auto together = model.score(ctx, images, prompt);
  REQUIRE(together.size() == images.size());
  const auto stored = model.score_features(ctx, model.features(ctx, images), prompt);
  for (std::size_t i = 0; i < images.size(); ++i) {
    const Prediction alone = model.score(ctx, images[i], prompt);
    CHECK(together[i].logit == Approx(alone.logit).margin(2e-6));
    CHECK(stored[i].logit == together[i].logit);
    CHECK(together[i].score == Approx(1 / (1 + std::exp(-together[i].logit))).margin(1e-6));
  }
  CHECK(model.score(ctx, std::span<const Image>(), prompt).empty());
}

TEST_CASE("predictions come back in the user's scale") {
  Context ctx = Context::cpu(1);
  const auto model = Model<float>::load(ctx, compact_path());
  const std::vector<Image> images = pictures(6);
  const std::vector<float> unit = ramp(6);
  std::vector<float> stars;
  for (float s : unit) stars.push_back(1 + 4 * s);
  const Prediction a = model.score(ctx, images[2], model.encode_prompt(ctx, images, unit));
  const Prediction b = model.score(ctx, images[2], model.encode_prompt(ctx, images, stars, {1, 5}));
  CHECK(b.logit == Approx(a.logit).margin(5e-6));
  CHECK(b.score == Approx(1 + 4 * a.score).margin(1e-5));
  CHECK_THROWS_WITH(model.encode_prompt(ctx, images, unit, {1, 1}), ContainsSubstring("minimum"));
  CHECK_THROWS_AS(model.encode_prompt(ctx, images, unit, {5, 1}), PromptError);
  CHECK_THROWS_AS(model.encode_prompt(ctx, images, unit, {-3e38f, 3e38f}), PromptError);  // the difference overflows
}

TEST_CASE("the order of the pairs does not matter, repeating one does") {
  Context ctx = Context::cpu(1);
  const auto model = Model<double>::load(ctx, compact_path());
  std::vector<Image> images = pictures(4);
  std::vector<float> scores = ramp(4);
  const Image query = picture(50);
  const float first = model.score(ctx, query, model.encode_prompt(ctx, images, scores)).logit;
  std::swap(images[0], images[3]);
  std::swap(scores[0], scores[3]);
  CHECK(model.score(ctx, query, model.encode_prompt(ctx, images, scores)).logit == Approx(first).margin(1e-6));
  images.push_back(images[0]);
  scores.push_back(scores[0]);
  CHECK(model.score(ctx, query, model.encode_prompt(ctx, images, scores)).logit != Approx(first).margin(1e-6));
}

TEST_CASE("bad prompts are refused by pair, doubtful ones warned about") {
  Context ctx = Context::cpu(1);
  const auto model = Model<float>::load(ctx, compact_path());
  const std::vector<Image> images = pictures(3);
  const auto encode = [&](std::vector<float> scores) { return model.encode_prompt(ctx, images, scores); };
  CHECK_THROWS_WITH(encode({0.1f, std::nanf(""), 0.3f}), ContainsSubstring("pair 2 of 3"));
  CHECK_THROWS_WITH(encode({0.1f, 0.2f, 1.5f}), ContainsSubstring("pair 3 of 3"));
  CHECK_THROWS_WITH(encode({-0.1f, 0.2f, 0.5f}), ContainsSubstring("pair 1 of 3"));
  CHECK_THROWS_WITH(encode({std::numeric_limits<float>::infinity(), 0, 0}), ContainsSubstring("pair 1 of 3"));
  CHECK_THROWS_WITH(encode({0.1f, 0.2f}), ContainsSubstring("3 images and 2 scores"));
  CHECK_THROWS_AS(model.encode_prompt(ctx, std::span<const Image>(), std::span<const float>()), PromptError);
  const std::vector<Image> with_empty = {images[0], Image()};
  CHECK_THROWS_AS(model.encode_prompt(ctx, with_empty, ramp(2)), ImageError);
  CHECK_THROWS_AS(model.score(ctx, images[0], Prompt()), PromptError);

  CHECK(encode({0.1f, 0.2f, 0.3f}).warnings().empty());
  REQUIRE(encode({0.5f, 0.5f, 0.5f}).warnings().size() == 1);
  CHECK_THAT(encode({0.5f, 0.5f, 0.5f}).warnings()[0], ContainsSubstring("all 3 scores"));
  const Prompt single = model.encode_prompt(ctx, std::span<const Image>(images).first(1), ramp(1));
  REQUIRE(single.warnings().size() == 1);
  CHECK(std::isfinite(model.score(ctx, images[1], single).logit));
}

TEST_CASE("a prompt fits equal weights in another model and no others") {
  Context ctx = Context::cpu(1);
  const auto model = Model<float>::load(ctx, compact_path());
  const auto same = Model<double>::load(ctx, compact_path());
  const std::vector<Image> images = pictures(3);
  const Prompt prompt = model.encode_prompt(ctx, images, ramp(3));
  CHECK(model.weights_id().size() == 64);
  CHECK(same.weights_id() == model.weights_id());
  CHECK(same.score(ctx, images[0], prompt).logit == Approx(model.score(ctx, images[0], prompt).logit).margin(1e-4));
  const auto other = Model<float>::create(ctx, ModelConfig::compact(), 1);
  CHECK_THROWS_WITH(other.score(ctx, images[0], prompt), ContainsSubstring("other weights"));
}

TEST_CASE("a prompt does not outlive a change of the weights") {
  Context ctx = Context::cpu(1);
  ModelOptions options;
  options.training = true;
  for (const bool asked : {false, true}) {
    auto model = Model<float>::from_tensors(ctx, tiny(), options);
    const auto images = pictures(2);
    const Prompt prompt = model.encode_prompt(ctx, images, ramp(2));
    if (asked) CHECK(prompt.weights_id() == model.weights_id());
    CHECK_NOTHROW(model.score(ctx, images[0], prompt));
    model.parameters()[0].value.mutable_data()[0] += 1;
    model.weights_changed();
    CHECK_THROWS_AS(model.score(ctx, images[0], prompt), PromptError);
    CHECK_NOTHROW(model.score(ctx, images[0], model.encode_prompt(ctx, images, ramp(2))));
  }
}

TEST_CASE("features that are not finite are refused") {
  Context ctx = Context::cpu(1);
  const auto model = Model<float>::from_tensors(ctx, tiny());
  const Prompt prompt = model.encode_prompt(ctx, pictures(2), ramp(2));
  std::vector<float> features(24, 0.5f);
  CHECK(model.score_features(ctx, features, prompt).size() == 2);
  features[13] = std::nanf("");
  CHECK_THROWS_WITH(model.score_features(ctx, features, prompt), ContainsSubstring("image 2"));
  CHECK_THROWS_AS(model.score_features(ctx, std::span<const float>(features).first(13), prompt), PromptError);
}

TEST_CASE("the exact rewrites equal the plain form") {
  Context ctx = Context::cpu(1);
  for (const golden::File& which : golden::files) {
    const TensorFile file = golden::read(which.name);
    ModelOptions options;
    const auto merging = Model<double>::from_tensors(ctx, golden::weights_of(file), options);
    options.merge_products = false;
    const auto unmerged = Model<double>::from_tensors(ctx, golden::weights_of(file), options);
    const Tensor<double> images = golden::tensor<double>(ctx, file, "in.train.image");
    Pass<double> plain;
    plain.rewrites = false;
    const Tensor<double> expected = unmerged.image_features(ctx, images, plain);
    const Tensor<double> averaged = unmerged.image_features(ctx, images);
    CHECK(golden::deviation(averaged, expected) < 1e-13);
    // The products are formed once enough images have passed: from then on the bits differ, the numbers do not.
    Tensor<double> merged;
    bool formed = false;
    for (int i = 0; i < 40 && !formed; ++i) {
      merged = merging.image_features(ctx, images);
      formed =
          std::memcmp(merged.data(), averaged.data(), static_cast<std::size_t>(merged.numel()) * sizeof(double)) != 0;
    }
    CHECK(formed);
    CHECK(golden::deviation(merged, expected) < 1e-13);
  }
}

TEST_CASE("inference allocates nothing once warm") {
  Context ctx = Context::cpu(1);  // with more, how many scratch blocks are in use at once depends on the scheduler
  const auto model = Model<float>::load(ctx, compact_path());
  const std::vector<Image> images = pictures(12);
  const Prompt prompt = model.encode_prompt(ctx, images, ramp(12));
  for (int i = 0; i < 4; ++i) (void)model.score(ctx, images, prompt);
  const std::uint64_t before = ctx.memory().system_allocations();
  for (int i = 0; i < 4; ++i) (void)model.score(ctx, images, prompt);
  CHECK(ctx.memory().system_allocations() == before);
}

// With several threads, how many scratch blocks are in use at once depends on the scheduler, so warming up has no fixed
// length. What holds: each thread has a bounded number of blocks, so the allocations end.
TEST_CASE("scoring on two threads stops allocating, one image or eight at a time") {
  for (const std::size_t batch : {std::size_t{1}, std::size_t{8}}) {
    Context ctx = Context::cpu(2);
    const auto model = Model<float>::load(ctx, compact_path());
    const std::vector<Image> images = pictures(8);
    const Prompt prompt = model.encode_prompt(ctx, images, ramp(8));
    int quiet = 0;  // runs in a row that allocated nothing
    for (int run = 0; run < 400 && quiet < 20; ++run) {
      const std::uint64_t before = ctx.memory().system_allocations();
      (void)model.score(ctx, std::span<const Image>(images).first(batch), prompt);
      quiet = ctx.memory().system_allocations() == before ? quiet + 1 : 0;
    }
    CHECK(quiet == 20);
  }
}

TEST_CASE("weights are packed when they are first used, once") {
  Context ctx = Context::cpu(1);
  const auto model = Model<float>::load(ctx, compact_path());
  std::size_t weights = 0;
  for (const auto& entry : model.state()) weights += static_cast<std::size_t>(entry.value.numel()) * sizeof(float);
  // One copy, because the file stores other types, and the averaged value weights, a small part of the model.
  const std::size_t loaded = ctx.memory().bytes_reserved();
  CHECK(loaded < weights + weights / 4);
  const std::vector<Image> images = pictures(1);
  const std::vector<float> first = model.features(ctx, images);
  CHECK(ctx.memory().bytes_reserved() > loaded + weights / 4);
  CHECK(model.features(ctx, images) == first);  // may need scratch again: packed weights have kept some recycled blocks
  const std::size_t used = ctx.memory().bytes_reserved();
  CHECK(model.features(ctx, images) == first);
  CHECK(ctx.memory().bytes_reserved() == used);

  // A context of other kernels reads the plain weights, and of its own pool: nothing is packed for it.
  Context other = Context::cpu(1, CpuBackend::eigen);
  const std::vector<float> by_eigen = model.features(other, images);
  REQUIRE(by_eigen.size() == first.size());
  double worst = 0;
  for (std::size_t i = 0; i < first.size(); ++i)
    worst = std::max(worst, static_cast<double>(std::abs(by_eigen[i] - first[i])));
  CHECK(std::isfinite(by_eigen[0]));
  CHECK(worst < 1e-4);  // float32 rounding of values of size 1
  CHECK(ctx.memory().bytes_reserved() == used);
}

TEST_CASE("saved weights load again, in every stored type") {
  Context ctx = Context::cpu(1);
  const auto model = Model<float>::from_tensors(ctx, tiny());
  const io_test::TemporaryFolder folder;
  const std::string path = folder / "model.safetensors";
  for (const DType dtype : {DType::f32, DType::f64, DType::f16, DType::bf16}) {
    model.save(path, dtype);
    const auto again = Model<float>::load(ctx, path);
    CHECK(again.config() == model.config());
    const bool exact = dtype == DType::f32 || dtype == DType::f64;
    CHECK((again.weights_id() == model.weights_id()) == exact);
    const auto a = model.state(), b = again.state();
    REQUIRE(a.size() == b.size());
    // F16 keeps 11 bits of a number, BF16 8.
    const double allowed = exact ? 0 : dtype == DType::f16 ? 5e-4 : 4e-3;
    for (std::size_t i = 0; i < a.size(); ++i) {
      CHECK(a[i].name == b[i].name);
      CHECK(a[i].counter == b[i].counter);
      if (a[i].value) CHECK(golden::deviation(b[i].value, a[i].value) <= allowed);
    }
  }
}

TEST_CASE("fresh weights are the same for the same seed and train") {
  Context ctx = Context::cpu(1);
  const TensorFile file = golden::read("stem");
  const ModelConfig config = ModelConfig::from_json(file.metadata.at("config"), "golden");
  auto model = Model<float>::create(ctx, config, 7);
  CHECK(model.weights_id() == Model<float>::create(ctx, config, 7).weights_id());
  CHECK(model.weights_id() != Model<float>::create(ctx, config, 8).weights_id());
  const Tensor<float> images = golden::tensor<float>(ctx, file, "in.train.image");
  const Tensor<float> scores = golden::tensor<float>(ctx, file, "in.train.score");
  const std::string before = model.weights_id();
  float first = 0, last = 0;
  for (int step = 0; step < 30; ++step) {
    Tape tape;
    Tensor<float> loss;
    {
      const TapeScope recording(ctx, &tape);
      for (const auto& p : model.parameters()) tape.watch(p.value);
      loss = l1_loss(ctx, model.training_forward(ctx, images, scores), scores.reshape({-1}));
    }
    tape.backward(ctx, loss);
    (step == 0 ? first : last) = loss.item();
    for (auto& p : model.parameters()) {  // plain gradient descent: the trainer is a later story
      const Tensor<float> g = tape.gradient(p.value);
      for (std::int64_t i = 0; g && i < g.numel(); ++i) p.value.mutable_data()[i] -= 0.02f * g.data()[i];
    }
    model.weights_changed();
  }
  CHECK(last < 0.8f * first);
  CHECK(model.weights_id() != before);
}

TEST_CASE("training in less memory gives the same gradients, dropout included") {
  const TensorFile file = golden::read("tiny");
  const ModelConfig config = ModelConfig::from_json(file.metadata.at("config"), "golden");
  struct Run {
    float loss;
    std::vector<std::vector<float>> gradients;
    std::size_t most;
  };
  const auto run = [&](bool recompute) {
    Context ctx = Context::cpu(1);
    ctx.set_random_state(3, 0);
    auto model = Model<float>::create(ctx, config, 7);
    const Tensor<float> images = golden::tensor<float>(ctx, file, "in.train.image");
    const Tensor<float> scores = golden::tensor<float>(ctx, file, "in.train.score");
    Pass<float> pass;
    pass.training = true;
    pass.recompute = recompute;
    Tape tape;
    Tensor<float> loss;
    {
      const TapeScope recording(ctx, &tape);
      for (const auto& p : model.parameters()) tape.watch(p.value);
      loss = l1_loss(ctx, model.leave_one_out(ctx, model.image_features(ctx, images, pass), scores, pass),
                     scores.reshape({-1}));
    }
    Run result{loss.item(), {}, tape.size()};
    tape.backward(ctx, loss);
    for (const auto& p : model.parameters()) {
      const Tensor<float> g = tape.gradient(p.value);
      result.gradients.emplace_back();
      if (g) result.gradients.back().assign(g.values().begin(), g.values().end());
    }
    return result;
  };
  const Run plain = run(false), less = run(true);
  CHECK(less.loss == plain.loss);
  CHECK(less.most < plain.most / 2);  // ops on the tape
  REQUIRE(less.gradients.size() == plain.gradients.size());
  for (std::size_t i = 0; i < plain.gradients.size(); ++i) {
    REQUIRE(less.gradients[i].size() == plain.gradients[i].size());
    // The same sums; those a tensor receives from several blocks may be added in another order.
    for (std::size_t j = 0; j < plain.gradients[i].size(); ++j)
      if (std::abs(less.gradients[i][j] - plain.gradients[i][j]) > 1e-6f + 1e-4f * std::abs(plain.gradients[i][j]))
        FAIL("parameter " << i << ", element " << j);
  }
}

TEST_CASE("weights left in their file cannot be trained by mistake") {
  Context ctx = Context::cpu(1);
  const TensorFile file = golden::read("tiny");
  auto model = Model<float>::from_tensors(ctx, golden::weights_of(file));
  CHECK_THROWS_WITH(model.training_forward(ctx, golden::tensor<float>(ctx, file, "in.train.image"),
                                           golden::tensor<float>(ctx, file, "in.train.score")),
                    ContainsSubstring("read-only"));
}

TEST_CASE("wrong weights files are refused by tensor") {
  Context ctx = Context::cpu(1);
  const auto load = [&](const TensorFile& file) { return Model<float>::from_tensors(ctx, file); };
  const auto index = [](const TensorFile& file, const std::string& name) {
    return static_cast<std::size_t>(file.find(name) - file.tensors.data());
  };
  CHECK_NOTHROW(load(tiny()));

  TensorFile missing = tiny();
  missing.tensors.erase(missing.tensors.begin() + static_cast<std::ptrdiff_t>(index(missing, "cnn.4.bias")));
  CHECK_THROWS_WITH(load(missing), ContainsSubstring("'cnn.4.bias' is missing"));

  TensorFile extra = tiny();
  NamedTensor more = extra.tensors[0];
  more.name = "zzz.weight";
  extra.tensors.push_back(more);
  CHECK_THROWS_WITH(load(extra), ContainsSubstring("zzz.weight"));

  TensorFile shaped = tiny();
  shaped.tensors[index(shaped, "norm.weight")].shape = Shape{3, 4};
  CHECK_THROWS_WITH(load(shaped), ContainsSubstring("'norm.weight' must have shape (12), got (3, 4)"));

  TensorFile integers = tiny();
  integers.tensors[index(integers, "norm.weight")].dtype = DType::i64;
  CHECK_THROWS_WITH(load(integers), ContainsSubstring("'norm.weight' must be of a floating-point type"));

  for (const float bad :
       {std::nanf(""), std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity()}) {
    TensorFile broken = tiny();
    NamedTensor& target = broken.tensors[index(broken, "MALs.1.channel_attention.c_k.weight")];
    std::vector<float> values(static_cast<std::size_t>(target.shape.numel()), 0.5f);
    values[4321] = bad;
    target.data = values.data();
    target.owner = nullptr;
    CHECK_THROWS_WITH(load(broken),
                      ContainsSubstring("'MALs.1.channel_attention.c_k.weight'") && ContainsSubstring("4321"));
  }

  TensorFile negative = tiny();
  NamedTensor& variance = negative.tensors[index(negative, "cnn.1.running_var")];
  std::vector<float> variances(static_cast<std::size_t>(variance.shape.numel()), 1.0f);
  variances[2] = -1e-3f;
  variance.data = variances.data();
  variance.owner = nullptr;
  CHECK_THROWS_WITH(load(negative), ContainsSubstring("'cnn.1.running_var'") && ContainsSubstring("negative"));

  TensorFile anonymous = tiny();
  anonymous.metadata.clear();
  CHECK_THROWS_WITH(load(anonymous), ContainsSubstring("no config"));

  TensorFile shipped = read_tensor_file(compact_path());
  shipped.metadata.clear();  // recognised by its names and shapes
  CHECK(load(shipped).config() == ModelConfig::compact());

  CHECK_THROWS_AS(Model<float>::load(ctx, "/nonexistent/weights.safetensors"), FileError);
}

TEST_CASE("a config is checked field by field") {
  const std::string good = ModelConfig::compact().to_json();
  CHECK(ModelConfig::from_json(good, "f") == ModelConfig::compact());
  CHECK(ModelConfig::from_json("{}", "f") == ModelConfig::base());
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string json = good;
    const auto at = json.find(from);
    REQUIRE(at != std::string::npos);
    return json.replace(at, from.size(), to);
  };
  const auto refused = [](const std::string& json, const std::string& why) {
    INFO(json);
    CHECK_THROWS_WITH(ModelConfig::from_json(json, "file.safetensors"),
                      ContainsSubstring("file.safetensors: config: ") && ContainsSubstring(why));
  };
  refused("[1]", "JSON object");
  refused("{", "JSON object");
  refused(with("\"vit_dim\":128", "\"vit_dim\":\"128\""), "vit_dim has the wrong type");
  refused(with("\"vit_dim\":128", "\"vit_dim\":130"), "multiple of vit_heads");
  refused(with("\"vit_dim\":128", "\"vit_dim\":99999999999"), "vit_dim must be");
  refused(with("\"vit_heads\":4", "\"vit_heads\":0"), "vit_heads");
  refused(with("\"image_size\":224", "\"image_size\":225"), "multiple of patch_size");
  refused(with("\"taps\":[1,3,5,7]", "\"taps\":[3,1]"), "taps must increase");
  refused(with("\"taps\":[1,3,5,7]", "\"taps\":[8]"), "taps");
  refused(with("\"cnn_pools\":[1,3]", "\"cnn_pools\":[1,2,1]"), "same length");
  refused(with("\"cnn_kernels\":[3,3]", "\"cnn_kernels\":[5,3]"), "cnn_pools must be 1..1, got 3");
  refused(with("\"stem\":\"residual\"", "\"stem\":\"magic\""), "stem must be");
  refused(with("\"drop\":0.1", "\"drop\":1.5"), "drop");
  refused(with("\"drop\":0.1", "\"dorp\":0.1"), "unknown field dorp");
}

TEST_CASE("one model serves contexts of several backends, before and after its products are merged") {
  Context ctx = Context::cpu(2);
  ModelConfig config = ModelConfig::compact();
  Model<float> model = Model<float>::create(ctx, config, 1);
  model.pack(ctx);
  std::vector<CpuBackend> backends = {CpuBackend::portable, cpu_backend(Precision::bf16)};
  const Tensor<float> image = ctx.full<float>(Shape{1, 3, config.image_size, config.image_size}, 0.25f);
  const Tensor<float> first = model.image_features(ctx, image);
  const auto near = [&](const Tensor<float>& x, double allowed) {
    double worst = 0, size = 0;
    for (std::int64_t i = 0; i < x.numel(); ++i) {
      const double error = std::abs(static_cast<double>(x.data()[i]) - first.data()[i]);
      if (!(error <= worst)) worst = error;
      size = std::max(size, std::abs(static_cast<double>(first.data()[i])));
    }
    return worst <= allowed * size;
  };
  for (const CpuBackend backend : backends) {
    Context other = Context::cpu(2, backend);
    CHECK(near(model.image_features(other, image), 0.03));  // bfloat16: see golden_test.cpp
  }
  for (int i = 0; i < 20; ++i) CHECK(near(model.image_features(ctx, image), 1e-4));
  for (const CpuBackend backend : backends) {
    Context other = Context::cpu(2, backend);
    for (int i = 0; i < 20; ++i) CHECK(near(model.image_features(other, image), 0.03));
    CHECK(near(model.image_features(ctx, image), 1e-4));
  }
}
