// The model in bfloat16 and in TF32 on the emulated device: near fp32, and not fp32 in disguise.
// Surprising choice: results must also be wrong enough: a precision that rounds nothing would pass every upper bound.
#include <string>
#include <vector>

#include <promptiqa/model.hpp>

#include "tested_device.hpp"
#include "golden.hpp"
#include "temporary_folder.hpp"

using namespace promptiqa_test;

namespace {

TensorFile weights(const std::string& name) { return golden::weights_of(golden::read(name)); }

std::vector<Image> pictures(int count) {
  std::vector<Image> images;
  for (int i = 0; i < count; ++i) {
    std::vector<std::uint8_t> pixels(20 * 17 * 3);
    for (std::size_t j = 0; j < pixels.size(); ++j)
      pixels[j] = static_cast<std::uint8_t>(j * static_cast<std::size_t>(5 + 2 * i) % 256);
    images.push_back(Image::from_vector(std::move(pixels), 20, 17, 3));
  }
  return images;
}

/// max |a - b| / max |b| of a device's features and the golden ones.
template <class T>
double features_off(Context& ctx, const std::string& name, const ModelOptions& options = {}) {
  const TensorFile file = golden::read(name);
  const auto model = Model<T>::from_tensors(ctx, golden::weights_of(file), options);
  Context cpu = Context::cpu(1);
  const Tensor<float> pixels = golden::tensor<float>(cpu, file, "in.query.image");
  const Tensor<T> input = detail::from_host<T>(ctx, pixels.shape(), pixels.values());
  return golden::deviation(detail::on_host(model.image_features(ctx, input)),
                           golden::tensor<float>(cpu, file, "out.query.img_feature"));
}

}  // namespace

// Every op rounds its result to 8 significant bits, half an ulp is 2^-9 = 0.2%. The deepest golden chain has some 60
// ops between pixels and features, whose errors add like a random walk: 8 * 0.2% = 1.5%; the maximum of a small
// tensor is some standard deviations out, and the last convolutions average a few pixels only: measured 3.7% to 4.4%,
// and 3.9% on the CPU, where only operands of products are rounded. 6% of a tensor's size would be a defect.
TEST_CASE("golden features in bfloat16 are near, and not fp32's", "[cuda]") {
  BarredDevice device;
  for (const char* name : {"tiny", "stem"}) {
    INFO("golden_" << name);
    const double off = features_off<bfloat16>(device.ctx, name);
    const double plain = features_off<bfloat16>(device.ctx, name, {false, false});
    INFO(off << " and without merged products " << plain);
    CHECK(off < 0.06);
    CHECK(off > 1e-3);
    CHECK(plain < 0.06);
    CHECK(plain != off);
  }
}

// A logit is a few products more; sigmoid's slope is at most 1/4. Scores of a prompt must move by less than 0.03.
TEST_CASE("bfloat16 serves prompts made in fp32, keeps norms and biases, and belongs to devices", "[cuda]") {
  BarredDevice device;
  const auto exact = Model<float>::from_tensors(device.ctx, weights("stem"));
  const auto rounded = Model<bfloat16>::from_tensors(device.ctx, weights("stem"));
  CHECK(rounded.weights_id() == exact.weights_id());
  const std::vector<Image> images = pictures(3);
  const std::vector<float> scores = {0.2f, 0.6f, 0.9f};
  const Prompt prompt = exact.encode_prompt(device.ctx, images, scores);
  const Prompt own = rounded.encode_prompt(device.ctx, images, scores);
  const auto expected = exact.score(device.ctx, images, prompt);
  const auto with_theirs = rounded.score(device.ctx, images, prompt), with_own = rounded.score(device.ctx, images, own);
  for (std::size_t i = 0; i < images.size(); ++i) {
    CHECK(std::abs(with_theirs[i].score - expected[i].score) < 0.03f);
    CHECK(std::abs(with_own[i].score - expected[i].score) < 0.03f);
  }
  CHECK(with_own[0].logit != expected[0].logit);

  // Matrices are rounded, once, when they are read; what stays in float is the file's to the last bit.
  std::size_t matrices = 0, wide = 0;
  const auto files = exact.state();
  const auto kept = rounded.state();
  REQUIRE(files.size() == kept.size());
  for (std::size_t i = 0; i < files.size(); ++i) {
    INFO(files[i].name);
    CHECK(kept[i].name == files[i].name);
    CHECK(kept[i].counter == files[i].counter);
    if (!files[i].value) continue;
    const std::vector<float> values = files[i].value.host();
    if (kept[i].wide) {
      CHECK(kept[i].wide.host() == values);
      ++wide;
    } else {
      const std::vector<bfloat16> elements = kept[i].value.host();
      REQUIRE(elements.size() == values.size());
      bool same = true;
      for (std::size_t k = 0; k < values.size(); ++k) same = same && elements[k].bits == to_bfloat16(values[k]).bits;
      CHECK(same);
      ++matrices;
    }
  }
  CHECK(matrices > 20);
  CHECK(wide > 20);
  const TemporaryFolder folder;
  exact.save(folder / "a", DType::bf16);
  rounded.save(folder / "b", DType::bf16);
  CHECK(read_file(folder / "a") == read_file(folder / "b"));

  Context cpu = Context::cpu(1);
  CHECK_THROWS_WITH(Model<bfloat16>::from_tensors(cpu, weights("stem")), ContainsSubstring("expected a device"));
}

// TF32 has 10 fraction bits, half an ulp is 2^-11 = 0.05%, and only operands of products are rounded: a quarter of what
// bfloat16 does, at most.
TEST_CASE("a context that allows TF32 rounds operands of products, another one does not", "[cuda]") {
  CudaOptions options;
  options.allow_tf32 = true;
  Context ctx = make_cuda_context(0, std::make_shared<ThreadPool>(1), options);
  const double off = features_off<float>(ctx, "stem");
  CHECK(off < 0.015);
  CHECK(off > 1e-4);
  Context exact = make_cuda_context(0, std::make_shared<ThreadPool>(1));
  CHECK(features_off<float>(exact, "stem") < 4 * golden::files[2].output_deviation);
}
